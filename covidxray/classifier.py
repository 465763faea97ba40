"""A saved model at work: images -> probabilities, warnings, the lungs, and where the heat is."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from covidxray import metrics
from covidxray.backbone import LAST, RECIPES
from covidxray.clues import Clue, look
from covidxray.errors import InputError
from covidxray.familiarity import unlike_an_xray
from covidxray.features import in_batches
from covidxray.gradcam import heat_map
from covidxray.images import read_image
from covidxray.lungs import POOLS, beside
from covidxray.masks import enlarge, is_pair_of_lungs
from covidxray.modelfile import load_model
from covidxray.pipeline import attempt, ordered_map


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        image: uint8 (224, 224, 3), RGB.
        probabilities: (C,) float64.
        scores: probability of the positive class from each pooling (`lungs.POOLS`): the model's
            own, and those of the heads that were trained on the others.
        label: the class it is called.
        distance: from the training images; 1 is the limit of what is usual among them.
        warning: why this may not be what the model was trained on; "" if nothing is noticed.
        lungs: bool (224, 224).
        found: whether they can be a pair of lungs.
        heat: float32 (224, 224), what speaks for `label` (`gradcam.heat_map`).
    """

    image: np.ndarray
    probabilities: np.ndarray
    scores: dict[str, float]
    label: int
    distance: float
    warning: str
    lungs: np.ndarray
    found: bool
    heat: np.ndarray


class Classifier:
    """A model file, loaded once; `about` tells its classes, positive class and threshold.

    Raises:
        InputError: the file cannot be read as a model of this program.
    """

    def __init__(self, path: Path):
        self.path = path
        self._head, self.about, self._beside = load_model(path)
        self._recipe = RECIPES[self.about.recipe]
        self.positive = self.about.classes.index(self.about.positive)
        try:
            seen = beside(self._head, self._recipe, self._beside.segmenter)
            maps = self._head.get_layer(LAST).output
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: its parts do not fit together; train it again") from error
        self._model = keras.Model(self._head.input, [self._head.output, *seen, maps])

    def judge(
        self, paths: Iterable[Path], clues: list[Clue] | None = None
    ) -> Iterator[Prediction | InputError]:
        """Predict files, in order and as they come; an error stands for one that cannot be read.

        Their `clues`, for the audit, are added to the list if there is one.
        """
        errors: deque[InputError | None] = deque()

        def read(path: Path) -> tuple[np.ndarray, Clue | None]:
            return (read_image(path), None) if clues is None else look(path)

        def images() -> Iterator[np.ndarray]:
            for found in ordered_map(attempt(read), paths):
                if isinstance(found, InputError):
                    errors.append(found)
                    continue
                image, clue = found
                errors.append(None)
                if clues is not None:
                    clues.append(clue)
                yield image

        for prediction in self.predict(images()):
            while error := errors.popleft():
                yield error
            yield prediction
        yield from errors

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Predict images, uint8 RGB (224, 224, 3), in order and as they come."""
        waiting: deque[np.ndarray] = deque()

        def watched() -> Iterator[np.ndarray]:
            for image in images:
                waiting.append(image)
                yield image

        for probabilities, *vectors, logits, maps in in_batches(self._model, watched()):
            pooled = dict(zip(POOLS, vectors, strict=True))
            yield self._judge(waiting.popleft(), probabilities, pooled, logits, maps)

    def _judge(self, image, probabilities, pooled, logits, maps) -> Prediction:
        row = probabilities.astype(np.float64)[None]
        label = int(metrics.decide(row, self.positive, self.about.threshold)[0])
        scores = {self.about.pool: float(row[0, self.positive])}
        for pool, heads in self._beside.rivals.items():
            scores[pool] = float(heads.predict(pooled[pool][None], 0)[0, self.positive])
        familiarity = self._beside.familiarity
        distance = float(familiarity.distance(pooled["whole"][None])[0]) / float(familiarity.limit)
        lungs = enlarge(logits)
        found = is_pair_of_lungs(lungs)
        warning = unlike_an_xray(image)
        if not warning and not found:
            warning = "no pair of lungs found"
        if not warning and distance > 1:
            warning = "unlike the training images"
        features = pooled[self.about.pool]
        within = logits if self.about.pool == "lungs" else None
        heat = heat_map(self._head, self._recipe.power, features, maps, label, within)
        return Prediction(image, row[0], scores, label, distance, warning, lungs, found, heat)

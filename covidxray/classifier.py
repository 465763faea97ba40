"""A saved model at work: images -> probabilities, warnings, the lungs, and where the heat is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import keras
import numpy as np

from covidxray import metrics
from covidxray.backbone import FEATURES, LAST, RECIPES
from covidxray.cache import Cache
from covidxray.clues import Clue, look
from covidxray.errors import InputError
from covidxray.familiarity import unlike_an_xray
from covidxray.features import BATCH, computed_by, forward, in_batches, key_of
from covidxray.features import CODE as FEATURES_CODE
from covidxray.files import sha256_of
from covidxray.gradcam import coarse_heat, spread
from covidxray.images import read_image
from covidxray.lungs import POOLS, beside
from covidxray.masks import enlarge, is_pair_of_lungs
from covidxray.modelfile import load_model
from covidxray.pipeline import attempt, batched, one_ahead, ordered_map

# What is kept of an image is computed by these.
CODE = (*FEATURES_CODE, "classifier.py", "gradcam.py", "metrics.py")


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
        heat: float32 (224, 224), what speaks for `label` (`gradcam.spread`).
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


@dataclass(frozen=True)
class Outputs:
    """What the network makes of one image, and what a cache keeps of it.

    Attributes:
        probabilities: (C,) float32.
        pooled: (3, 512) float32, of each pooling (`lungs.POOLS`).
        logits: (28, 28) float32, of the lungs.
        heat: float32, what speaks for the class that it is called (`gradcam.coarse_heat`).
    """

    probabilities: np.ndarray
    pooled: np.ndarray
    logits: np.ndarray
    heat: np.ndarray


@dataclass(frozen=True)
class _Read:
    """An image that was read; `outputs` if they are in the cache, under `key`."""

    image: np.ndarray
    clue: Clue | None
    key: str = ""
    outputs: Outputs | None = None


class Classifier:
    """A model file, loaded once; `about` tells its classes, positive class and threshold.

    What is computed of a file is kept in the `cache`, if there is one.

    Raises:
        InputError: the file cannot be read as a model of this program.
    """

    def __init__(self, path: Path, cache: Cache | None = None):
        self.path = path
        self._head, self.about, self._beside = load_model(path)
        self._recipe = RECIPES[self.about.recipe]
        self.positive = self.about.classes.index(self.about.positive)
        try:
            seen = beside(self._head, self._recipe, self._beside.segmenter)
            maps = self._head.get_layer(LAST).output
            blank, shape = np.zeros((1, FEATURES)), (1, len(self.about.classes))
            familiarity = self._beside.familiarity
            fits = familiarity.distance(blank).shape == (1,) and familiarity.limit.shape == ()
            rivals = self._beside.rivals.values()
            if not fits or any(heads.predict(blank, 0).shape != shape for heads in rivals):
                raise ValueError("arrays of other shapes")
        except Exception as error:  # Keras and NumPy raise several kinds for what does not fit
            raise InputError(f"{path}: its parts do not fit together; train it again") from error
        self._model = keras.Model(self._head.input, [self._head.output, *seen, maps])
        self._cache = cache
        if cache:
            self._depends = {**computed_by(*CODE), "model": sha256_of(path)}

    def judge(
        self, paths: Iterable[Path], clues: list[Clue] | None = None
    ) -> Iterator[Prediction | InputError]:
        """Predict files, in order and as they come; an error stands for one that cannot be read.

        Their `clues`, for the audit, are added to the list if there is one.
        """
        want_clue = clues is not None
        files = ordered_map(attempt(lambda path: self._read(path, want_clue)), paths)
        for batch, rows in one_ahead(self._pass_through, batched(files, BATCH)):
            if want_clue:
                clues += [one.clue for one in batch if isinstance(one, _Read)]
            computed = iter(rows)
            for one in batch:
                if isinstance(one, InputError):
                    yield one
                    continue
                outputs = one.outputs or self._outputs(*next(computed))
                if self._cache and not one.outputs:
                    self._cache.put(one.key, vars(outputs))
                yield self._judge(one.image, outputs)

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Predict images, uint8 RGB (224, 224, 3), in order and as they come."""
        pushed, here = tee(images)
        for image, row in zip(here, in_batches(self._model, pushed), strict=True):
            yield self._judge(image, self._outputs(*row))

    def _read(self, path: Path, want_clue: bool) -> _Read:
        image, clue = look(path) if want_clue else (read_image(path), None)
        if not self._cache:
            return _Read(image, clue)
        key = key_of({**self._depends, "image": sha256_of(path)})
        arrays = self._cache.get(key)
        return _Read(image, clue, key, Outputs(**arrays) if arrays else None)

    def _pass_through(self, batch: list[_Read | InputError]) -> tuple[list, list]:
        """The batch itself, and what the network makes of those that are not in the cache."""
        found = (one for one in batch if isinstance(one, _Read))
        return batch, forward(self._model, [one.image for one in found if not one.outputs])

    def _outputs(self, probabilities, *rest: np.ndarray) -> Outputs:
        *pooled, logits, maps = rest
        own, power = POOLS.index(self.about.pool), self._recipe.power
        within = logits if self.about.pool == "lungs" else None
        label = self._label(probabilities)
        heat = coarse_heat(self._head, power, pooled[own], maps, label, within)
        return Outputs(probabilities, np.stack(pooled), logits, heat)

    def _label(self, probabilities: np.ndarray) -> int:
        row = probabilities.astype(np.float64)[None]
        return int(metrics.decide(row, self.positive, self.about.threshold)[0])

    def _judge(self, image: np.ndarray, outputs: Outputs) -> Prediction:
        pooled = dict(zip(POOLS, outputs.pooled, strict=True))
        probabilities = outputs.probabilities.astype(np.float64)
        scores = {self.about.pool: float(probabilities[self.positive])}
        for pool, heads in self._beside.rivals.items():
            scores[pool] = float(heads.predict(pooled[pool][None], 0)[0, self.positive])
        familiarity = self._beside.familiarity
        distance = float(familiarity.distance(pooled["whole"][None])[0]) / float(familiarity.limit)
        lungs = enlarge(outputs.logits)
        found = is_pair_of_lungs(lungs)
        warning = unlike_an_xray(image)
        if not warning and not found:
            warning = "no pair of lungs found"
        if not warning and distance > 1:
            warning = "unlike the training images"
        heat = spread(outputs.heat, outputs.logits if self.about.pool == "lungs" else None)
        label = self._label(outputs.probabilities)
        return Prediction(
            image, probabilities, scores, label, distance, warning, lungs, found, heat
        )

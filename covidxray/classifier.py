"""A saved model at work: images -> probabilities, warnings, and where the heat is."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covidxray import metrics
from covidxray.backbone import RECIPES
from covidxray.familiarity import unlike_an_xray
from covidxray.features import in_batches
from covidxray.gradcam import heat_map, with_maps
from covidxray.modelfile import load_model


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        image: uint8 (224, 224, 3), RGB.
        probabilities: (C,) float64.
        label: the class it is called.
        distance: from the training images; 1 is the limit of what is usual among them.
        warning: why this may not be what the model was trained on; "" if nothing is noticed.
        heat: float32 (224, 224), what speaks for `label` (`gradcam.heat_map`).
    """

    image: np.ndarray
    probabilities: np.ndarray
    label: int
    distance: float
    warning: str
    heat: np.ndarray


class Classifier:
    """A model file, loaded once; `about` tells its classes, positive class and threshold.

    Raises:
        InputError: the file cannot be read as a model of this program.
    """

    def __init__(self, path: Path):
        model, self.about, self._familiarity = load_model(path)
        self._model = with_maps(model)
        self._power = RECIPES[self.about.recipe].power
        self.positive = self.about.classes.index(self.about.positive)

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Predict images, uint8 RGB (224, 224, 3), in order and as they come."""
        waiting: deque[np.ndarray] = deque()

        def watched() -> Iterator[np.ndarray]:
            for image in images:
                waiting.append(image)
                yield image

        for probabilities, features, maps in in_batches(self._model, watched()):
            row = probabilities.astype(np.float64)[None]
            label = int(metrics.decide(row, self.positive, self.about.threshold)[0])
            distance = float(self._familiarity.distance(features[None])[0])
            distance /= float(self._familiarity.limit)
            image = waiting.popleft()
            far = "unlike the training images" if distance > 1 else ""
            warning = unlike_an_xray(image) or far
            heat = heat_map(self._model, self._power, features, maps, label)
            yield Prediction(image, row[0], label, distance, warning, heat)

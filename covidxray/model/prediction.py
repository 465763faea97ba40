"""What a saved model predicts for one image: values only, without Keras."""

from dataclasses import dataclass, replace

import numpy as np

from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.lung_masks import enlarge


@dataclass(frozen=True)
class Prediction:
    """What the model predicts for one image.

    Attributes:
        image: uint8 (224, 224, 3), RGB.
        probabilities: float64 (C,).
        scores: region -> probability of the positive class by the head of that region.
        label: index of the predicted class; None where the model uses the lungs alone and no pair
            of lungs was found.
        distance: from the training images, in units of the outlier detector's limit.
        warning: why the image may be unlike the training images; "" if nothing was noticed.
        acquisition: scores of the baselines that know how images are taken (`acquisition`).
        logits: float32 (28, 28), above 0 in the lungs.
        lungs_found: whether `lungs` can be a pair of lungs.
        heat: float32 (224, 224), what raises the score of `label`, or of the class that is to be
            explained (`gradcam.enlarge_heat`).
        statistics: of the image; None if they were not requested.
    """

    image: np.ndarray
    probabilities: np.ndarray
    scores: dict[str, float]
    label: int | None
    distance: float
    warning: str
    acquisition: dict[str, float]
    logits: np.ndarray
    lungs_found: bool
    heat: np.ndarray
    statistics: ImageStatistics | None = None

    @property
    def lungs(self) -> np.ndarray:
        """Where the segmenter finds lungs, bool (224, 224)."""
        return enlarge(self.logits)

    def without_pictures(self) -> "Prediction":
        """The same without image and heat, which take 0.4 MB."""
        return replace(self, image=np.empty(0), heat=np.empty(0))

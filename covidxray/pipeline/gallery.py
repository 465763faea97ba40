"""Choose the cases that a report shows from a stream of predictions."""

import math
from typing import TYPE_CHECKING

import numpy as np

from covidxray.data.lung_masks import heat_in_centre, heat_in_mask
from covidxray.pipeline.runs import Case, Gallery

if TYPE_CHECKING:
    from covidxray.model.prediction import Prediction

CASES = 4  # the largest number of right cases, and of wrong ones


class GalleryCollector:
    """Collects a `Gallery` from predictions that come one by one; keeps no image that it drops."""

    def __init__(self, classes: tuple[str, ...], positive: int) -> None:
        """Collect for a model with these classes; `positive` is the label of the positive class."""
        self._classes, self._positive = classes, positive
        self._right: list[tuple[float, Case]] = []
        self._wrong: list[tuple[float, Case]] = []
        self._shares: list[tuple[float, float, float]] = []

    def add(self, name: str, truth: int, prediction: "Prediction") -> None:
        """Take one image into account: its name (class/file), its true label, its prediction.

        The prediction must have a class.
        """
        assert prediction.label is not None
        in_lungs = heat_in_mask(prediction.heat, prediction.lungs)
        if not math.isnan(in_lungs):
            in_centre = heat_in_centre(prediction.heat)
            self._shares.append((in_centre, in_lungs, float(prediction.lungs.mean())))
        case = Case(
            name=name,
            image=prediction.image,
            heat=prediction.heat,
            truth=self._classes[truth],
            predicted=self._classes[prediction.label],
            probability=float(prediction.probabilities[self._positive]),
            lungs=prediction.lungs,
            heat_in_lungs=in_lungs,
        )
        chosen = self._right if truth == prediction.label else self._wrong
        chosen.append((float(prediction.probabilities[prediction.label]), case))
        chosen.sort(key=lambda pair: -pair[0])  # of equals, the first stays first
        del chosen[CASES:]

    def gallery(self) -> Gallery:
        """The most confident cases so far, and the mean shares of all images that have heat."""
        cases = tuple(case for _, case in self._wrong + self._right)
        if not self._shares:
            return Gallery(cases, None, None, None)
        return Gallery(cases, *np.mean(self._shares, axis=0).tolist())

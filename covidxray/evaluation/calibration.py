"""Calibration of probabilities: Brier score, expected calibration error and calibration curve."""

from dataclasses import dataclass

import numpy as np

from covidxray.evaluation.intervals import Estimate, bootstrap

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Number, mean probability and proportion of positives of the images in one bin.

    The number is a fraction where repeats put an image into several bins.
    """

    count: float
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Brier score and expected calibration error, both 0 at best, and the calibration curve."""

    brier: Estimate
    error: Estimate
    bins: list[Bin]


def calibrate(
    y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Calibration:
    """Measure how well probabilities (N,) agree with how often they come true.

    Brier score: Monthly Weather Review 78 (1950) 1-3. Expected calibration error: Naeini, Cooper &
    Hauskrecht, AAAI (2015) 2901-2907; it is biased upwards in small samples, where chance alone
    moves the observed proportions. Arguments as in `intervals`; `rng` resamples the patients.
    """
    squares = np.square(y_score - y_true)

    def brier(weights: np.ndarray) -> float:
        return float(np.average(squares, weights=weights))

    def error(weights: np.ndarray) -> float:
        curve = calibration_curve(y_true, y_score, weights)
        return sum(b.count * abs(b.predicted - b.observed) for b in curve) / int(weights.sum())

    return Calibration(
        brier=bootstrap(brier, y_true, groups, rng),
        error=bootstrap(error, y_true, groups, rng),
        bins=calibration_curve(y_true, y_score),
    )


def calibration_curve(
    y_true: np.ndarray, y_score: np.ndarray, weights: np.ndarray | None = None
) -> list[Bin]:
    """The calibration curve: ten bins of equal width from 0 to 1. Arguments as in `intervals`.

    An image counts as one, or as often as its weight (N,) int64 says, divided among the bins of its
    R probabilities.
    """
    scores = np.atleast_2d(y_score)
    weights = np.ones(len(y_true), np.int64) if weights is None else weights
    index = np.minimum((scores * BINS).astype(int), BINS - 1)
    count, predicted, observed = (
        np.bincount(index.ravel(), (weights / len(scores) * values).ravel(), BINS)
        for values in (np.ones_like(scores), scores, np.broadcast_to(y_true, scores.shape))
    )
    columns = np.array([predicted, observed]) / np.where(count > 0, count, 1)
    count = count.astype(int) if len(scores) == 1 else count  # whole numbers in the JSON file
    return [Bin(*values) for values in zip(count.tolist(), *columns.tolist(), strict=True)]

"""Calibration of probabilities: do they come true where all classes are equally common?

Each class has the same weight here, however many images it has, because probabilities are stated
for equally common classes (`recalibration`). `y_true` is (N,) bool and `weights` is (N,) float64,
from `recalibration.class_weights`; `y_score` is (N,) or (R, N) float64, one row for each repeat.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logit

from covidxray.evaluation.intervals import Estimate, bootstrap, clopper_pearson
from covidxray.evaluation.recalibration import LEAST

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The images in one bin of the calibration curve.

    Attributes:
        count: number of images, a fraction where repeats put an image into several bins.
        predicted: mean probability.
        observed, low, high: share of positives, and its exact 95 % interval for `count` images.
    """

    count: float
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """How well probabilities agree with how often they come true.

    Attributes:
        brier: Brier score, Monthly Weather Review 78 (1950) 1-3; 0 at best.
        error: expected calibration error (Naeini, Cooper & Hauskrecht, AAAI 2015, 2901-2907); 0 at
            best, and biased upwards in small samples. It has no interval, because resampling adds
            the same bias again.
        line: slope and intercept of `calibration_line`; None where there are none.
        bins: the calibration curve.
    """

    brier: Estimate
    error: float
    line: tuple[float, float] | None
    bins: list[Bin]


def calibrate(
    y_true: np.ndarray,
    y_score: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
) -> Calibration:
    """Measure the calibration of probabilities (N,); `rng` resamples the patients, `groups`."""
    squares = np.square(y_score - y_true)

    def brier(counts: np.ndarray) -> float:
        return float(np.average(squares, weights=weights * counts))

    bins = calibration_curve(y_true, y_score, weights)
    mass = np.bincount(_bin_of(y_score), weights, BINS) / weights.sum()
    error = sum(m * abs(b.predicted - b.observed) for m, b in zip(mass, bins, strict=True))
    return Calibration(
        brier=bootstrap(brier, y_true, groups, rng),
        error=float(error),
        line=calibration_line(y_true, y_score, weights),
        bins=bins,
    )


def calibration_curve(y_true: np.ndarray, y_score: np.ndarray, weights: np.ndarray) -> list[Bin]:
    """The calibration curve: ten bins of equal width from 0 to 1.

    An image counts as one, divided among the bins of its R probabilities.
    """
    scores = np.atleast_2d(y_score)
    index = _bin_of(scores).ravel()

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(index, np.broadcast_to(values, scores.shape).ravel(), BINS) / len(scores)

    count, positives = total(np.ones(len(y_true))), total(y_true)
    mass = np.where(count > 0, total(weights), 1)
    predicted, observed = total(weights * scores) / mass, total(weights * y_true) / mass
    # How much more one positive image weighs than one negative.
    ratio = weights[y_true].mean() / weights[~y_true].mean() if 0 < y_true.mean() < 1 else 1.0
    bins = []
    for n, k, x, y in zip(count, positives, predicted.tolist(), observed.tolist(), strict=True):
        low, high = clopper_pearson(k, n) if n else (0.0, 1.0)
        low, high = (bound * ratio / (bound * ratio + 1 - bound) for bound in (low, high))
        whole = len(scores) == 1  # a whole number in the JSON file
        bins.append(Bin(int(n) if whole else float(n), x, y, float(low), float(high)))
    return bins


def _bin_of(y_score: np.ndarray) -> np.ndarray:
    return np.minimum((y_score * BINS).astype(int), BINS - 1)


def calibration_line(
    y_true: np.ndarray, y_score: np.ndarray, weights: np.ndarray
) -> tuple[float, float] | None:
    """Slope and intercept of a logistic regression of the truth on the log-odds of probabilities.

    They are 1 and 0 where the probabilities come true (Cox, Biometrika 45 (1958) 562-565). None
    with one class, and where the probabilities of the two do not overlap, which no finite slope
    fits.
    """
    scores = np.atleast_2d(y_score)
    if y_true.all() or not y_true.any() or scores[:, y_true].min() >= scores[:, ~y_true].max():
        return None
    odds = logit(np.clip(scores, LEAST, 1 - LEAST))
    sign, each = np.where(y_true, 1.0, -1.0), weights / weights.sum() / len(scores)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        losses = np.logaddexp(0, -sign * (line[0] * odds + line[1]))
        slopes = -each * sign * -np.expm1(-losses)
        return float((each * losses).sum()), np.array([(slopes * odds).sum(), slopes.sum()])

    slope, intercept = minimize(loss, [1.0, 0.0], jac=True, method="BFGS").x.tolist()
    return slope, intercept

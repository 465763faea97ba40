"""Classification with a false-positive rate that is chosen, from scores of normal reference images.

Split-conformal p-values (Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005).
They hold if reference and new images are exchangeable: of one site, machine and view.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv


def p_values(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(1 + number of reference scores at least as high) / (1 + n) of scores (N,): float64 (N,)."""
    ordered = np.sort(reference)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return (1 + at_least) / (1 + len(ordered))


def images_needed(rate: float) -> int:
    """The smallest number of reference images that allows a false-positive rate."""
    return math.ceil(1 / rate - 1 - 1e-9)


def allowed(n: int, rate: float) -> int:
    """How many of n reference scores plus one may be as high as a score that is positive."""
    return math.floor(rate * (n + 1) + 1e-9)


def threshold(reference: np.ndarray, rate: float) -> float:
    """The lowest score whose p-value is at most `rate`; there must be `images_needed`."""
    highest = np.sort(reference)[len(reference) - allowed(len(reference), rate)]
    return float(np.nextafter(highest, np.inf))


def rate_interval(n: int, rate: float) -> tuple[float, float]:
    """The middle 95 % of the false-positive rates that sets of n reference images give.

    The rate of one set follows a Beta distribution (Vovk, Machine Learning 92 (2013) 349-376).
    """
    k = allowed(n, rate)
    return tuple(betaincinv(k, n + 1 - k, (0.025, 0.975)).tolist())


@dataclass(frozen=True)
class Reference:
    """Scores (n,) of normal images of a site, one a patient, and the false-positive rate asked for;
    n is at least `images_needed`."""

    scores: np.ndarray
    rate: float

    @property
    def threshold(self) -> float:
        """The lowest score that is classified as positive."""
        return threshold(self.scores, self.rate)

    @property
    def rate_interval(self) -> tuple[float, float]:
        """See the function of that name."""
        return rate_interval(len(self.scores), self.rate)

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """See the function of that name."""
        return p_values(scores, self.scores)

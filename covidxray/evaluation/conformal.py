"""Classification with a false-positive rate that is chosen, from scores of normal reference images.

Split-conformal p-values (Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005).
They hold if reference and new images are exchangeable: of one site, machine and view.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv


def images_needed(rate: float) -> int:
    """The smallest number of reference images that allows a false-positive rate."""
    return math.ceil(1 / rate - 1 - 1e-9)


def allowed(n: int, rate: float) -> int:
    """How many of n reference scores plus one may be as high as a score that is positive."""
    return math.floor(rate * (n + 1) + 1e-9)


@dataclass(frozen=True)
class Reference:
    """Scores (n,) of normal images of a site, one a patient, and the false-positive rate asked for;
    n is at least `images_needed`."""

    scores: np.ndarray
    rate: float

    @property
    def threshold(self) -> float:
        """The lowest score whose p-value is at most `rate`, which is classified as positive."""
        n = len(self.scores)
        highest = np.sort(self.scores)[n - allowed(n, self.rate)]
        return float(np.nextafter(highest, np.inf))

    @property
    def rate_interval(self) -> tuple[float, float]:
        """The middle 95 % of the false-positive rates that sets of n reference images give.

        The rate of one set follows a Beta distribution (Vovk, Machine Learning 92 (2013) 349-376).
        """
        n, k = len(self.scores), allowed(len(self.scores), self.rate)
        return tuple(betaincinv(k, n + 1 - k, (0.025, 0.975)).tolist())

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """(1 + number of reference scores at least as high) / (1 + n) of scores (N,): float64."""
        n = len(self.scores)
        at_least = n - np.searchsorted(np.sort(self.scores), scores, side="left")
        return (1 + at_least) / (1 + n)

"""Proportions, areas under ROC curves and other statistics with their 95 % confidence intervals.

Every interval counts patients, because images of one patient depend on each other. Arguments with
the same name are the same everywhere: `y_true` is (N,) bool, True for the positive class, `y_score`
is (N,) or (R, N) float, one row for each of R repeats, and `groups` is (N,) int64, the patients.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv, expit, logit, ndtr, ndtri, stdtrit

Z = float(ndtri(0.975))
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `count` of `total` where the value is a proportion."""

    value: float
    low: float
    high: float
    count: int | None = None
    total: int | None = None

    @property
    def short(self) -> str:
        """The value and its interval with two digits."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def widened(self, low: float, high: float) -> "Estimate":
        """This value with the smallest interval that holds its own and another one."""
        return replace(self, low=min(self.low, low), high=max(self.high, high))

    def __str__(self) -> str:
        counts = "" if self.total is None else f"  {self.count}/{self.total}"
        return f"{self.value:.4f}{counts}  (95 % interval {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of `n` values."""

    median: float
    lower: float
    upper: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quartiles":
        """The quartiles of one or more values."""
        lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, lower, upper, len(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} (quartiles {self.lower:.2f} to {self.upper:.2f}; n = {self.n})"


def clopper_pearson(successes: float, trials: float) -> tuple[float, float]:
    """Exact 95 % interval of a proportion; the counts may be fractions.

    Clopper & Pearson, Biometrika 26 (1934) 404-413.
    """
    low = betaincinv(successes, trials - successes + 1, 0.025) if successes > 0 else 0.0
    high = betaincinv(successes + 1, trials - successes, 0.975) if successes < trials else 1.0
    return float(low), float(high)


def share(hits: np.ndarray, groups: np.ndarray) -> Estimate | None:
    """Proportion of true values in `hits`, (N,) bool, with its counts; None if N = 0.

    The interval is exact where each patient has one image, otherwise that of `clustered_share`.
    """
    n, k = len(hits), int(hits.sum())
    if n == 0:
        return None
    if len(np.unique(groups)) == n:
        return Estimate(k / n, *clopper_pearson(k, n), k, n)
    return replace(clustered_share(hits, groups), count=k, total=n)


def clustered_share(hits: np.ndarray, groups: np.ndarray) -> Estimate:
    """Mean of `hits`, (N,) from 0 to 1, with a 95 % interval for images clustered by patient.

    The interval is Clopper-Pearson's at the effective sample size, the number of independent images
    with the same variance, reduced by the degrees of freedom of that variance (Korn & Graubard,
    Survey Methodology 24 (1998) 193-201). It reaches at least as far as that of equal hits in all
    patients, which says nothing of the variance between them.
    """
    n, mean = len(hits), float(hits.mean())
    patients, member = np.unique(groups, return_inverse=True)
    g = len(patients)
    sums = np.bincount(member, hits - mean)
    variance = g / max(g - 1, 1) * float(np.square(sums).sum()) / n**2
    size = g
    if variance > 1e-12:
        freedom = (stdtrit(max(n - 1, 1), 0.975) / stdtrit(max(g - 1, 1), 0.975)) ** 2
        size = min(n, mean * (1 - mean) / variance * freedom)
    low, high = clopper_pearson(mean * size, size)
    return Estimate(mean, min(low, clopper_pearson(g, g)[0]), max(high, clopper_pearson(0, g)[1]))


def overlap_factor(area: float) -> float:
    """By what the variance of a cross-validated AUC exceeds that of as many independent scores.

    The training sets of the folds overlap, so that chance in the labels moves all scores together:
    most at an AUC of 0.5, where it doubles the variance, and little near 1. The form was fitted to
    simulations (benchmarks/coverage.py).
    """
    return 1 + (4 * area * (1 - area)) ** 2.5


def auc(
    y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray, cross_validated: bool = False
) -> Estimate:
    """Area under the ROC curve, averaged over repeats; `y_true` must hold both values.

    The area of a repeat pools the scores of its folds. Where they are `cross_validated`, the
    variance is multiplied by `overlap_factor`.

    The 95 % interval is DeLong's on the logit scale (DeLong, DeLong & Clarke-Pearson, Biometrics 44
    (1988) 837-845) with the variance of clustered data (Obuchowski, Biometrics 53 (1997) 567-578).
    It is made no narrower than Newcombe's at the number of patients, which has a width even where
    the area is 1 (Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5).
    """
    value, influence = _area(y_true, y_score, groups)
    p, q = len(np.unique(groups[y_true])), len(np.unique(groups[~y_true]))
    factor = overlap_factor(value) if cross_validated else 1.0
    estimate = Estimate(value, *newcombe(value, p, q, factor))
    if not 0 < value < 1:
        return estimate
    variance = factor * _covariance(influence, influence)
    step = Z * np.sqrt(variance) / (value * (1 - value))
    low, high = expit(logit(value) + step * np.array([-1, 1])).tolist()
    return estimate.widened(low, high)


def auc_difference(
    y_true: np.ndarray,
    y_score: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray,
    cross_validated: bool = False,
) -> Estimate:
    """AUC of `y_score` minus AUC of `other` on the same images, from -1 to 1; as for `auc`.

    The 95 % interval combines those of the two areas and the correlation of the patients'
    influences on them, so it has a width even where both areas are 1 (MOVER: Zou, Psychological
    Methods 12 (2007) 399-413).
    """
    first, second = (auc(y_true, s, groups, cross_validated) for s in (y_score, other))
    a, b = (_area(y_true, scores, groups)[1] for scores in (y_score, other))
    norm = np.sqrt(max(_covariance(a, a) * _covariance(b, b), 0.0))
    correlation = float(np.clip(_covariance(a, b) / norm, -1, 1)) if norm > 0 else 0.0

    def margin(x: float, y: float) -> float:
        return float(np.sqrt(max(x * x + y * y - 2 * correlation * x * y, 0)))

    value = first.value - second.value
    low = value - margin(first.value - first.low, second.high - second.value)
    high = value + margin(first.high - first.value, second.value - second.low)
    return Estimate(value, max(low, -1.0), min(high, 1.0))


def _area(y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and the influence on it of each patient's positive and negative images, (2, G);
    NaN where a patient has no such image."""
    from scipy.stats import rankdata  # slow to import, and prediction does not need it

    scores = np.atleast_2d(y_score)
    below = rankdata(scores, axis=1)  # number of opposite-class images below this one
    for side in (y_true, ~y_true):
        below[:, side] -= rankdata(scores[:, side], axis=1)
    # Fraction of opposite-class images ranked correctly against this one (DeLong placement value).
    placement = below.mean(axis=0) / np.where(y_true, (~y_true).sum(), y_true.sum())
    placement[~y_true] = 1 - placement[~y_true]
    value = float(placement[y_true].mean())
    member = np.unique(groups, return_inverse=True)[1]
    influence = np.full((2, int(member.max()) + 1), np.nan)
    for row, side in zip(influence, (y_true, ~y_true), strict=True):
        sums = np.bincount(member[side], (placement[side] - value) / side.sum(), len(row))
        found = np.unique(member[side])
        row[found] = sums[found]
    return value, influence


def _covariance(a: np.ndarray, b: np.ndarray) -> float:
    """Covariance of two areas from the influences on them (Obuchowski 1997): each class has a
    factor for its own number of patients, and patients with both classes one for all of them."""
    total = 0.0
    for side in (0, 1):
        products = (a[side] * b[side])[~np.isnan(a[side])]
        total += len(products) / max(len(products) - 1, 1) * products.sum()
    mixed = np.nansum(a[0] * b[1] + a[1] * b[0])
    return float(total + a.shape[1] / max(a.shape[1] - 1, 1) * mixed)


def newcombe(value: float, p: int, q: int, factor: float) -> tuple[float, float]:
    """The smallest and the largest true area that is 1.96 of its standard errors from `value`.

    `factor` multiplies the variance.
    """
    area = np.linspace(0, 1, 20001)
    n = (p + q) / 2 - 1
    variance = factor * area * (1 - area) / (p * q)
    variance *= 1 + n * (1 - area) / (2 - area) + n * area / (1 + area)
    inside = area[np.abs(area - value) <= Z * np.sqrt(variance) + 1e-12]
    return float(inside.min()), float(inside.max())


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    y_true: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    *,
    strata: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic with its 95 % percentile interval over resampled patients, expanded for few.

    `statistic` gets (N,) int64, how often each image was drawn. A resample without a class that the
    images have is left out, because the statistic may need both. With `strata` (N,) int64, the
    patients of each are resampled on their own, and there those with positive images only, with
    negative images only, and with both; a patient of several strata is in the first of them.
    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; the expansion by
    Student's t for the patients of the smaller class: Hesterberg, The American Statistician 69
    (2015) 371-386.
    """
    member = np.unique(groups, return_inverse=True)[1]
    values = []
    for drawn in _draw_patients(member, y_true, rng, strata, resamples):
        weights = drawn[member]
        truth = y_true[weights > 0]
        if truth.any() == y_true.any() and truth.all() == y_true.all():
            values.append(statistic(weights))
    value = statistic(np.ones(len(y_true), np.int64))
    sides = [len(np.unique(groups[side])) for side in (y_true, ~y_true) if side.any()]
    few = max(min(sides), 2)
    expanded = ndtr(-stdtrit(few - 1, 0.975) * np.sqrt(few / (few - 1)))
    ends = np.quantile(values, (expanded, 1 - expanded)).tolist()
    return Estimate(value, value, value).widened(*ends)


def _draw_patients(
    member: np.ndarray,
    y_true: np.ndarray,
    rng: np.random.Generator,
    strata: np.ndarray | None,
    times: int,
) -> Iterable[np.ndarray]:
    """How often each of P patients is drawn, (P,) int64, in each resample.

    The two ways of drawing use `rng` differently, so that a seed gives the same intervals as ever.
    """
    n = int(member.max()) + 1
    if strata is None:
        return (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(times))
    positive, negative = (np.bincount(member, y_true == side) > 0 for side in (True, False))
    first = np.full(n, strata.max())
    np.minimum.at(first, member, strata)
    drawn = np.zeros((times, n), np.int64)
    for kind in (positive & ~negative, positive & negative, ~positive & negative):
        for stratum in np.unique(first[kind]):
            cell = kind & (first == stratum)
            size = int(cell.sum())
            drawn[:, cell] = rng.multinomial(size, np.full(size, 1 / size), times)
    return drawn

"""Stratified AUC: only images that agree in site, view and device are compared with each other.

A model that tells hospitals, views or machines apart scores well on images that differ in them, and
no better than chance within a stratum.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals
from covidxray.evaluation.intervals import Estimate, overlap_factor
from covidxray.evaluation.permutation import exchange_patients

PROPERTIES = ("site", "view", "device")
PERMUTATIONS = 999
RESAMPLED = 1_000  # images of each class, at most, whose pairs the interval resamples


@dataclass(frozen=True)
class Strata:
    """The strata of N images.

    Attributes:
        known: those of `PROPERTIES` that were asked for and that some image has.
        number: (N,) int64, the stratum of each image.
        names: of the strata, such as "Hannover, PA".
    """

    known: tuple[str, ...]
    number: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[ManifestRow], properties: Sequence[str]) -> "Strata":
        """Images are in one stratum if each property is equal, or unknown, in both."""
        asked = [name for name in PROPERTIES if name in properties]
        known = tuple(name for name in asked if any(getattr(row, name) for row in rows))
        values = [tuple(getattr(row, name).strip() for name in known) for row in rows]
        names: dict[tuple[str, ...], str] = {}  # of a stratum, as its first image writes it
        for value in values:
            names.setdefault(tuple(map(str.lower, value)), ", ".join(filter(None, value)))
        numbers = {key: k for k, key in enumerate(names)}
        number = [numbers[tuple(map(str.lower, value))] for value in values]
        return cls(known, np.array(number, np.int64), tuple(names.values()))


@dataclass(frozen=True)
class StratifiedScores:
    """The stratified AUC of several scores of the same images; without areas if it is undefined.

    Attributes:
        known: as in `Strata`.
        pairs: of a positive and a negative image in one stratum.
        strata: how many strata have such pairs.
        largest: the stratum with most pairs, and `share`, its fraction of them.
        areas, p_values: by name of the score; p that it ranks the images of a stratum no better
            than chance.
    """

    known: tuple[str, ...]
    pairs: int
    strata: int
    largest: str
    share: float
    areas: dict[str, Estimate]
    p_values: dict[str, float]


def score_strata(
    is_positive: np.ndarray,
    scores: Mapping[str, np.ndarray],
    groups: np.ndarray,
    strata: Strata,
    rng: np.random.Generator,
) -> StratifiedScores:
    """Compare positive and negative images, (N,) bool, within their strata.

    Args:
        scores: name -> (N,) or (R, N), of the positive class; (R, N) is cross-validated. Images
            that a score does not have are NaN.
        groups: (N,) int64, patients.
    """
    pairs: Counter[str] = Counter()
    for k, name in enumerate(strata.names):
        inside = strata.number == k
        if product := int(is_positive[inside].sum()) * int((~is_positive[inside]).sum()):
            pairs[name] += product
    if not pairs or not strata.known:
        return StratifiedScores(strata.known, 0, 0, "", 0.0, {}, {})
    areas, p_values = {}, {}
    for name, score in scores.items():
        have = ~np.isnan(np.atleast_2d(score)).any(axis=0)
        parts = is_positive[have], score[..., have], groups[have], strata.number[have]
        if _has_pairs(parts[0], parts[3]).any():
            areas[name] = stratified_auc(*parts, rng)
            p_values[name] = permutation_p_value(*parts, rng)
    (largest, most), total = pairs.most_common(1)[0], sum(pairs.values())
    return StratifiedScores(strata.known, total, len(pairs), largest, most / total, areas, p_values)


def _has_pairs(is_positive: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Whether an image's stratum holds images of both classes, (N,) bool."""
    return np.isin(strata, strata[is_positive]) & np.isin(strata, strata[~is_positive])


def _mean_ranks(scores: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """The rank of each image within its stratum, averaged over repeats: (N,) float64."""
    ranks = np.empty(len(strata))
    for stratum in np.unique(strata):
        inside = strata == stratum
        ranks[inside] = rankdata(np.atleast_2d(scores)[:, inside], axis=1).mean(axis=0)
    return ranks


def _area(labels: np.ndarray, ranks: np.ndarray, strata: np.ndarray) -> float:
    """Fraction of the pairs within strata that are in order (Mann-Whitney in each stratum)."""
    positives = np.bincount(strata, labels)
    pairs = positives * np.bincount(strata, ~labels)
    above = np.bincount(strata, ranks * labels) - positives * (positives + 1) / 2
    total = pairs.sum()
    return float(above[pairs > 0].sum() / total) if total else 0.5


def stratified_auc(
    is_positive: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray,
    rng: np.random.Generator,
) -> Estimate:
    """AUC over the pairs within strata, which must exist; scores of (R, N) are cross-validated.

    The 95 % interval resamples patients within their stratum. It is made no narrower than
    Newcombe's at the number of patients, and of cross-validated scores wider by the overlap of the
    training sets (`intervals.overlap_factor`).
    """
    paired = _has_pairs(is_positive, strata)
    truth, groups = is_positive[paired], groups[paired]
    strata = np.unique(strata[paired], return_inverse=True)[1]
    value = _area(truth, _mean_ranks(scores[..., paired], strata), strata)
    factor = overlap_factor(value) if scores.ndim == 2 else 1.0
    resampled = _resample(truth, scores[..., paired], groups, strata, rng)
    spread = np.sqrt(factor) * (np.array([resampled.low, resampled.high]) - resampled.value)
    p, q = (len(np.unique(groups[truth == side])) for side in (True, False))
    estimate = Estimate(value, *intervals.newcombe(value, p, q, factor))
    return estimate.widened(*np.clip(value + spread, 0, 1).tolist())


def _resample(
    truth: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray,
    rng: np.random.Generator,
) -> Estimate:
    """The same with an interval of resampled patients, from at most `RESAMPLED` images a class."""
    drawn = np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(truth == side))[:RESAMPLED] for side in (True, False)]
        )
    )
    truth, groups, strata = truth[drawn], groups[drawn], strata[drawn]
    same = (strata[truth][:, None] == strata[~truth]).astype(np.float32)
    # How often a positive image ranks above a negative one of its stratum; a tie counts half.
    ordered = np.zeros_like(same)
    for row in np.atleast_2d(scores)[:, drawn]:
        ordered += same * (np.sign(row[truth][:, None] - row[~truth]) + 1) / 2
    ordered /= len(np.atleast_2d(scores))

    def area(weights: np.ndarray) -> float:
        p, q = weights[truth].astype(np.float32), weights[~truth].astype(np.float32)
        pairs = p @ same @ q
        return float(p @ ordered @ q / pairs) if pairs else 0.5

    return intervals.bootstrap(area, truth, groups, rng, strata=strata)


def permutation_p_value(
    is_positive: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """p that scores rank the images of a stratum no better than chance; arguments as above.

    Patients of a stratum exchange their labels. The scores stay as they are; of cross-validated
    ones, the areas by chance are spread by the overlap of the training sets.
    """
    ranks = _mean_ranks(scores, strata)
    spread = np.sqrt(overlap_factor(0.5)) if scores.ndim == 2 else 1.0
    found, members = _area(is_positive, ranks, strata) - 0.5, []
    for stratum in np.unique(strata):
        images = np.flatnonzero(strata == stratum)
        members.append((images, np.unique(groups[images], return_inverse=True)[1]))
    reached, labels = 0, is_positive.copy()
    for _ in range(PERMUTATIONS):
        for images, patients in members:
            labels[images] = is_positive[images[exchange_patients(patients, rng)]]
        reached += spread * (_area(labels, ranks, strata) - 0.5) >= found - 1e-12
    return (1 + reached) / (1 + PERMUTATIONS)

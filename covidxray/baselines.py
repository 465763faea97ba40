"""How well each kind of clue tells the label: logistic regression, cross-validated by patient.

- The regression is balanced, standardised and L2-penalised, as scikit-learn's is by default.
- Interval of an AUC: patients resampled within their class, 2000 times, over the out-of-fold
  scores; made no narrower than that of `metrics.auc`, which is not [1, 1] where all is perfect.
- p-value: patients exchange their labels and, as the folds are stratified, their folds, 299 times;
  the whole cross-validation is run each time. The best baseline of each permutation is what every
  baseline is held against (Westfall & Young 1993), so p is corrected for their number.

No Keras here.
"""

from collections import deque
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from covidxray import metrics, splits
from covidxray.metrics import Estimate
from covidxray.pipeline import ordered_map

FOLDS, REPEATS, PERMUTATIONS, RESAMPLES = 5, 3, 299, 2000
STEPS = 60  # of a fit: its ranks of the images are then those of many more
BATCH = 512  # fits at a time, to bound the memory
READS = {
    "frame": "the outer frame alone",
    "histogram": "the histogram of grey levels alone",
    "file": "the file's header alone (size, format, compression)",
    "thumbnail": "an 8 x 8 thumbnail alone",
    "manifest": "the manifest alone (source, view, sex, age)",
}


@dataclass(frozen=True)
class Baseline:
    """How well one kind of clue tells the label; `p_value` is corrected for all of them."""

    name: str
    auc: Estimate
    p_value: float

    @property
    def what(self) -> str:
        """What it reads, in words."""
        return READS[self.name]


def folds_for(y_true: np.ndarray, groups: np.ndarray) -> int:
    """Five folds, or as many as the smaller side has patients."""
    return min(FOLDS, *(len(np.unique(groups[y_true == side])) for side in (True, False)))


def fit_baselines(
    features: dict[str, np.ndarray],
    y_true: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> list[Baseline]:
    """Cross-validate and test each kind of clue, in the order given.

    Args:
        features: standardised, float32 (N, P) each.
        y_true: bool (N,), both values with two patients or more.
        groups: (N,) patients.
        rng: decides folds, permutations and resampling.
        permutations: how many decide the p-value.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    folds = folds_for(y_true, groups)
    fold = np.empty((REPEATS, len(groups)), np.int64)
    drawn = splits.repeated_folds(y_true.astype(int), groups, folds, REPEATS, rng)
    for k, (repeat, _, test) in enumerate(drawn):
        fold[repeat, test] = k % folds
    exchanges = [exchange_patients(groups, rng) for _ in range(permutations)]
    taken = np.array([np.arange(len(groups)), *exchanges])  # the first leaves all as it is
    labels = np.repeat(y_true[taken], REPEATS, axis=0)
    fold = fold[:, taken].swapaxes(0, 1).reshape(labels.shape)
    # These matrices are small: the linear algebra's own threads would only wait for each other, and
    # the fits run in threads themselves.
    with threadpool_limits(1, "blas"):
        scores = [_out_of_fold(x, labels, fold) for x in features.values()]
    areas = [_areas(labels, score).reshape(-1, REPEATS).mean(axis=1) for score in scores]
    luck = np.max(areas, axis=0)[1:]
    return [
        Baseline(
            name,
            _interval(y_true, score[:REPEATS], groups, rng),
            float(1 + (luck >= area[0]).sum()) / (1 + permutations),
        )
        for name, score, area in zip(features, scores, areas, strict=True)
    ]


def exchange_patients(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each patient another one's place: (N,) indices of the images whose labels are taken.

    One who has more images than the other takes the other's labels again from the first.
    """
    order = np.lexsort((rng.random(len(groups)), groups))
    sizes = np.bincount(groups)
    first = np.cumsum(sizes) - sizes
    rank = np.arange(len(groups)) - first[groups[order]]
    other = rng.permutation(len(sizes))[groups[order]]
    taken = np.empty_like(order)
    taken[order] = order[first[other] + rank % sizes[other]]
    return taken


def _out_of_fold(x: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scores (B, N) of B cross-validations of `labels` (B, N) on x (N, P)."""
    scores = np.empty(labels.shape, np.float32)

    def fit(part: tuple[slice, int]) -> None:
        rows, k = part
        test = fold[rows] == k
        weights = fit_logistic(x, labels[rows], ~test)
        scores[rows][test] = (weights[:, :-1] @ x.T + weights[:, -1:])[test]

    batches = [slice(start, start + BATCH) for start in range(0, len(labels), BATCH)]
    deque(ordered_map(fit, product(batches, range(fold.max() + 1))), maxlen=0)
    return scores


def fit_logistic(x: np.ndarray, labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """B balanced logistic regressions on the same features at once.

    Each minimises |w|^2 / 2 plus the log loss of its training images, in which both classes weigh
    the same (scikit-learn's C=1, class_weight="balanced"), by accelerated steps along a bound on
    its curvature (Boehning & Lindsay 1988).

    Args:
        x: float32 (N, P), standardised.
        labels: bool (B, N).
        train: bool (B, N), which images are trained on.

    Returns:
        float32 (B, P + 1), the intercept last.
    """
    x = np.column_stack([x, np.ones(len(x), np.float32)])
    penalty = np.ones(x.shape[1], np.float32)
    penalty[-1] = 0
    weight = np.zeros(labels.shape, np.float32)
    for side in (labels & train, ~labels & train):
        weight += side * (train.sum(axis=1) / 2 / np.maximum(side.sum(axis=1), 1))[:, None]
    bound = weight.max() / 4 * (x.T @ x).astype(np.float64) + np.diag(penalty)
    step = np.linalg.inv(bound).astype(np.float32)
    here = ahead = np.zeros((len(labels), x.shape[1]), np.float32)
    target = labels - np.float32(0.5)
    error = np.empty_like(target)  # written over and over: fresh memory would cost more than tanh
    for i in range(STEPS):
        np.matmul(ahead, x.T, out=error)
        error /= 2
        np.tanh(error, out=error)
        error /= 2
        error -= target
        error *= weight
        before, here = here, ahead - (error @ x + penalty * ahead) @ step
        ahead = here + i / (i + 3) * (here - before)
    return here


def _areas(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under each row's ROC curve, (B,); half where a permutation left one class only."""
    p, q = labels.sum(axis=1), (~labels).sum(axis=1)
    above = (rankdata(scores, axis=1) * labels).sum(axis=1) - p * (p + 1) / 2
    return np.where(p * q > 0, above / np.maximum(p * q, 1), 0.5)


def _interval(
    y_true: np.ndarray, scores: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Estimate:
    """AUC of (REPEATS, N) scores; see the module's text for its interval."""
    ordered = sum(
        (np.sign(row[y_true][:, None] - row[~y_true]) + 1) / (2 * len(scores)) for row in scores
    )
    draws = np.zeros((RESAMPLES, groups.max() + 1))
    has = [np.bincount(groups, weights=y_true == side) > 0 for side in (True, False)]
    for stratum in (has[0] & ~has[1], has[0] & has[1], ~has[0] & has[1]):
        if n := stratum.sum():
            draws[:, stratum] = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    p, q = draws[:, groups[y_true]], draws[:, groups[~y_true]]
    pairs = p.sum(axis=1) * q.sum(axis=1)
    resampled = (p @ ordered * q).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(resampled, (0.025, 0.975))
    area = metrics.auc(y_true, scores, groups)
    return Estimate(area.value, min(area.low, float(low)), max(area.high, float(high)))

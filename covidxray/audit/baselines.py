"""Baselines: logistic regressions that predict the label from one kind of image statistics.

The interval of an AUC resamples patients within their class, and is made no narrower than that of
`intervals.auc`. The p-value compares the AUC with the best one of all baselines on permuted labels,
so it is corrected for their number (Westfall & Young, Resampling-Based Multiple Testing, 1993).
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from covidxray.data.prefetch import ordered_map
from covidxray.evaluation import intervals, splits
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.permutation import exchange_patients

FOLDS, REPEATS, PERMUTATIONS, RESAMPLES = 5, 3, 299, 2000
STEPS = 60  # of one fit; more of them no longer change the order of its scores
BATCH = 512  # fits that run at a time, to bound the memory


@dataclass(frozen=True)
class Baseline:
    """How well one kind of image statistics predicts the label.

    Attributes:
        p_value: corrected for the number of baselines.
        critical: AUC that the best of all baselines reaches by chance in one of a hundred cases.
        scores: out-of-fold scores (REPEATS, N) float32.
    """

    name: str
    auc: Estimate
    p_value: float
    critical: float
    scores: np.ndarray = field(compare=False)


def folds_for(y_true: np.ndarray, groups: np.ndarray) -> int:
    """Number of folds: five, or fewer where a class has fewer patients."""
    return min(FOLDS, *(len(np.unique(groups[y_true == side])) for side in (True, False)))


def fit_baselines(
    features: dict[str, np.ndarray],
    y_true: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> list[Baseline]:
    """Cross-validate and test one baseline for each kind of image statistics.

    Args:
        features: name -> (N, P) float32, standardised.
        y_true: (N,) bool, both values with two patients or more.
        groups: (N,) int64 patients.
        rng: draws folds, permutations and resamples.
        permutations: number of permutations behind each p-value.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    folds = folds_for(y_true, groups)
    fold = np.empty((REPEATS, len(groups)), np.int64)
    drawn = splits.repeated_folds(y_true.astype(int), groups, folds, REPEATS, rng)
    for k, (repeat, _, test) in enumerate(drawn):
        fold[repeat, test] = k % folds
    # Row 0 is the data as it is. In the other rows, patients exchange their labels and, because the
    # folds are stratified by label, their folds as well.
    exchanged = [exchange_patients(groups, rng) for _ in range(permutations)]
    taken = np.array([np.arange(len(groups)), *exchanged])
    labels = np.repeat(y_true[taken], REPEATS, axis=0)
    tested_in = fold[:, taken].swapaxes(0, 1).reshape(labels.shape)
    # The fits run in threads of their own, so the threads of the linear algebra would only wait.
    with threadpool_limits(1, "blas"):
        scores = [_out_of_fold(x, labels, tested_in) for x in features.values()]
    areas = [_areas(labels, score).reshape(-1, REPEATS).mean(axis=1) for score in scores]
    best_by_chance = np.max(areas, axis=0)[1:]
    return [
        Baseline(
            name,
            _estimate_auc(y_true, score[:REPEATS], groups, rng),
            float(1 + (best_by_chance >= area[0]).sum()) / (1 + permutations),
            float(np.quantile(best_by_chance, 0.99)),
            score[:REPEATS],
        )
        for name, score, area in zip(features, scores, areas, strict=True)
    ]


def permutation_p_values(
    y_true: np.ndarray, scores: dict[str, np.ndarray], groups: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """p-values, corrected for their number, of the areas of given scores (N,) of a fixed model."""
    groups = np.unique(groups, return_inverse=True)[1]
    exchanged = [exchange_patients(groups, rng) for _ in range(PERMUTATIONS)]
    labels = y_true[np.array([np.arange(len(groups)), *exchanged])]
    areas = {
        name: _areas(labels, np.broadcast_to(score, labels.shape)) for name, score in scores.items()
    }
    best = np.max(list(areas.values()), axis=0)[1:]
    return {
        name: float(1 + (best >= area[0]).sum()) / (1 + PERMUTATIONS)
        for name, area in areas.items()
    }


def _out_of_fold(x: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scores (B, N) of B cross-validations: features (N, P), labels (B, N) and folds (B, N)."""
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
    """Fit B logistic regressions on the same features at once.

    Each minimises |w|^2 / 2 plus the log loss of its training images, weighted so that both classes
    count the same (scikit-learn's C=1, class_weight="balanced"). One upper bound of the second
    derivative holds for every w, so one inverted matrix serves all steps of all fits (Boehning &
    Lindsay, Annals of the Institute of Statistical Mathematics 40 (1988) 641-663). Nesterov's
    momentum accelerates the steps.

    Args:
        x: (N, P) float32, standardised.
        labels, train: (B, N) bool, the labels, and which images a fit is trained on.

    Returns:
        (B, P + 1) float32: the coefficients, and the intercept last.
    """
    x = np.column_stack([x, np.ones(len(x), np.float32)])
    penalty = np.ones(x.shape[1], np.float32)
    penalty[-1] = 0  # the intercept is not penalised
    balance = np.zeros(labels.shape, np.float32)
    for side in (labels & train, ~labels & train):
        balance += side * (train.sum(axis=1) / 2 / np.maximum(side.sum(axis=1), 1))[:, None]
    bound = balance.max() / 4 * (x.T @ x).astype(np.float64) + np.diag(penalty)
    step = np.linalg.inv(bound).astype(np.float32)
    weights = ahead = np.zeros((len(labels), x.shape[1]), np.float32)
    target = labels - np.float32(0.5)
    error = np.empty_like(target)  # reused, because fresh memory would cost more than the tanh
    for i in range(STEPS):
        # The predicted probability is 0.5 + tanh(x @ w / 2) / 2; `error` is it minus the label.
        np.matmul(ahead, x.T, out=error)
        error /= 2
        np.tanh(error, out=error)
        error /= 2
        error -= target
        error *= balance
        before, weights = weights, ahead - (error @ x + penalty * ahead) @ step
        ahead = weights + i / (i + 3) * (weights - before)
    return weights


def _areas(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row, (B,); 0.5 where a permutation left only one class."""
    p, q = labels.sum(axis=1), (~labels).sum(axis=1)
    above = (rankdata(scores, axis=1) * labels).sum(axis=1) - p * (p + 1) / 2
    return np.where(p * q > 0, above / np.maximum(p * q, 1), 0.5)


def _estimate_auc(
    y_true: np.ndarray, scores: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Estimate:
    """AUC of (REPEATS, N) scores, with the interval that the module's docstring describes."""
    # (P, Q): how often a positive image ranks above a negative one; a tie counts half.
    ordered = sum(
        (np.sign(row[y_true][:, None] - row[~y_true]) + 1) / (2 * len(scores)) for row in scores
    )

    def area(weights: np.ndarray) -> float:
        p, q = weights[y_true], weights[~y_true]
        return float(p @ ordered @ q / (p.sum() * q.sum()))

    one = np.zeros(len(groups), np.int64)
    resampled = intervals.bootstrap(area, y_true, groups, rng, strata=one, resamples=RESAMPLES)
    return intervals.auc(y_true, scores, groups, True).widened(resampled.low, resampled.high)

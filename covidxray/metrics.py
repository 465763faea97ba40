"""Sensitivity, specificity, accuracy and AUC, each with its 95 % interval. No Keras here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv, expit, logit, ndtri

Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `count` of `total` where it is a share."""

    value: float
    low: float
    high: float
    count: int | None = None
    total: int | None = None

    @property
    def short(self) -> str:
        """The value and its interval to two digits, for a sentence or a table."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def __str__(self) -> str:
        counts = "" if self.total is None else f"  {self.count}/{self.total}"
        return f"{self.value:.4f}{counts}  (95 % interval {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of `n` values."""

    median: float
    lower: float
    upper: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, lower, upper, len(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} (quartiles {self.lower:.2f} to {self.upper:.2f}; n = {self.n})"


def clopper_pearson(successes: float, trials: float) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper & Pearson 1934); counts need not be whole."""
    low = betaincinv(successes, trials - successes + 1, 0.025) if successes > 0 else 0.0
    high = betaincinv(successes + 1, trials - successes, 0.975) if successes < trials else 1.0
    return float(low), float(high)


def share(hits: np.ndarray, groups: np.ndarray) -> Estimate | None:
    """Share of true values in (N,) bool, of patients `groups` (N,), with its counts.

    The interval is exact if each patient has one image, else that of `clustered_share`. None if
    N = 0.
    """
    n, k = len(hits), int(hits.sum())
    if n == 0:
        return None
    if len(np.unique(groups)) == n:
        return Estimate(k / n, *clopper_pearson(k, n), k, n)
    return replace(clustered_share(hits, groups), count=k, total=n)


def clustered_share(hits: np.ndarray, groups: np.ndarray) -> Estimate:
    """Mean of `hits` with a 95 % interval that resists clustering by patient.

    Clopper-Pearson at the effective sample size of the patients (Korn & Graubard 1998), which is
    at most the number of images, and is the number of patients where all agree.

    Args:
        hits: (N,) float in [0, 1]: how often each image was right.
        groups: (N,) patients.
    """
    n, mean = len(hits), float(hits.mean())
    patients, member = np.unique(groups, return_inverse=True)
    g = len(patients)
    sums = np.bincount(member, hits - mean)
    variance = g / max(g - 1, 1) * float(np.square(sums).sum()) / n**2
    size = min(n, mean * (1 - mean) / variance) if variance > 1e-12 else g
    return Estimate(mean, *clopper_pearson(mean * size, size))


def auc(y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray) -> Estimate:
    """Area under the ROC curve, averaged over repeats, with a patient-clustered 95 % interval.

    DeLong's variance for clustered data (Obuchowski 1997) on the logit scale, made no narrower
    than Newcombe's interval (2006, method 5) at the number of patients: that one still says
    something where every pair is in order and a resampled AUC could only be 1.

    Args:
        y_true: (N,) bool, both values present.
        y_score: (N,) or (repeats, N) float.
        groups: (N,) patients.
    """
    value, influence = _area(y_true, y_score, groups)
    deviation = np.sqrt(np.square(influence).sum())
    p, q = len(np.unique(groups[y_true])), len(np.unique(groups[~y_true]))
    low, high = _newcombe(value, p, q)
    if 0 < value < 1:
        step = Z * deviation / (value * (1 - value))
        low = min(low, float(expit(logit(value) - step)))
        high = max(high, float(expit(logit(value) + step)))
    return Estimate(value, low, high)


def auc_difference(
    y_true: np.ndarray, y_score: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> Estimate:
    """AUC of `y_score` less that of `other` on the same images, from -1 to 1.

    The 95 % interval is put together from those of the two areas (`auc`) and the correlation of
    their patients' parts in them (MOVER; Zou 2007), so it has a width even where both are perfect.
    Arguments as for `auc`.
    """
    first, second = auc(y_true, y_score, groups), auc(y_true, other, groups)
    a, b = (_area(y_true, scores, groups)[1] for scores in (y_score, other))
    norm = np.sqrt(np.square(a).sum() * np.square(b).sum())
    correlation = float(a @ b / norm) if norm > 0 else 0.0

    def reach(x: float, y: float) -> float:
        return float(np.sqrt(max(x * x + y * y - 2 * correlation * x * y, 0)))

    value = first.value - second.value
    low = value - reach(first.value - first.low, second.high - second.value)
    high = value + reach(first.high - first.value, second.value - second.low)
    return Estimate(value, max(low, -1.0), min(high, 1.0))


def _area(y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and each patient's part in its error: their squares sum to the variance."""
    from scipy.stats import rankdata  # slow to import; prediction does without

    scores = np.atleast_2d(y_score)
    positive, negative = np.flatnonzero(y_true), np.flatnonzero(~y_true)
    placement = np.zeros(len(y_true))  # share of the other class that an image is in order with
    for row in scores:
        ranks = rankdata(row)
        within = np.empty(len(row))
        within[positive] = rankdata(row[positive])
        within[negative] = rankdata(row[negative])
        placement[positive] += (ranks - within)[positive] / len(negative)
        placement[negative] += 1 - (ranks - within)[negative] / len(positive)
    placement /= len(scores)
    value = float(placement[positive].mean())
    influence = (placement - value) / np.where(y_true, len(positive), len(negative))
    patients, member = np.unique(groups, return_inverse=True)
    g = len(patients)
    return value, np.sqrt(g / max(g - 1, 1)) * np.bincount(member, influence)


def _newcombe(value: float, p: int, q: int) -> tuple[float, float]:
    """The areas from which `value` is 1.96 standard errors away, those at the areas themselves."""
    area = np.linspace(0, 1, 20001)
    n = (p + q) / 2 - 1
    variance = area * (1 - area) / (p * q)
    variance *= 1 + n * (1 - area) / (2 - area) + n * area / (1 + area)
    inside = area[np.abs(area - value) <= Z * np.sqrt(variance) + 1e-12]
    return float(inside.min()), float(inside.max())


@dataclass(frozen=True)
class Evaluation:
    """What one classification of N images comes to; None where no image has that truth."""

    report: str
    confusion: np.ndarray
    accuracy: Estimate
    sensitivity: Estimate | None
    specificity: Estimate | None


def decide(probabilities: np.ndarray, positive: int, threshold: float) -> np.ndarray:
    """Labels (N,) int: the positive class where its probability reaches the threshold, else the
    likeliest of the others. With two classes and 0.5 that is the likeliest class."""
    others = probabilities.copy()
    others[:, positive] = -1
    return np.where(probabilities[:, positive] >= threshold, positive, others.argmax(axis=1))


def threshold_for(
    y_score: np.ndarray, y_true: np.ndarray, sensitivity: float
) -> tuple[float, float]:
    """The threshold that keeps a sensitivity over all repeats, and the specificity there.

    Args:
        y_score: (R, N), cross-validated.
        y_true: (N,) bool.
        sensitivity: the share of positives to be called, at least.
    """
    positives = np.sort(y_score[:, y_true], axis=None)
    threshold = positives[int(np.floor((1 - sensitivity) * len(positives) + 1e-9))]
    return float(threshold), float((y_score[:, ~y_true] < threshold).mean())


def evaluate(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    classes: Sequence[str],
    positive: int,
    groups: np.ndarray,
) -> Evaluation:
    """Score predicted labels against true ones, (N,) int, of patients `groups` (N,).

    Intervals are exact where each patient has one image, and count patients where not.
    """
    from sklearn.metrics import classification_report, confusion_matrix  # slow, as scipy.stats is

    labels = range(len(classes))
    is_positive = y_true == positive
    return Evaluation(
        report=classification_report(
            y_true, y_pred, labels=labels, target_names=classes, zero_division=0
        ),
        confusion=confusion_matrix(y_true, y_pred, labels=labels),
        accuracy=share(y_pred == y_true, groups),
        sensitivity=share((y_pred == positive)[is_positive], groups[is_positive]),
        specificity=share((y_pred != positive)[~is_positive], groups[~is_positive]),
    )


def format_evaluation(result: Evaluation, classes: Sequence[str]) -> str:
    """The tutorial's block: report, confusion matrix, acc, sensitivity, specificity."""
    width = max(max(len(name) for name in classes), 5) + 2
    header = " " * width + "".join(f"{name:>{width}}" for name in classes)
    rows = [
        f"{name:<{width}}" + "".join(f"{n:>{width}}" for n in counts)
        for name, counts in zip(classes, result.confusion, strict=True)
    ]
    matrix = "\n".join(["confusion matrix (row: truth, column: prediction)", header, *rows])
    return "\n".join(
        [
            result.report,
            matrix,
            f"acc: {result.accuracy}",
            f"sensitivity: {result.sensitivity or 'no positive image'}",
            f"specificity: {result.specificity or 'no negative image'}",
        ]
    )


@dataclass(frozen=True)
class CrossValidation:
    """Scores of repeated cross-validation; `fold_accuracy` holds each single fit's (R * K,)."""

    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    auc: Estimate
    fold_accuracy: np.ndarray


def score_repeats(
    y_true: np.ndarray,
    probabilities: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray,
    positive: int,
) -> CrossValidation:
    """Score out-of-fold predictions: means over the repeats, patient-clustered 95 % intervals.

    The intervals are those of the images at hand: repeats steady the mean, they add no patient.

    Args:
        y_true: (N,) int labels.
        probabilities: (R, N, C), each image's from the fit that did not see it.
        fold: (R, N) int, which fold of its repeat tested an image.
        groups: (N,) patients.
        positive: the positive class's label.
    """
    predicted = probabilities.argmax(axis=2)
    correct = predicted == y_true
    is_positive = y_true == positive
    called = (predicted == positive).mean(axis=0)
    single = [c[f == k].mean() for c, f in zip(correct, fold, strict=True) for k in np.unique(f)]
    return CrossValidation(
        accuracy=clustered_share(correct.mean(axis=0), groups),
        sensitivity=clustered_share(called[is_positive], groups[is_positive]),
        specificity=clustered_share(1 - called[~is_positive], groups[~is_positive]),
        auc=auc(is_positive, probabilities[:, :, positive], groups),
        fold_accuracy=np.array(single),
    )


def format_repeats(result: CrossValidation) -> str:
    """The cross-validated numbers, a line each."""
    single = result.fold_accuracy
    return "\n".join(
        [
            f"cv acc: {result.accuracy}",
            f"cv sensitivity: {result.sensitivity}",
            f"cv specificity: {result.specificity}",
            f"cv auc: {result.auc}",
            f"acc on single folds: from {single.min():.2f} to {single.max():.2f}",
        ]
    )

"""Sensitivity, specificity, accuracy and AUC, each with its 95 % interval.

Labels are (N,) int64, `groups` is (N,) int64, the patients, and `positive` is the label of the
positive class. Where a patient has several images, intervals count patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from covidxray.evaluation import intervals
from covidxray.evaluation.calibration import calibration_line
from covidxray.evaluation.intervals import Estimate, clustered_share, share
from covidxray.evaluation.recalibration import class_weights

FIXED_LEVELS = (0.90, 0.95)  # specificities at which the sensitivity is given, and the reverse


@dataclass(frozen=True)
class LabelledProbabilities:
    """Probabilities float64 (N, C), or (R, N, C) of R repeats, of labelled images.

    `threshold` is as for `decide`.
    """

    y_true: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    positive: int
    threshold: float | None
    classes: Sequence[str]

    @property
    def is_positive(self) -> np.ndarray:
        """Whether the true class is the positive one, (N,) bool."""
        return self.y_true == self.positive

    @property
    def y_score(self) -> np.ndarray:
        """Probability of the positive class, float64 (N,) or (R, N)."""
        return self.probabilities[..., self.positive]

    @property
    def y_pred(self) -> np.ndarray:
        """Predicted labels, int64 (N,) or (R, N); see `decide`."""
        return decide(self.probabilities, self.positive, self.threshold)

    @property
    def has_both(self) -> bool:
        """Whether there are positive and negative images, as an AUC needs."""
        return bool(self.is_positive.any() and not self.is_positive.all())

    def select(self, images: np.ndarray) -> "LabelledProbabilities":
        """The scores of a part of the images, given as (N,) bool or by indices."""
        return replace(
            self,
            y_true=self.y_true[images],
            probabilities=self.probabilities[images],
            groups=self.groups[images],
        )


def decide(probabilities: np.ndarray, positive: int, threshold: float | None) -> np.ndarray:
    """Predict labels (...) from probabilities (..., C).

    Without a threshold, an image is classified as the most probable class. With one, it is
    classified as positive if that probability reaches the threshold, and otherwise as the most
    probable other class.
    """
    if threshold is None:
        return probabilities.argmax(axis=-1)
    others = probabilities.copy()
    others[..., positive] = -1
    reached = probabilities[..., positive] >= threshold
    return np.where(reached, positive, others.argmax(axis=-1))


def threshold_for(
    y_score: np.ndarray, is_positive: np.ndarray, sensitivity: float
) -> tuple[float, float]:
    """A threshold that keeps a sensitivity over all repeats, and the specificity there.

    It has the highest specificity that is possible, and is the lowest score of a positive image
    with that specificity. `y_score` is (N,) or (R, N) float, and `is_positive` (N,) bool, which
    must hold both values.
    """
    positives = np.sort(y_score[..., is_positive], axis=None)
    highest = positives[int(np.floor((1 - sensitivity) * len(positives) + 1e-9))]
    negatives = y_score[..., ~is_positive]
    below = negatives[negatives < highest]
    threshold = positives[positives > below.max()][0] if len(below) else positives[0]
    return float(threshold), float((negatives < threshold).mean())


def predictive_values(
    sensitivity: Estimate | None, specificity: Estimate | None, prevalence: float | None
) -> dict[str, Estimate]:
    """PPV and NPV by name where a share `prevalence` of the patients is positive.

    Empty where one of the three is None. The ends of the intervals are those of both given
    intervals together, which makes them wider than 95 %.
    """
    if sensitivity is None or specificity is None or prevalence is None:
        return {}

    def value(hit: float, miss: float, share: float) -> float:
        found, wrong = hit * share, miss * (1 - share)
        return found / (found + wrong) if found + wrong else float("nan")

    def estimate(one: Estimate, other: Estimate, share: float) -> Estimate:
        ends = ((one.value, other.value), (one.low, other.low), (one.high, other.high))
        found, low, high = (value(hit, 1 - correct, share) for hit, correct in ends)
        return Estimate(found, low, high)

    return {
        f"PPV at prevalence {prevalence:g}": estimate(sensitivity, specificity, prevalence),
        f"NPV at prevalence {prevalence:g}": estimate(specificity, sensitivity, 1 - prevalence),
    }


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of predicted labels; None where no image has the class that is needed.

    `report` is scikit-learn's table of precision, recall and F1. `confusion` is (C, C) int64, a row
    for each true class and a column for each predicted class.
    """

    report: str
    confusion: np.ndarray
    accuracy: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None


def evaluate(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    classes: Sequence[str],
    positive: int,
    groups: np.ndarray,
) -> ClassificationScores:
    """Score predicted labels of images of C classes; the report has the classes that occur."""
    from sklearn.metrics import classification_report, confusion_matrix  # slow to import

    present = np.unique(y_true)
    names = [classes[label] for label in present]
    is_positive = y_true == positive
    return ClassificationScores(
        report=classification_report(
            y_true, y_pred, labels=present, target_names=names, zero_division=0
        ),
        confusion=confusion_matrix(y_true, y_pred, labels=range(len(classes))),
        accuracy=share(y_pred == y_true, groups),
        sensitivity=share((y_pred == positive)[is_positive], groups[is_positive]),
        specificity=share((y_pred != positive)[~is_positive], groups[~is_positive]),
    )


@dataclass(frozen=True)
class Subgroup:
    """Scores of `n` images with one value ("F") of a kind ("sex"); None if a class is missing."""

    kind: str
    value: str
    n: int
    positives: int
    sensitivity: Estimate | None
    specificity: Estimate | None
    auc: Estimate | None


@dataclass(frozen=True)
class CrossValidationScores:
    """Scores of R repeats of a K-fold cross-validation.

    Attributes:
        auc: of the scores before recalibration, as for the regions.
        fold_accuracy: of each single fit on its own test images, (R * K,) float64.
        calibration_line: slope and intercept (`calibration.calibration_line`).
        changed: mean number of images whose most probable class the recalibration changed.
    """

    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    auc: Estimate
    fold_accuracy: np.ndarray
    calibration_line: tuple[float, float] | None
    changed: float


def score_repeats(
    labelled: LabelledProbabilities, scores: np.ndarray, fold: np.ndarray
) -> CrossValidationScores:
    """Score out-of-fold predictions of N images by the means over R repeats.

    The intervals are those of N images: repeats make the mean steadier but add no patient.

    Args:
        labelled: probabilities (R, N, C), each image's from a fit that was not trained on it.
        scores: the same before recalibration.
        fold: (R, N) int64, the fit that tested each image.
    """
    y_pred, groups, is_positive = labelled.y_pred, labelled.groups, labelled.is_positive
    correct = y_pred == labelled.y_true
    predicted_positive = (y_pred == labelled.positive).mean(axis=0)
    single = [c[f == k].mean() for c, f in zip(correct, fold, strict=True) for k in np.unique(f)]
    weights = class_weights(labelled.y_true)
    changed = scores.argmax(axis=2) != labelled.probabilities.argmax(axis=2)
    return CrossValidationScores(
        accuracy=clustered_share(correct.mean(axis=0), groups),
        sensitivity=clustered_share(predicted_positive[is_positive], groups[is_positive]),
        specificity=clustered_share(1 - predicted_positive[~is_positive], groups[~is_positive]),
        auc=intervals.auc(is_positive, scores[:, :, labelled.positive], groups, True),
        fold_accuracy=np.array(single),
        calibration_line=calibration_line(is_positive, labelled.y_score, weights),
        changed=float(changed.sum(axis=1).mean()),
    )


def scores_at_fixed_levels(
    is_positive: np.ndarray, y_score: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Sensitivity at fixed specificities, and specificity at fixed sensitivities, by name.

    The intervals resample patients and are made no narrower than Clopper-Pearson's at the number of
    patients, because resampling alone gives a perfect score an interval without a width.
    `is_positive` is (N,) bool and holds both values; `y_score` is (N,) float.
    """
    result = {}
    for name, kept, truth, score in (
        ("sensitivity", "specificity", ~is_positive, -y_score),  # the same with the classes swapped
        ("specificity", "sensitivity", is_positive, y_score),
    ):
        n = len(np.unique(groups[~truth]))
        for level in FIXED_LEVELS:
            if len(np.unique(groups[truth])) * (1 - level) < 1 - 1e-9:
                continue  # too few patients to keep a level other than 1

            def statistic(weights, truth=truth, score=score, level=level):
                return threshold_for(score.repeat(weights), truth.repeat(weights), level)[1]

            estimate = intervals.bootstrap(statistic, truth, groups, rng)
            exact = intervals.clopper_pearson(estimate.value * n, n)
            result[f"{name} at {kept} {level:.2f}"] = estimate.widened(*exact)
    return result

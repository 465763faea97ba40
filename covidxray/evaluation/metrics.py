"""Sensitivity, specificity, accuracy and AUC, each with its 95 % interval.

Labels are (N,) int64, `groups` is (N,) int64, the patients, and `positive` is the label of the
positive class. Where a patient has several images, intervals count patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from covidxray.evaluation import intervals
from covidxray.evaluation.intervals import Estimate, clustered_share, share

FIXED_LEVELS = (0.90, 0.95)  # specificities at which the sensitivity is given, and the reverse


@dataclass(frozen=True)
class LabelledProbabilities:
    """Probabilities (N, C) float64 that a model with a `threshold` predicts for labelled images."""

    y_true: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    positive: int
    threshold: float
    classes: Sequence[str]

    @property
    def is_positive(self) -> np.ndarray:
        """Whether the true class is the positive one, (N,) bool."""
        return self.y_true == self.positive

    @property
    def y_score(self) -> np.ndarray:
        """Probability of the positive class, (N,) float64."""
        return self.probabilities[:, self.positive]

    @property
    def y_pred(self) -> np.ndarray:
        """Predicted labels, (N,) int64; see `decide`."""
        return decide(self.probabilities, self.positive, self.threshold)

    @property
    def has_both(self) -> bool:
        """Whether there are positive and negative images, as an AUC needs."""
        return bool(self.is_positive.any() and not self.is_positive.all())

    def select(self, images: np.ndarray) -> "LabelledProbabilities":
        """The scores of a part of the images, given as (N,) bool."""
        return replace(
            self,
            y_true=self.y_true[images],
            probabilities=self.probabilities[images],
            groups=self.groups[images],
        )


def decide(probabilities: np.ndarray, positive: int, threshold: float) -> np.ndarray:
    """Predict labels (N,) from probabilities (N, C).

    An image is classified as positive if that probability reaches the threshold, and otherwise as
    the most probable other class. With two classes and 0.5 this is the most probable class.
    """
    others = probabilities.copy()
    others[:, positive] = -1
    return np.where(probabilities[:, positive] >= threshold, positive, others.argmax(axis=1))


def threshold_for(
    y_score: np.ndarray, is_positive: np.ndarray, sensitivity: float
) -> tuple[float, float]:
    """The highest threshold that keeps a sensitivity over all repeats, and the specificity there.

    `y_score` is (N,) or (R, N) float, and `is_positive` (N,) bool, which must hold both values.
    """
    positives = np.sort(y_score[..., is_positive], axis=None)
    threshold = positives[int(np.floor((1 - sensitivity) * len(positives) + 1e-9))]
    return float(threshold), float((y_score[..., ~is_positive] < threshold).mean())


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
    """Score predicted labels of images of C classes."""
    from sklearn.metrics import classification_report, confusion_matrix  # slow to import

    labels = range(len(classes))
    is_positive = y_true == positive
    return ClassificationScores(
        report=classification_report(
            y_true, y_pred, labels=labels, target_names=classes, zero_division=0
        ),
        confusion=confusion_matrix(y_true, y_pred, labels=labels),
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

    `fold_accuracy` is the accuracy of each single fit on its own test images, (R * K,) float64.
    """

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
) -> CrossValidationScores:
    """Score out-of-fold predictions of N images by the means over R repeats.

    The intervals are those of N images: repeats make the mean steadier but add no patient.

    Args:
        probabilities: (R, N, C), each image's from the fit that was not trained on it.
        fold: (R, N) int64, the fit that tested each image.
    """
    predicted = probabilities.argmax(axis=2)
    correct = predicted == y_true
    is_positive = y_true == positive
    predicted_positive = (predicted == positive).mean(axis=0)
    single = [c[f == k].mean() for c, f in zip(correct, fold, strict=True) for k in np.unique(f)]
    return CrossValidationScores(
        accuracy=clustered_share(correct.mean(axis=0), groups),
        sensitivity=clustered_share(predicted_positive[is_positive], groups[is_positive]),
        specificity=clustered_share(1 - predicted_positive[~is_positive], groups[~is_positive]),
        auc=intervals.auc(is_positive, probabilities[:, :, positive], groups),
        fold_accuracy=np.array(single),
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

            def statistic(weights, truth=truth, score=score, level=level):
                return threshold_for(score.repeat(weights), truth.repeat(weights), level)[1]

            estimate = intervals.bootstrap(statistic, truth, groups, rng)
            exact = intervals.clopper_pearson(estimate.value * n, n)
            result[f"{name} at {kept} {level:.2f}"] = estimate.widened(*exact)
    return result

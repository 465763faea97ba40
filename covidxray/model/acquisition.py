"""Baselines that know how images were taken and nothing of a lung, for use on other images.

They are trained with a model, stored next to it, and scored where the model is evaluated: three on
the statistics of an image, and a classifier of views, AP (at the bedside) against PA, on the
model's own features. It is trained on the images of one class, so it has seen no other class.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from covidxray.data.image_statistics import ImageStatistics
from covidxray.model.head_solver import solve_heads
from covidxray.model.heads import Heads
from covidxray.model.labelled_features import LabelledFeatures

KINDS = ("thumbnail", "frame", "histogram")
VIEW = "view"
VIEW_IMAGES = 5  # of each view that the classifier of views needs


def fit_baselines(
    statistics: Sequence[ImageStatistics], is_positive: np.ndarray
) -> dict[str, Heads]:
    """Fit a logistic regression (penalty 1, classes of equal weight) to each kind of statistics.

    `is_positive` is (N,) bool; the second column of the heads' probabilities is of True.
    """
    fitted = {}
    for kind in KINDS:
        rows = np.array([getattr(one, kind) for one in statistics], np.float32)
        fitted[kind] = _fit(rows, is_positive.astype(np.int64), 1 / len(rows))
    return fitted


def fit_view_classifier(
    features: np.ndarray, views: Sequence[str], labels: np.ndarray, l2: float
) -> tuple[Heads, int, tuple[int, int]] | None:
    """Tell AP from PA by features (N, D) of the whole picture, within one class.

    The class is that with most images of its rarer view. Returns the head, whose second column is
    AP, the label of that class, and its numbers of images in AP and PA; None if no class has
    `VIEW_IMAGES` of each.
    """
    upper = [view.strip().upper() for view in views]
    bedside = np.array([view == "AP" or view.startswith("AP ") for view in upper], bool)
    upright = np.array([view == "PA" for view in upper], bool)
    counts = [
        (int((bedside & (labels == label)).sum()), int((upright & (labels == label)).sum()))
        for label in range(int(labels.max()) + 1)
    ]
    label = max(range(len(counts)), key=lambda k: min(counts[k]))
    if min(counts[label]) < VIEW_IMAGES:
        return None
    chosen = np.flatnonzero((bedside | upright) & (labels == label))
    return _fit(features[chosen], bedside[chosen].astype(np.int64), l2), label, counts[label]


def _fit(rows: np.ndarray, labels: np.ndarray, l2: float) -> Heads:
    data = LabelledFeatures(rows, np.arange(len(rows)), labels)
    return Heads(*solve_heads(data, [np.arange(len(rows))], l2))


def score_image(
    baselines: Mapping[str, Heads], features: np.ndarray, statistics: ImageStatistics | None
) -> dict[str, float]:
    """The score of each baseline for one image, from 0 to 1; without statistics, of views alone.

    `features` are (D,), of the whole picture.
    """
    scores = {}
    for name, heads in baselines.items():
        row = features if name == VIEW else getattr(statistics, name, None)
        if row is not None:
            scores[name] = float(heads.predict(row[None], 0)[0, 1])
    return scores

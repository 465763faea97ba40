"""Detect images that are unlike the training images of a model.

A distance in feature space finds images of another kind: CT slices, photographs, half of the
lateral views. It does not find images from another hospital (docs/measurements.md has the rates),
so the absence of a warning does not mean that a model works on an image.
"""

from dataclasses import dataclass, replace

import numpy as np

from covidxray.data.grey import is_blank

QUANTILE = 0.95  # of the cross-validated distances of the training images
COMPONENTS = 10
FOLDS = 5
COLOUR = 15.0  # mean difference between the largest and the smallest channel of a pixel, of 255


@dataclass(frozen=True)
class OutlierDetector:
    """Leading principal components of the logarithms of the training images' features.

    The distance of an image is the part of its features that the components do not explain. If the
    detector is fitted to other patients, 5 % of the training images have a distance above `limit`.
    """

    mean: np.ndarray  # (D,), of the logarithms
    scale: np.ndarray  # (D,)
    axes: np.ndarray  # (K, D), the components
    limit: np.ndarray  # ()

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Root mean square (n,) of what the components leave of features (n, D)."""
        x = (np.log1p(features) - self.mean) / self.scale
        rest = x - (x @ self.axes.T) @ self.axes
        return np.sqrt(np.square(rest).mean(axis=1))


def fit_outlier_detector(
    features: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> OutlierDetector:
    """Fit a detector to the features (N, D) of images of the patients `groups` (N,)."""
    patients, member = np.unique(groups, return_inverse=True)
    fold = rng.permutation(np.arange(len(patients)) % min(FOLDS, len(patients)))[member]
    distances = np.empty(len(features))
    for k in np.unique(fold):
        distances[fold == k] = _fit(features[fold != k]).distance(features[fold == k])
    whole = _fit(features)
    limit = np.asarray(np.quantile(distances, QUANTILE), np.float32)
    return replace(whole, limit=limit)


def _fit(features: np.ndarray) -> OutlierDetector:
    logs = np.log1p(features)
    mean, scale = logs.mean(axis=0), logs.std(axis=0)
    # A feature that is nearly 0 in all training images would dominate the distance of other images.
    scale = np.maximum(scale, max(0.1 * np.median(scale), 1e-6))
    logs -= mean
    logs /= scale
    # The factor R has the same principal axes, and no more rows than columns.
    axes = np.linalg.svd(np.linalg.qr(logs, mode="r"), full_matrices=False)[2]
    k = max(1, min(COMPONENTS, len(features) // 4))
    return OutlierDetector(mean, scale, axes[:k], np.asarray(np.inf, np.float32))


def non_radiograph_warning(pixels: np.ndarray) -> str:
    """Why an image, uint8 RGB (H, W, 3), cannot be a radiograph; "" if it can be one."""
    channels = pixels.astype(np.float32)
    if (channels.max(axis=2) - channels.min(axis=2)).mean() > COLOUR:
        return "not a chest X-ray: in colour"
    if is_blank(pixels):
        return "not a chest X-ray: blank"
    return ""

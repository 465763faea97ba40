"""Is a picture like those that a model was trained on? No Keras here.

A distance in feature space finds what is plainly something else: CT slices, photographs, half of
the lateral views. It does not find another hospital (docs/measurements.md has the rates), so
silence is no promise that a model works there.
"""

from dataclasses import dataclass, replace

import numpy as np

QUANTILE = 0.95  # of the training images' own distances, each measured by other patients
COMPONENTS = 10
FOLDS = 5
COLOUR = 15.0  # mean difference of a pixel's largest and smallest channel, of 255
CONTRAST = 5.0  # standard deviation of grey, of 255


@dataclass(frozen=True)
class Familiarity:
    """What training features have in common: `mean` and `scale` (D,) of their logarithms and their
    leading principal components, `axes` (K, D). The distance of an image is how much of it these
    do not account for; beyond `limit` are 5 % of training images when other patients measure them.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    limit: np.ndarray

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distances (n,) of features (n, D)."""
        x = (np.log1p(features) - self.mean) / self.scale
        rest = x - (x @ self.axes.T) @ self.axes
        return np.sqrt(np.square(rest).mean(axis=1))


def fit_familiarity(
    features: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Familiarity:
    """Learn what is usual from training features (N, D) of patients `groups` (N,)."""
    patients, member = np.unique(groups, return_inverse=True)
    fold = rng.permutation(np.arange(len(patients)) % min(FOLDS, len(patients)))[member]
    distances = np.empty(len(features))
    for k in np.unique(fold):
        distances[fold == k] = _fit(features[fold != k]).distance(features[fold == k])
    whole = _fit(features)
    limit = np.float32(np.quantile(distances, QUANTILE))
    return replace(whole, limit=limit)


def _fit(features: np.ndarray) -> Familiarity:
    logs = np.log1p(features)
    mean, scale = logs.mean(axis=0), logs.std(axis=0)
    # A feature that hardly fires in few images would outweigh all others wherever else it fires.
    scale = np.maximum(scale, max(0.1 * np.median(scale), 1e-6))
    axes = np.linalg.svd((logs - mean) / scale, full_matrices=False)[2]
    k = max(1, min(COMPONENTS, len(features) // 4))
    return Familiarity(mean, scale, axes[:k], np.float32(np.inf))


def unlike_an_xray(pixels: np.ndarray) -> str:
    """Why uint8 RGB pixels (H, W, 3) cannot be a radiograph, or "" if they can."""
    channels = pixels.astype(np.float32)
    if (channels.max(axis=2) - channels.min(axis=2)).mean() > COLOUR:
        return "not a chest X-ray: in colour"
    if channels.mean(axis=2).std() < CONTRAST:
        return "not a chest X-ray: blank"
    return ""

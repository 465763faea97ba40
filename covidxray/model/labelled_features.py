"""Features of labelled images, as rows that heads are trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covidxray.evaluation.recalibration import class_weights


@dataclass(frozen=True)
class LabelledFeatures:
    """Rows of features of N labelled images: first the unchanged images, then their augmentations.

    Attributes:
        values: (M, D) float32; the first N rows are of the images in order.
        image: (M,) int64, the image of each row.
        labels: (N,) int64, 0 to C - 1.
    """

    values: np.ndarray
    image: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, variants: np.ndarray, labels: np.ndarray) -> "LabelledFeatures":
        """From features (N, 1 + A, D) of images and A augmentations of each, unchanged first."""
        rows = variants.swapaxes(0, 1).reshape(-1, variants.shape[2])
        return cls(rows, np.tile(np.arange(len(labels)), variants.shape[1]), labels)

    @classmethod
    def concatenate(cls, parts: Sequence["LabelledFeatures"]) -> "LabelledFeatures":
        """The images of all parts, those of the first part first; N and A are the same in each."""
        n = len(parts[0].labels)
        variants = [part.values.reshape(-1, n, part.values.shape[1]) for part in parts]
        values = np.concatenate(variants, axis=1).reshape(-1, variants[0].shape[2])
        labels = np.concatenate([part.labels for part in parts])
        return cls(values, np.tile(np.arange(len(labels)), len(values) // len(labels)), labels)

    @property
    def classes(self) -> int:
        """The number of classes, C."""
        return int(self.labels.max()) + 1

    def rows_of(self, images: np.ndarray) -> np.ndarray:
        """Indices of all rows of some images: (m,) int64."""
        return np.flatnonzero(np.isin(self.image, images))

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """Weights of rows that sum to 1, with the same sum for each class: (m,) float64. Within it
        each image has the same sum, because all have as many rows."""
        return class_weights(self.labels[self.image[rows]])

    def standardisation(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (D,) float64 over all rows of some images."""
        return standardise(self.values[self.rows_of(images)].astype(np.float64))


def standardise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardise the columns of `x`, float64 (m, D), in place, and return the mean and the
    standard deviation (D,) that they had."""
    mean = x.mean(axis=0)
    x -= mean
    deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
    # A constant feature carries no information; a scale of 1 keeps it as it is.
    scale = np.where(deviation > 1e-6, deviation, 1.0)
    x /= scale
    return mean, scale

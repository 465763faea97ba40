"""Compute features of images: one forward pass of VGG16 for each image and each augmentation.

A forward pass pools the same maps over three regions: the whole picture, the lungs, and everything
outside the lungs (`lungs.pool_regions`).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from tqdm import tqdm

from covidxray.data import SIZE
from covidxray.data.image_file import ImageFile
from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.images import read_with_statistics
from covidxray.data.prefetch import attempt, ordered_map
from covidxray.errors import InputError
from covidxray.model.arrays import Weights
from covidxray.model.cache import Cache
from covidxray.model.feature_table import Features, ImageFeatures
from covidxray.model.lungs import Segmenter
from covidxray.model.recipes import Recipe
from covidxray.model.vgg16 import BATCH, forward

# Part of every cache key. Raise it whenever the code changes what is computed from an image:
# decoding, statistics, network, pooling, heat maps. tests/test_features_version.py checks it.
FEATURES_VERSION = 3
LIBRARIES = ("keras", "numpy", "opencv-python", "pillow", "pydicom", "imagecodecs", "imagehash")
KEPT = 200  # images: of a larger data set no pixels are kept (these take 30 MB)
logger = logging.getLogger(__name__)


def cache_key(parts: dict[str, Any]) -> str:
    """Key of a cache entry: a hash of everything that the entry depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, Any]:
    """`FEATURES_VERSION` and the versions of the libraries that features depend on."""
    libraries = {name: version(name) for name in (*LIBRARIES, keras.backend.backend())}
    return {"features": FEATURES_VERSION, "versions": libraries}


def depends_on(
    weights: Weights, recipe: Recipe, segmenter: Segmenter, precision: str
) -> dict[str, Any]:
    """Everything that features depend on except for the image and its rotations."""
    return {
        **versions(),
        "weights": weights.sha256,
        "recipe": [recipe.block, recipe.pooled, recipe.power],
        "segmenter": segmenter.sha256,
        "precision": precision,
        "size": SIZE,
    }


@dataclass(frozen=True)
class CachedFeatures:
    """The features of N images in a cache."""

    cache: Cache
    digests: list[str]  # N SHA-256 digests of the files
    depends: dict[str, Any]  # everything else that the features depend on (`depends_on`)

    def key(self, i: int, angles: np.ndarray) -> str:
        """Key of the entry of image `i`, rotated by `angles` (A,) degrees."""
        parts = {**self.depends, "image": self.digests[i], "angles": angles.tolist()}
        return cache_key(parts)

    def get(self, i: int, angles: np.ndarray) -> ImageFeatures | None:
        """The stored features of image `i`; None if there are none."""
        arrays = self.cache.get(self.key(i, angles))
        if arrays is None:
            return None
        return ImageFeatures(arrays.pop("regions"), arrays.pop("lungs"), ImageStatistics.of(arrays))

    def put(self, i: int, angles: np.ndarray, features: ImageFeatures) -> None:
        """Store the features of image `i`."""
        arrays = {"regions": features.regions, "lungs": features.lungs}
        self.cache.put(self.key(i, angles), {**arrays, **features.statistics.arrays()})


def draw_angles(
    n: int, augmentations: int, rotation: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw angles in degrees, up to `rotation` to either side: float64 (n, augmentations)."""
    return rng.uniform(-rotation, rotation, size=(n, augmentations))


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate an image (H, W, 3) about its centre; pixels of the edge continue beyond it."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def extract(
    build: Callable[[], keras.Model],
    paths: Sequence[Path],
    angles: np.ndarray,
    cached: CachedFeatures | None = None,
) -> Features:
    """Features of N files, unchanged and rotated by `angles` (N, A) degrees (`draw_angles`).

    Args:
        build: gives what `lungs.build_region_model` does; not called if all features are cached.
        cached: features that need not be computed again; the computed ones are added.
    """
    return Features.of(_extract_each(build, paths, angles, cached), paths)


def _extract_each(
    build: Callable[[], keras.Model],
    paths: Sequence[Path],
    angles: np.ndarray,
    cached: CachedFeatures | None,
) -> Iterator[tuple[int, ImageFeatures | InputError]]:
    """Index and features of each image: first of those in the cache, then of the others."""
    missing = []
    for i in range(len(paths)):
        if cached and (stored := cached.get(i, angles[i])):
            yield i, stored
        else:
            missing.append(i)
    if len(missing) < len(paths):
        logger.info("%d of %d images are in the cache", len(paths) - len(missing), len(paths))
    if not missing:
        return
    computed = compute_features(build(), [paths[i] for i in missing], angles[missing])
    for i, features in zip(missing, computed, strict=True):
        if cached and isinstance(features, ImageFeatures):
            cached.put(i, angles[i], features)
        yield i, features


@dataclass(frozen=True)
class _DecodedImage:
    pixels: list[np.ndarray]  # the image and its augmentations, uint8 RGB (224, 224, 3)
    statistics: ImageStatistics


def _decode(item: tuple[Path | ImageFile, np.ndarray]) -> _DecodedImage:
    path, angles = item
    pixels, statistics = read_with_statistics(path)
    return _DecodedImage([pixels, *(rotate(pixels, angle) for angle in angles)], statistics)


def compute_features(
    model: keras.Model,
    paths: Iterable[Path | ImageFile],
    angles: np.ndarray,
    quiet: bool = False,
) -> Iterator[ImageFeatures | InputError]:
    """Compute the features of N files, in order; an error stands in place of an unreadable file.

    Args:
        model: from `lungs.build_region_model`.
        paths: N files, which may have been read already.
        angles: (N, A) rotations in degrees.
        quiet: show no progress bar.
    """
    decoded = ordered_map(attempt(_decode), zip(paths, angles, strict=True))
    size = max(1, BATCH // (1 + angles.shape[1]))
    results = forward(model, decoded, lambda image: getattr(image, "pixels", []), size)
    bar = tqdm(results, total=len(angles), desc="VGG16", unit="image", disable=quiet)
    for image, outputs in bar:
        if isinstance(image, InputError):
            yield image
        else:
            *regions, lungs = outputs
            pixels = image.pixels[0] if len(angles) <= KEPT else None
            yield ImageFeatures(np.stack(regions), lungs[0], image.statistics, pixels)

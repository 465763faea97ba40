"""Compute features of images: one forward pass of VGG16 for each image and each augmentation.

A forward pass pools the same maps over three regions: the whole picture, the lungs, and everything
outside the lungs (`lungs.pool_regions`).
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.lungs import GRID, REGIONS, Segmenter, find_lungs, pool_regions
from covidxray.model.recipes import Recipe
from covidxray.model.vgg16 import BATCH, FEATURES, forward, trace

# Part of every cache key. Raise it whenever the code changes what is computed from an image:
# decoding, statistics, network, pooling, heat maps. tests/test_features_version.py checks it.
FEATURES_VERSION = 3
LIBRARIES = ("keras", "numpy", "opencv-python", "pillow", "pydicom", "imagecodecs", "imagehash")
KEPT = 200  # images of a data set that may have so many for their pixels to be kept (30 MB)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFeatures:
    """Everything that is computed from one image with A augmentations.

    `pixels`, uint8 RGB (224, 224, 3), are those of the unchanged image, or None if they are not
    kept.
    """

    regions: np.ndarray  # float32 (3, 1 + A, 512), by `lungs.REGIONS`; of the unchanged image first
    lungs: np.ndarray  # float32 (28, 28), logits of the lungs in the unchanged image
    statistics: ImageStatistics  # of the unchanged image
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class Features:
    """Everything that is computed from N images with A augmentations each.

    `unread` are the errors of requested images that could not be read, by their index; these images
    are not among the N. `pixels` has the pixels that were kept, by path.
    """

    regions: dict[str, np.ndarray]  # region -> float32 (M, 512), by `LabelledFeatures.values`
    lungs: np.ndarray  # float32 (N, 28, 28), logits of the lungs in the unchanged image
    image_statistics: list[ImageStatistics]  # of the unchanged image
    unread: dict[int, InputError] = field(default_factory=dict)
    pixels: dict[Path, np.ndarray] = field(default_factory=dict)

    def labelled(self, labels: np.ndarray) -> dict[str, LabelledFeatures]:
        """Each region's features, with the labels (N,) int64 of the images."""
        n = len(self.image_statistics)
        image = np.arange(len(next(iter(self.regions.values())))) % n
        return {name: LabelledFeatures(rows, image, labels) for name, rows in self.regions.items()}

    def select(self, images: Sequence[int] | np.ndarray) -> "Features":
        """The features of images by index, with those of their augmentations."""
        n = len(self.image_statistics)

        def rows(table: np.ndarray) -> np.ndarray:
            return table.reshape(-1, n, FEATURES)[:, images].reshape(-1, FEATURES)

        regions = {name: rows(table) for name, table in self.regions.items()}
        statistics = [self.image_statistics[i] for i in images]
        return Features(regions, self.lungs[images], statistics, pixels=self.pixels)

    @property
    def hashes(self) -> np.ndarray:
        """Perceptual hashes, uint64 (N, 4)."""
        return np.stack([statistics.hash for statistics in self.image_statistics])

    @classmethod
    def of(cls, found: Sequence[ImageFeatures | InputError]) -> "Features":
        """Combine the features of single images, each with the same number of augmentations.

        An error stands in place of an image that could not be read.
        """
        images = [image for image in found if isinstance(image, ImageFeatures)]
        unread = {i: error for i, error in enumerate(found) if isinstance(error, InputError)}
        variants = images[0].regions.shape[1] if images else 1
        regions = np.empty((len(REGIONS), variants, len(images), FEATURES), np.float32)
        lungs = np.empty((len(images), GRID, GRID), np.float32)
        for i, image in enumerate(images):
            regions[:, :, i], lungs[i] = image.regions, image.lungs
        rows = regions.reshape(len(REGIONS), -1, FEATURES)
        statistics = [image.statistics for image in images]
        return cls(dict(zip(REGIONS, rows, strict=True)), lungs, statistics, unread)


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
    backbone: keras.Model,
    recipe: Recipe,
    segmenter: Segmenter,
    paths: Sequence[Path],
    angles: np.ndarray,
    cached: CachedFeatures | None = None,
) -> Features:
    """Features of N files, unchanged and rotated by `angles` (N, A) degrees (`draw_angles`).

    Args:
        backbone: VGG16 of this recipe (`vgg16.build_backbone`).
        recipe, segmenter: how and where its maps are pooled.
        cached: features that need not be computed again; the computed ones are added.
    """
    found: dict[int, ImageFeatures | InputError] = {}
    if cached:
        stored = ((i, cached.get(i, angles[i])) for i in range(len(paths)))
        found = {i: features for i, features in stored if features}
    missing = [i for i in range(len(paths)) if i not in found]
    if len(missing) < len(paths):
        logger.info("%d of %d images are in the cache", len(paths) - len(missing), len(paths))
    if missing:
        model = build_region_model(backbone, recipe, segmenter)
        computed = compute_features(model, [paths[i] for i in missing], angles[missing])
        for i, features in zip(missing, computed, strict=True):
            found[i] = features
            if cached and isinstance(features, ImageFeatures):
                cached.put(i, angles[i], features)
    kept = {paths[i]: getattr(features, "pixels", None) for i, features in found.items()}
    pixels = {path: image for path, image in kept.items() if image is not None}
    return replace(Features.of([found[i] for i in range(len(paths))]), pixels=pixels)


def build_region_model(backbone: keras.Model, recipe: Recipe, segmenter: Segmenter) -> keras.Model:
    """Images (n, 224, 224, 3) -> features (n, 512) of each region, logits of lungs (n, 28, 28)."""
    logits = find_lungs(backbone, segmenter)
    regions = pool_regions(backbone, recipe, logits)
    return trace(keras.Model(backbone.input, [*regions.values(), logits]))


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
        model: from `build_region_model`.
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

"""The features of a data set: values only, in memory or, of many images, in a mapped file."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.lung_masks import find_pairs
from covidxray.errors import InputError
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import FEATURES, REGIONS

MAPPED = 20_000  # images from which on features lie in a temporary file that is mapped to memory


@dataclass(frozen=True)
class ImageFeatures:
    """Everything that is computed from one image with A augmentations.

    `pixels`, uint8 RGB (224, 224, 3), are those of the unchanged image, or None if they are not
    kept.
    """

    regions: (
        np.ndarray
    )  # float32 (3, 1 + A, 512), by `recipes.REGIONS`; of the unchanged image first
    lungs: np.ndarray  # float32 (28, 28), logits of the lungs in the unchanged image
    statistics: ImageStatistics  # of the unchanged image
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class Features:
    """Everything that is computed from N images with A augmentations each.

    Attributes:
        table: float32 (3, 1 + A, N, 512), by `recipes.REGIONS`; of the unchanged images first.
        lungs: float32 (N, 28, 28), logits of the lungs in the unchanged images.
        lungs_found: bool (N,), whether these are a pair (`lung_masks.find_pairs`).
        image_statistics: of the unchanged images.
        unread: errors of requested images that could not be read, by their index; these are not
            among the N.
        pixels: those that were kept, by path.
    """

    table: np.ndarray
    lungs: np.ndarray
    lungs_found: np.ndarray
    image_statistics: list[ImageStatistics]
    unread: dict[int, InputError] = field(default_factory=dict)
    pixels: dict[Path, np.ndarray] = field(default_factory=dict)

    @property
    def regions(self) -> dict[str, np.ndarray]:
        """Region -> float32 (M, 512), in the order of `LabelledFeatures.values`; no copies."""
        return dict(zip(REGIONS, self.table.reshape(len(REGIONS), -1, FEATURES), strict=True))

    @property
    def hashes(self) -> np.ndarray:
        """Perceptual hashes, uint64 (N, 4)."""
        return np.stack([statistics.hash for statistics in self.image_statistics])

    def labelled(self, labels: np.ndarray) -> dict[str, LabelledFeatures]:
        """Each region's features, with the labels (N,) int64 of the images."""
        image = np.tile(np.arange(len(labels)), self.table.shape[1])
        return {name: LabelledFeatures(rows, image, labels) for name, rows in self.regions.items()}

    def select(self, images: Sequence[int] | np.ndarray) -> "Features":
        """The features of images by index, with those of their augmentations."""
        return Features(
            table=_take(self.table, images),
            lungs=self.lungs[images],
            lungs_found=self.lungs_found[images],
            image_statistics=[self.image_statistics[i] for i in images],
            pixels=self.pixels,
        )

    @classmethod
    def of(
        cls, found: Iterable[tuple[int, ImageFeatures | InputError]], paths: Sequence[Path]
    ) -> "Features":
        """Combine the features of the images at `paths`, each with as many augmentations.

        `found` gives each image's index once, in any order, with its features, or with an error if
        it could not be read. Each is copied and dropped before the next is taken.
        """
        n, table = len(paths), np.empty((len(REGIONS), 1, 0, FEATURES), np.float32)
        lungs = np.empty((0, 0, 0), np.float32)
        statistics: dict[int, ImageStatistics] = {}
        unread: dict[int, InputError] = {}
        pixels: dict[Path, np.ndarray] = {}
        for i, image in found:
            if isinstance(image, InputError):
                unread[i] = image
                continue
            if not statistics:
                table = allocate((len(REGIONS), image.regions.shape[1], n, FEATURES), n)
                lungs = np.empty((n, *image.lungs.shape), np.float32)
            table[:, :, i], lungs[i], statistics[i] = image.regions, image.lungs, image.statistics
            if image.pixels is not None:
                pixels[paths[i]] = image.pixels
        read, unread = sorted(statistics), dict(sorted(unread.items()))
        known, lungs = [statistics[i] for i in read], lungs[read]
        return cls(_take(table, read), lungs, find_pairs(lungs), known, unread, pixels)


def _take(table: np.ndarray, images: Sequence[int] | np.ndarray) -> np.ndarray:
    """Some images of a table (3, 1 + A, N, 512); the table itself for all of them."""
    if np.array_equal(images, np.arange(table.shape[2])):
        return table
    taken = allocate((*table.shape[:2], len(images), FEATURES), len(images))
    for region, variant in np.ndindex(*table.shape[:2]):
        np.take(table[region, variant], images, axis=0, out=taken[region, variant])
    return taken


def allocate(shape: tuple[int, ...], images: int) -> np.ndarray:
    """Zeros, float32, in memory, or for more than `MAPPED` images in a file without a name.

    Raises:
        InputError: the folder of temporary files has no room.
    """
    if images <= MAPPED:
        return np.zeros(shape, np.float32)
    size = int(np.prod(shape)) * 4
    file = tempfile.TemporaryFile()  # noqa: SIM115  # is closed with the array
    try:
        if hasattr(os, "posix_fallocate"):  # a full disk would end the program while it computes
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        folder, reason = tempfile.gettempdir(), f"{size / 1e9:.1f} GB of features"
        message = f"{folder}: has no room for {reason} ({error.strerror}); set TMPDIR to another"
        raise InputError(message) from error

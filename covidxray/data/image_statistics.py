"""Image statistics: what the audit measures of an X-ray without reading any anatomy. No Keras."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from covidxray.data.duplicates import perceptual_hash
from covidxray.data.grey import is_blank
from covidxray.data.image_file import Facts, ImageFile
from covidxray.data.images import decode
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError

THUMBNAIL = 8  # pixels per side
FRAME = 8  # width of the outer frame in pixels, of 224
BINS = 14  # along each side of the frame, 16 pixels each
LEVELS = 16  # of the grey-level histogram
QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # per cent
AGE = re.compile(r"(\d+(?:\.\d+)?) *[yY]?")


@dataclass(frozen=True)
class ImageStatistics:
    """The statistics of one image, and the hash by which its copies are found.

    Attributes:
        thumbnail: float32 (64,), mean grey of an 8 x 8 grid, row by row.
        frame: float32 (56,), mean grey along the outer 8 pixels: top, bottom, left, right.
        histogram: float32 (23,), fractions of the pixels in 16 grey ranges, then 7 quantiles.
        file: `ImageFile.facts`, by name; each is a number or a text.
        hash: uint64 (4,), see `duplicates.perceptual_hash`.
    """

    thumbnail: np.ndarray
    frame: np.ndarray
    histogram: np.ndarray
    file: Facts
    hash: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All attributes as arrays by name, to be stored in a file."""
        facts = np.frombuffer(json.dumps(self.file).encode(), np.uint8)
        return {**vars(self), "file": facts}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "ImageStatistics":
        """The reverse of `arrays`."""
        return cls(**{**arrays, "file": json.loads(arrays["file"].tobytes())})


def read_with_statistics(path: Path | ImageFile) -> tuple[np.ndarray, ImageStatistics]:
    """The pixels of an image file, as `read_image` returns or refuses them, and its statistics.

    Raises InputError for a blank image as well, which no model can learn from or be tested on.
    """
    file = ImageFile.read(path)
    pixels, facts = decode(file)
    if is_blank(pixels):
        raise InputError(f"{file.path}: is blank or nearly blank; remove it")
    return pixels, measure_image(pixels, facts)


def measure_image(pixels: np.ndarray, facts: Facts) -> ImageStatistics:
    """Measure an image, uint8 RGB (224, 224, 3); `facts` are those of its file."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    sides = (grey[:FRAME], grey[-FRAME:], grey[:, :FRAME].T, grey[:, -FRAME:].T)
    levels = np.bincount(grey.ravel() // (256 // LEVELS), minlength=LEVELS) / grey.size
    return ImageStatistics(
        thumbnail=_shrink(grey, THUMBNAIL, THUMBNAIL),
        frame=np.concatenate([_shrink(side, BINS, 1) for side in sides]),
        histogram=np.r_[levels, np.percentile(grey, QUANTILES)].astype(np.float32),
        file=facts,
        hash=perceptual_hash(pixels),
    )


def _shrink(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    size = (width, height)
    return cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA).ravel()


def feature_tables(
    image_statistics: Sequence[ImageStatistics], rows: Sequence[ManifestRow]
) -> dict[str, np.ndarray]:
    """Standardised features of N images for the baselines, one table for each kind of statistics.

    Returns:
        float32 (N, features) for each of frame, histogram, file, thumbnail and manifest, in this
        order. A kind in which no two images differ is left out.
    """
    kinds = {
        "frame": np.array([statistics.frame for statistics in image_statistics]),
        "histogram": np.array([statistics.histogram for statistics in image_statistics]),
        "file": _table([statistics.file for statistics in image_statistics]),
        "thumbnail": np.array([statistics.thumbnail for statistics in image_statistics]),
        "manifest": _table([_manifest_facts(row) for row in rows]),
    }
    standard = {name: _standardise(values) for name, values in kinds.items()}
    return {name: values for name, values in standard.items() if values.shape[1]}


def _manifest_facts(row: ManifestRow) -> Facts:
    """Facts of a manifest row, without the finding; "" for what the row does not tell."""
    age = AGE.fullmatch(row.age.strip())
    facts: Facts = {name: getattr(row, name).strip().lower() for name in ("source", "view", "sex")}
    return {**facts, "age": float(age[1]) if age else ""}


def _table(facts: Sequence[Facts]) -> np.ndarray:
    """Facts as (N, columns): of each key, one for its numbers, and one for each of its texts.

    Where the fact is a text, the column of numbers has their mean.
    """
    columns = []
    for key in facts[0]:
        values = [fact[key] for fact in facts]
        numbers = np.array([np.nan if isinstance(v, str) else v for v in values])
        if not np.isnan(numbers).all():
            columns.append(np.where(np.isnan(numbers), np.nanmean(numbers), numbers))
        for text in sorted({v for v in values if isinstance(v, str)}):
            columns.append(np.array([v == text for v in values], float))
    return np.stack(columns, axis=1)


def _standardise(values: np.ndarray) -> np.ndarray:
    values = values[:, values.std(axis=0) > 1e-6].astype(np.float64)
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)

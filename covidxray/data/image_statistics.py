"""Image statistics: what the audit measures of an X-ray without reading any anatomy. No Keras."""

import json
from dataclasses import dataclass

import cv2
import numpy as np

from covidxray.data.duplicates import perceptual_hash
from covidxray.data.image_file import Facts

THUMBNAIL = 8  # pixels per side
FRAME = 8  # width of the outer frame in pixels, of 224
BINS = 14  # along each side of the frame, 16 pixels each
LEVELS = 16  # of the grey-level histogram
QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # per cent


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

"""What can be known of an X-ray without looking at the anatomy in it. No Keras here."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from covidxray.images import is_dicom, perceptual_hash, read_image
from covidxray.manifest import Row

THUMBNAIL = 8  # pixels a side
FRAME = 8  # pixels of 224 that the outer frame is wide
BINS = 14  # along each side of the frame, 16 pixels each
LEVELS = 16  # of the grey-level histogram
QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # per cent
LUMINANCE = 3688  # sum of JPEG's example luminance table (ITU-T T.81, table K.1), quality 50
AGE = re.compile(r"(\d+(?:\.\d+)?) *[yY]?")

Facts = dict[str, float | str]


@dataclass(frozen=True)
class Clue:
    """One image's surface, and the hash by which its copies are found.

    Attributes:
        thumbnail: float32 (64,), mean grey of an 8 x 8 grid, row by row.
        frame: float32 (56,), mean grey along the outer 8 pixels: top, bottom, left, right.
        histogram: float32 (23,), shares of 16 grey ranges, then 7 quantiles.
        file: what the file's header says; numbers are numbers, all else is text.
        hash: uint64 (4,), see `images.perceptual_hash`.
    """

    thumbnail: np.ndarray
    frame: np.ndarray
    histogram: np.ndarray
    file: Facts
    hash: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, for a file."""
        facts = np.frombuffer(json.dumps(self.file).encode(), np.uint8)
        return {**vars(self), "file": facts}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "Clue":
        """The reverse of `arrays`."""
        return cls(**{**arrays, "file": json.loads(arrays["file"].tobytes())})


def look(path: Path) -> tuple[np.ndarray, Clue]:
    """An image's pixels (`images.read_image`), and what is measured of it."""
    pixels = read_image(path)
    return pixels, measure(path, pixels)


def measure(path: Path, pixels: np.ndarray) -> Clue:
    """Measure one image.

    Args:
        path: its file, of which the header is read.
        pixels: what `images.read_image` made of it, uint8 RGB (224, 224, 3).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    sides = (grey[:FRAME], grey[-FRAME:], grey[:, :FRAME].T, grey[:, -FRAME:].T)
    counts = np.bincount(grey.ravel(), minlength=256)
    return Clue(
        thumbnail=_shrink(grey, THUMBNAIL, THUMBNAIL),
        frame=np.concatenate([_shrink(side, BINS, 1) for side in sides]),
        histogram=_histogram(counts),
        file=read_header(path),
        hash=perceptual_hash(pixels),
    )


def _histogram(counts: np.ndarray) -> np.ndarray:
    """The histogram and quantiles of `Clue`, from how often each of 256 greys is there (256,)."""
    upto = counts.cumsum()
    at = np.array(QUANTILES) / 100 * (upto[-1] - 1)
    low, high = (upto.searchsorted(place, side="right") for place in (np.floor(at), np.ceil(at)))
    quantiles = low + (high - low) * (at % 1)  # as np.percentile has them, without sorting
    return np.r_[counts.reshape(LEVELS, -1).sum(axis=1) / upto[-1], quantiles].astype(np.float32)


def _shrink(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    size = (width, height)
    return cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA).ravel()


def read_header(path: Path) -> Facts:
    """Size, format, depth and compression of an image or DICOM file; its pixels are not read."""
    width, height, facts = _dicom_header(path) if is_dicom(path) else _image_header(path)
    return {
        # Logarithms: the doubling of a length counts the same at every length.
        "width": math.log2(width),
        "height": math.log2(height),
        "aspect": math.log2(width / height),
        "bytes per pixel": math.log2(path.stat().st_size / (width * height)),
        **facts,
    }


def _image_header(path: Path) -> tuple[int, int, Facts]:
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None)
        facts: Facts = {
            "format": str(image.format),
            "bits": {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if "16" in image.mode else 8),
            "channels": len(image.getbands()),
            "JPEG quality": _jpeg_quality(sum(tables[0])) if tables else 0,
        }
        return image.width, image.height, facts


def _jpeg_quality(total: int) -> float:
    """The libjpeg quality, 1 to 100, at which a luminance table's entries sum up to `total`."""
    percent = 100 * total / LUMINANCE
    return 100 - percent / 2 if percent <= 100 else 5000 / percent


def _dicom_header(path: Path) -> tuple[int, int, Facts]:
    from pydicom import dcmread  # only who has DICOM files waits for it

    header = dcmread(path, stop_before_pixels=True, force=True)
    facts: Facts = {
        "format": f"DICOM {header.file_meta.get('TransferSyntaxUID', '')}",
        "bits": header.BitsStored,
        "channels": header.SamplesPerPixel,
        "JPEG quality": 0,
    }
    return header.Columns, header.Rows, facts


def designs(clues: Sequence[Clue], rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The clues as standardised features, the narrowest kind first.

    Returns:
        float32 (N, features) for each of frame, histogram, file, thumbnail and manifest; a kind in
        which no two images differ is left out.
    """
    kinds = {
        "frame": np.array([clue.frame for clue in clues]),
        "histogram": np.array([clue.histogram for clue in clues]),
        "file": _table([clue.file for clue in clues]),
        "thumbnail": np.array([clue.thumbnail for clue in clues]),
        "manifest": _table([_manifest_facts(row) for row in rows]),
    }
    standard = {name: _standardise(values) for name, values in kinds.items()}
    return {name: values for name, values in standard.items() if values.shape[1]}


def _manifest_facts(row: Row) -> Facts:
    """What the manifest says but for the finding; the text "" where it says nothing."""
    age = AGE.fullmatch(row.age.strip())
    facts: Facts = {name: getattr(row, name).strip().lower() for name in ("source", "view", "sex")}
    return {**facts, "age": float(age[1]) if age else ""}


def _table(facts: Sequence[Facts]) -> np.ndarray:
    """(N, columns): one for a key's numbers, with the mean for what is none, one for each text."""
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

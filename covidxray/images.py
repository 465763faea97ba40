"""Any image file -> uint8 RGB (224, 224, 3)."""

import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image, ImageOps

from covidxray.errors import InputError
from covidxray.files import is_remote, whole_file

SIZE = 224
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP")  # Pillow would start programs for others
DICOM_EXTENSIONS = (".dcm", ".dicom")
# Without its preamble a DICOM file begins with a tag of group 2 or 8: explicitly with its type (two
# capitals), or implicitly with a length, which is short or, for a group's length, followed by 8.
BARE_DICOM = re.compile(
    rb"[\x02\x08]\0[\0-\x1f]\0[A-Z]{2}|\x08\0[\x01-\x1f]\0.\0\0\0|\x08\0\0\0\x04\0\0\0....\x08\0",
    re.DOTALL,
)
# One picture at another size and JPEG quality differs in at most 8 of the 256 bits of its hash, the
# pictures of two patients in at least 44 (benchmarks/duplicate_distance.py, 599 real radiographs).
DUPLICATE_BITS = 24
SCANS = 100  # of a JPEG at most; programs write about 10


class _Strict:
    """While any thread decodes, nothing warns but that a picture is too big, which is an error.

    The filters belong to the process: were each thread to set them back, one would undo another's.
    """

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *error) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(*error)


strict_warnings = _Strict()


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Find images by extension, and DICOM files by content where the extension says nothing.

    Hidden files and folders, `__MACOSX` and DICOMDIR, a table of contents, are passed over. Links
    to folders below `folder` are not followed; they may lead in a circle.

    Returns:
        Paths in `folder`, or also in the folders below it, sorted.

    Raises:
        InputError: a folder may not be listed.
    """
    found = []
    if is_remote(folder):
        start = len(folder.path.rstrip("/")) + 1
        files = (folder / name[start:] for name in folder.fs.find(folder.path))
    else:
        files = _files(folder, recursive)
    for path in files:
        parts = path.relative_to(folder).parts
        if len(parts) > 1 and not recursive:
            continue
        if any(part.startswith(".") or part in ("__MACOSX", "DICOMDIR") for part in parts):
            continue
        if path.suffix.lower() in EXTENSIONS + DICOM_EXTENSIONS or is_dicom(path):
            found.append(path)
    return sorted(found)


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); see who may")

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in names)
        if not recursive:
            return


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, with or without the preamble."""
    if not path.is_file():  # to open a named pipe would wait for ever
        return False
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or BARE_DICOM.match(start) is not None


def read_image(path: Path, size: int = SIZE) -> np.ndarray:
    """Decode an image and squeeze it to a square, as the tutorial does.

    Grey, palette, alpha and CMYK become RGB; more than 8 bits are stretched from the darkest to the
    brightest pixel; the EXIF orientation is applied. A DICOM file, whatever its name, is shown as a
    viewer shows it (`dicom.read_pixels`).

    Returns:
        uint8 array of shape (size, size, 3), RGB.

    Raises:
        InputError: the file is not a whole image that can be decoded.
    """
    check_file(path)
    if is_dicom(path):
        from covidxray import dicom  # pydicom takes longer to import than --help may take

        pixels = dicom.read_pixels(path)
    else:
        pixels = _decode(path)
    shrink = pixels.shape[0] >= size and pixels.shape[1] >= size
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (size, size), interpolation=interpolation)
    return cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small


def check_file(path: Path) -> None:
    """Make sure that a path is a file: a pipe or a device may have no end.

    Raises:
        InputError: it is not, or it is a link that leads nowhere.
    """
    if not path.is_file():
        raise InputError(f"{path}: is not a file, or a link that leads nowhere; remove it")


def _decode(path: Path) -> np.ndarray:
    try:
        with strict_warnings, Image.open(path, formats=FORMATS) as image:
            if image.format == "PNG":  # loading passes over its check sums
                with Image.open(path) as again:
                    again.verify()
            elif image.format in ("JPEG", "MPO"):
                check_scans(path.read_bytes())
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _eight_bits(image)
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; change its permissions") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: has too many pixels; scale it down") from error
    except Exception as error:  # Pillow raises many kinds for what is damaged, IndexError for one
        raise InputError(f"{path}: is not an image that can be decoded; remove it") from error


def check_scans(jpeg: bytes) -> None:
    """Refuse a JPEG that takes hours: each scan goes through the whole picture, in 100 bytes.

    Raises:
        ValueError: there are too many.
    """
    if jpeg.count(b"\xff\xda") > SCANS:
        raise ValueError("too many scans")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """uint8 RGB (H, W, 3), or (H, W) of a grey image: a third of the work until it is small."""
    if image.mode[0] in "IF":  # 16-bit and 32-bit grey, which Pillow would clip at 255
        grey = np.asarray(image, dtype=np.float64)
        return eight_bits(grey, grey.min(), grey.max())
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(ground, image)
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def eight_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale numbers of any shape so that `low` becomes 0 and `high` 255, as uint8."""
    scaled = (values - low) * (255 / max(high - low, 1e-9))
    return scaled.round(out=scaled).clip(0, 255, out=scaled).astype(np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) as a PNG file, whole or not at all (`files.whole_file`)."""
    with whole_file(path) as part:
        part.write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """A 256-bit perceptual hash (`imagehash.phash`), much the same at any size or JPEG quality.

    Args:
        pixels: uint8 RGB, (H, W, 3).

    Returns:
        uint64 array of shape (4,).
    """
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=16).hash
    return np.packbits(bits.reshape(4, 64), axis=1).view(np.uint64).ravel()


def hash_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of bits in which hashes of shape (..., 4) differ."""
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)

"""The bytes of an image file, and what the decoders of all formats share."""

import hashlib
import math
import re
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from covidxray.errors import InputError

MAX_BYTES = 2**30  # the largest image that Pillow accepts has 0.7 GB as 16-bit RGBA
MAX_SCANS = 100  # of a JPEG; programs write about 10
# A DICOM file without the preamble starts with a tag of group 2 or 8. The tag is followed by its
# type (two capitals), or by a length, which is short or, for a group length element, followed by 8.
BARE_DICOM = re.compile(
    rb"[\x02\x08]\0[\0-\x1f]\0[A-Z]{2}|\x08\0[\x01-\x1f]\0.\0\0\0|\x08\0\0\0\x04\0\0\0....\x08\0",
    re.DOTALL,
)


Facts = dict[str, float | str]


@dataclass(frozen=True)
class ImageFile:
    """All bytes of an image file, and its path for error messages."""

    path: Path
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: "Path | ImageFile") -> "ImageFile":
        """Read a file of this machine, or of object storage if `path` is a `UPath`.

        A file that was read already is returned as it is.

        Raises:
            InputError: it cannot be read, is larger than 1 GiB, or is not a regular file (reading a
                pipe or a device may never end).
        """
        if isinstance(path, ImageFile):
            return path
        try:
            if not path.is_file():
                raise InputError(f"{path}: is not a file, or a link that leads nowhere; remove it")
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path}: is larger than 1 GiB; scale it down")
            return cls(path, path.read_bytes())
        except InputError:
            raise
        except Exception as error:  # each kind of object storage raises errors of its own
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be read ({reason}); check its permissions") from error

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def is_dicom(self) -> bool:
        """Whether it is DICOM by its first 132 bytes, with or without the preamble."""
        return self.content[128:132] == b"DICM" or BARE_DICOM.match(self.content) is not None

    def facts(
        self, shape: tuple[int, int], format: str, bits: int, channels: int, jpeg_quality: float = 0
    ) -> Facts:
        """How the image is stored, by name; lengths as logarithms, so that doubling adds the same.

        `shape` is the height and width in pixels before the EXIF orientation is applied, `format`
        Pillow's name of it, or "DICOM" and the UID of the transfer syntax; `bits` are per sample,
        and `jpeg_quality` is the setting of libjpeg, 1 to 100, or 0 for other formats.
        """
        height, width = shape
        return {
            "width": math.log2(width),
            "height": math.log2(height),
            "aspect": math.log2(width / height),
            "bytes per pixel": math.log2(len(self.content) / (width * height)),
            "format": format,
            "bits": bits,
            "channels": channels,
            "JPEG quality": jpeg_quality,
        }


class _StrictWarnings:
    """Context in which no warning is shown, and Pillow's warning of a large image is an error.

    Filters belong to the process: the first thread that enters sets, the last one restores them.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


strict_warnings = _StrictWarnings()


def check_scans(jpeg: bytes) -> None:
    """Raise ValueError for a JPEG that would take hours: each scan is a pass over the image."""
    if jpeg.count(b"\xff\xda") > MAX_SCANS:
        raise ValueError("too many scans")

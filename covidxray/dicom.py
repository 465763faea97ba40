"""DICOM files: their pixels as a viewer shows them, and the little of their header that is kept.

No value of a tag reaches a message: what pydicom says or raises may quote a patient's name.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array

from covidxray.errors import InputError
from covidxray.images import check_scans, eight_bits, strict_warnings

logging.getLogger("pydicom").disabled = True  # it says what it warns of a second time

DECODERS = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.RLELossless: "imagecodecs",
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: "pillow",
    uid.JPEGLossless: "imagecodecs",
    uid.JPEGLosslessSV1: "imagecodecs",
    uid.JPEGLSLossless: "imagecodecs",
    uid.JPEGLSNearLossless: "imagecodecs",
    uid.JPEG2000Lossless: "pillow",
    uid.JPEG2000: "pillow",
}
OURS = ("imagecodecs", ("covidxray.codecs", "decode_frame"))
for syntax in (uid.RLELossless, *uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes):
    get_decoder(syntax).add_plugin(*OURS)
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
HEADER = ("PatientID", "IssuerOfPatientID", "PatientSex", "PatientAge", "ViewPosition")
PER_YEAR = {"Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25}
# PS3.3 C.8.1.1.1.3 and C.8.11.1: what else may stand there could be of the patient.
VIEWS = ("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL")
OLDEST = 89  # years; an age above it tells too much of a person (45 CFR 164.514(b)(2)(i)(C))


@dataclass(frozen=True)
class Header:
    """What is kept of a file's header; every field is text, empty where the file says nothing.

    `patient` is the patient's ID as it stands there, after its issuer if that is given: only its
    digest may be kept. `age` is in years, "90" for every age above 89.
    """

    patient: str = field(repr=False)
    view: str
    sex: str
    age: str


def read_header(path: Path) -> Header:
    """Read who and what a DICOM file shows, without its pixels.

    Raises:
        InputError: the file cannot be parsed.
    """
    with _nothing_quoted(path):
        ds = _read(path, stop_before_pixels=True, specific_tags=list(HEADER))
        patient, issuer, sex, age, view = (str(ds.get(name) or "").strip() for name in HEADER)
    return Header(
        patient=f"{issuer}\0{patient}" if patient and issuer else patient,
        view=view if view.upper() in VIEWS else "",
        sex=sex if sex in ("F", "M", "O") else "",
        age=_years(age),
    )


def _years(age: str) -> str:
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", age)
    if not match:
        return ""
    years = int(match[1]) / PER_YEAR[match[2] or "Y"]
    return f"{years:.3g}" if years <= OLDEST else str(OLDEST + 1)


def read_pixels(path: Path) -> np.ndarray:
    """Decode a DICOM file with one frame.

    Grey values go through the modality LUT or rescaling, then through the first VOI LUT or else
    the first window, or else are stretched from the darkest to the brightest pixel; MONOCHROME1
    is inverted, and padding becomes black (DICOM PS3.3 C.7.6.3, C.7.5.1.1.2, C.11.1 and C.11.2).

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        InputError: there are no pixels, several frames, too many pixels, a compression that none
            of the decoders knows, or damage.
    """
    with _nothing_quoted(path):
        ds = _read(path)
        if not any(name in ds for name in PIXELS):
            raise InputError(f"{path}: holds no pixels, or is cut short; fetch it again, or remove")
        frames = int(ds.get("NumberOfFrames") or 1)
        if ds.Rows * ds.Columns * frames > Image.MAX_IMAGE_PIXELS:
            raise InputError(f"{path}: has too many pixels; scale it down")
        if frames != 1:
            raise InputError(f"{path}: holds several frames; save each as a file of its own")
        for element in ds.group_dataset(0x0028):
            if element.is_empty:  # as good as absent, but pydicom and we would take it for a value
                del ds[element.tag]
        stored = _decode(path, ds)
        kind = ds.PhotometricInterpretation
        if kind in ("MONOCHROME1", "MONOCHROME2"):
            return np.repeat(_grey(stored, ds)[..., None], 3, axis=2)
        if kind == "PALETTE COLOR":
            stored = apply_color_lut(stored, ds)[..., :3]
        elif kind != "RGB" and not kind.startswith("YBR_"):
            raise ValueError("no such colours")
        if stored.dtype != np.uint8:
            stored = eight_bits(stored, stored.min(), stored.max())
        return stored


@contextmanager
def _nothing_quoted(path: Path) -> Iterator[None]:
    with strict_warnings:
        try:
            yield
        except InputError:
            raise
        except Exception:  # damage makes pydicom raise almost anything
            raise InputError(
                f"{path}: is not a DICOM image that can be decoded; fetch it again, or remove it"
            ) from None


def _read(path: Path, **options) -> Dataset:
    with open(path, "rb") as file:
        read_preamble(file, force=True)
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
        deflated = uid.DeflatedExplicitVRLittleEndian
        if meta.get("TransferSyntaxUID") == deflated:  # pydicom would inflate it without limit
            raise _unknown_syntax(path, deflated)
        file.seek(0)
        ds = dcmread(file, force=True, **options)
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    return ds


def _unknown_syntax(path: Path, syntax: uid.UID) -> InputError:
    name = "an unknown transfer syntax" if syntax.name == syntax else syntax.name
    return InputError(f"{path}: is stored as {name}; convert it to Explicit VR Little Endian")


def _decode(path: Path, ds: Dataset) -> np.ndarray:
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax not in DECODERS:
        raise _unknown_syntax(path, syntax)
    plugin = DECODERS[syntax]
    if syntax == uid.JPEGExtended12Bit and ds.BitsStored > 8:
        plugin = "imagecodecs"
    if syntax.is_encapsulated and syntax != uid.RLELossless:
        stream = get_frame(ds.PixelData, 0, number_of_frames=1)
        if _size_and_end(stream) != (ds.Columns, ds.Rows):  # a decoder would take memory for it
            raise ValueError("not the size of the picture")
    return pixel_array(ds, index=0, decoding_plugin=plugin)


def _size_and_end(stream: bytes) -> tuple[int, int]:
    """Columns and rows by a stream's own header; an error if it is a JPEG or JPEG-LS without its
    end, of which decoders make half a picture, or with too many scans."""
    if not stream.startswith(b"\xff\xd8"):
        with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
            return image.size
    check_scans(stream)
    if not stream.rstrip(b"\0\xff").endswith(b"\xd9"):
        raise ValueError("no end")
    at = 2
    while stream[at + 1] not in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
        at += 2 + int.from_bytes(stream[at + 2 : at + 4])
    return int.from_bytes(stream[at + 7 : at + 9]), int.from_bytes(stream[at + 5 : at + 7])


def _grey(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    """Stored grey values (H, W) -> uint8 (H, W), bright where a viewer is bright.

    pydicom's own functions are not used: in 3.0 a window turns the picture round where the rescale
    slope is negative, and a LUT of 8 bits takes only the last 8 bits of a value.
    """
    padding = _padding(stored, ds)
    values = stored.astype(np.float64)
    if "ModalityLUTSequence" in ds:
        values = _look_up(values, *_table(ds, ds.ModalityLUTSequence[0]))
    elif "RescaleSlope" in ds:
        values = values * float(ds.RescaleSlope) + float(ds.get("RescaleIntercept", 0))
    if "VOILUTSequence" in ds:
        first, table = _table(ds, ds.VOILUTSequence[0])
        values, low, high = _look_up(values, first, table), table.min(), table.max()
    elif "WindowCenter" in ds and np.ravel(ds.get("WindowWidth", 0))[0] >= 1:
        values, low, high = _window(values, ds), 0, 1
    else:
        shown = values[~padding]
        low, high = shown.min(), shown.max()
    grey = eight_bits(values, low, high)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _padding(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    if "PixelPaddingValue" not in ds:
        return np.zeros(stored.shape, bool)
    value = ds.PixelPaddingValue
    low, high = sorted((value, ds.get("PixelPaddingRangeLimit", value)))
    return (stored >= low) & (stored <= high)


def _window(values: np.ndarray, ds: Dataset) -> np.ndarray:
    centre, width = float(np.ravel(ds.WindowCenter)[0]), float(np.ravel(ds.WindowWidth)[0])
    function = ds.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1, 1e-9)
    return ((values - centre) / width + 0.5).clip(0, 1)


def _table(ds: Dataset, item: Dataset) -> tuple[int, np.ndarray]:
    """The first value that a LUT maps, and what it makes of that one and those after it."""
    length, first, _ = item.LUTDescriptor
    table = item.LUTData
    if isinstance(table, bytes):
        order = "<" if ds.original_encoding[1] else ">"
        table = np.frombuffer(table, f"{order}u{len(table) // (length or 65536)}")
    return first, np.asarray(table, np.float64)


def _look_up(values: np.ndarray, first: int, table: np.ndarray) -> np.ndarray:
    return table[(values - first).clip(0, len(table) - 1).astype(np.intp)]

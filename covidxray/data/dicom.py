"""Decode DICOM files as a viewer shows them, and read the few tags of their header that are kept.

No value of a tag is put into a message: errors and warnings of pydicom may quote a patient's name.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array

from covidxray.data import image_file
from covidxray.data.dicom_grey import grey_as_displayed, keep_stored_bits
from covidxray.data.grey import scale_to_uint8, value_range
from covidxray.data.image_file import Facts, ImageFile
from covidxray.data.patients import patient_digest
from covidxray.errors import InputError

logging.getLogger("pydicom").disabled = True  # it logs each warning a second time

UNCOMPRESSED = uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian
PILLOW = uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000Lossless, uid.JPEG2000
JPEGS = uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1
IMAGECODECS = uid.RLELossless, *JPEGS, *uid.JPEGLSTransferSyntaxes
for syntax in IMAGECODECS:
    get_decoder(syntax).add_plugin("imagecodecs", ("covidxray.data.dicom_codecs", "decode_frame"))
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
REQUIRED_FOR_FLOATS = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
REQUIRED = (*REQUIRED_FOR_FLOATS, "BitsStored", "PixelRepresentation")
# The issuer of an ID does not count: some files of a patient name it, and others do not.
HEADER = ("PatientID", "StudyInstanceUID", "PatientSex", "PatientAge", "ViewPosition")
DEVICE = ("Manufacturer", "ManufacturerModelName", "StationName")
FRAMES, SCAN, FILL = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7), 0xDA, 0xFF  # second bytes of JPEG markers
END = b"\xff\xd9"
PER_YEAR = {"Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25}
# The defined terms (PS3.3 C.8.1.1.1.3 and C.8.11.1). Any other text could identify the patient.
VIEWS = ("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL")
OLDEST = 89  # years; a higher age could identify a person (45 CFR 164.514(b)(2)(i)(C))


def read_header(file: ImageFile, salt: bytes) -> dict[str, str]:
    """Read the tags that are kept, without the pixels: fields of a `ManifestRow`.

    They are the digests (`patient_digest`) of the patient's ID, or else of the study, and of the
    machine, the view, one of `VIEWS`, the sex, F, M or O, and the age in years, "90" for every age
    above 89; "" for what the file does not tell. Raises InputError if the file cannot be parsed.
    """
    with _nothing_quoted(file.path):
        ds = _parse(file, stop_before_pixels=True, specific_tags=[*HEADER, *DEVICE])
        values = [str(ds.get(name) or "").strip() for name in (*HEADER, *DEVICE)]
    patient, study, sex, age, view, *device = values
    key = patient or study
    return {
        "patient_id": key and patient_digest(key, salt),
        "device": patient_digest("\0".join(["device", *device]), salt) if any(device) else "",
        "view": view if view.upper() in VIEWS else "",
        "sex": sex if sex in ("F", "M", "O") else "",
        "age": _years(age),
    }


def _years(age: str) -> str:
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", age)
    if not match:
        return ""
    years = int(match[1]) / PER_YEAR[match[2] or "Y"]
    return f"{years:.3g}" if years <= OLDEST else str(OLDEST + 1)


def decode(file: ImageFile) -> tuple[np.ndarray, Facts]:
    """Decode a DICOM file with one frame, as a viewer shows it (`dicom_grey.grey_as_displayed`).

    Returns:
        uint8 array of shape (H, W, 3), RGB, and `ImageFile.facts`.

    Raises:
        InputError: no pixels, too many pixels, several frames, an unknown compression, damage, or
            no tag that decoding needs.
    """
    path = file.path
    with _nothing_quoted(path):
        ds = _parse(file)
        if not any(name in ds for name in PIXELS):
            raise InputError(f"{path}: holds no pixels or is cut short; replace or remove it")
        _check_tags(path, ds)
        frames = int(ds.get("NumberOfFrames") or 1)
        if ds.Rows * ds.Columns * frames > Image.MAX_IMAGE_PIXELS:
            raise InputError(f"{path}: has too many pixels; scale it down")
        if frames != 1:
            raise InputError(f"{path}: holds several frames; save each as a file of its own")
        named_syntax = ds.file_meta.get("TransferSyntaxUID", "")
        ds.file_meta.TransferSyntaxUID = named_syntax or _uncompressed_syntax(ds)
        pixels = _to_rgb(keep_stored_bits(_decompress(path, ds), ds), ds)
        bits = ds.get("BitsStored", ds.BitsAllocated)  # pixels of type float lack the first
        shape, channels = (ds.Rows, ds.Columns), ds.SamplesPerPixel
        return pixels, file.facts(shape, f"DICOM {named_syntax}", bits, channels)


def _check_tags(path: Path, ds: Dataset) -> None:
    """Remove empty elements, add what has a default, and name a tag that is missing."""
    for element in ds.group_dataset(0x0028):
        if element.is_empty:  # pydicom would take an empty element for a value
            del ds[element.tag]
    for name in REQUIRED if "PixelData" in ds else REQUIRED_FOR_FLOATS:
        if name not in ds:
            raise InputError(f"{path}: has no {name}, which an image needs; fetch it again")
    ds.PhotometricInterpretation = str(ds.PhotometricInterpretation).strip().upper()
    grey = ds.PhotometricInterpretation.startswith(("MONO", "PALETTE"))
    ds.SamplesPerPixel = ds.get("SamplesPerPixel", 1 if grey else 3)


@contextmanager
def _nothing_quoted(path: Path) -> Iterator[None]:
    """Replace every exception but an InputError by one that quotes nothing of the file."""
    try:
        with image_file.strict_warnings:
            yield
    except InputError:
        raise
    except Exception:  # damage makes pydicom raise almost any type
        message = "is not a DICOM image that can be decoded; fetch it again, or remove it"
        raise InputError(f"{path}: {message}") from None


def _parse(file: ImageFile, **options: Any) -> Dataset:
    """Parse a DICOM file; `options` are those of `pydicom.dcmread`."""
    stream = io.BytesIO(file.content)
    read_preamble(stream, force=True)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != 2)
    deflated = uid.DeflatedExplicitVRLittleEndian
    if meta.get("TransferSyntaxUID") == deflated:  # pydicom would decompress it without a limit
        raise _unknown_syntax(file.path, deflated)
    stream.seek(0)
    return dcmread(stream, force=True, **options)


def _uncompressed_syntax(ds: Dataset) -> uid.UID:
    """The transfer syntax by which pydicom read a file that does not name its own."""
    implicit, little = ds.original_encoding
    return UNCOMPRESSED[0 if implicit else 1 if little else 2]


def _unknown_syntax(path: Path, syntax: uid.UID) -> InputError:
    name = "an unknown transfer syntax" if syntax.name == syntax else syntax.name
    return InputError(f"{path}: is stored as {name}; convert it to Explicit VR Little Endian")


def _decompress(path: Path, ds: Dataset) -> np.ndarray:
    """The stored values of the only frame, (H, W) or (H, W, 3)."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in PILLOW and not (syntax == uid.JPEGExtended12Bit and ds.BitsStored > 8):
        plugin = "pillow"
    elif syntax in IMAGECODECS:
        plugin = "imagecodecs"
    elif syntax in UNCOMPRESSED:
        plugin = ""
    else:
        raise _unknown_syntax(path, syntax)
    if syntax.is_encapsulated and syntax != uid.RLELossless:
        stream = get_frame(ds.PixelData, 0, number_of_frames=1)
        if _stream_size(stream) != (ds.Columns, ds.Rows):  # decoders allocate the stream's size
            raise ValueError("the stream has another size than the image")
    return pixel_array(ds, index=0, decoding_plugin=plugin, correct_unused_bits=False)


def _stream_size(stream: bytes) -> tuple[int, int]:
    """Columns and rows in the header of a compressed stream; ValueError if a JPEG is cut short."""
    if not stream.startswith(b"\xff\xd8"):
        with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
            return image.size
    image_file.check_scans(stream)
    at, size = 2, (0, 0)
    while stream[at + 1] != SCAN:
        if stream[at + 1] in FRAMES:
            height, width = stream[at + 5 : at + 7], stream[at + 7 : at + 9]
            size = int.from_bytes(width), int.from_bytes(height)
        # A marker may be preceded by any number of fill bytes, each 0xFF.
        at += 1 if stream[at + 1] == FILL else 2 + int.from_bytes(stream[at + 2 : at + 4])
    if END not in stream[at:]:
        raise ValueError("the stream has no end")  # decoders would return half an image
    return size


def _to_rgb(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    """Stored values (H, W) or (H, W, 3) -> uint8 RGB (H, W, 3)."""
    kind = ds.PhotometricInterpretation
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        return np.repeat(grey_as_displayed(stored, ds)[..., None], 3, axis=2)
    if kind == "PALETTE COLOR":
        stored = apply_color_lut(stored, ds)[..., :3]
    elif kind != "RGB" and not kind.startswith("YBR_"):
        raise ValueError("unknown photometric interpretation")
    if stored.dtype == np.uint8:
        return stored
    return scale_to_uint8(stored, *value_range(stored, deep=True))

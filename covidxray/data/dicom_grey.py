"""From the decoded pixels of a DICOM file to the grey that a viewer shows (PS3.3 C.11, PS3.5 8).

pydicom 3.0 has functions for look-up tables and windows, but its window inverts an image with a
negative rescale slope, and its table of 8 bits uses only the last 8 bits of a value.
"""

import math
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from covidxray.data.grey import scale_to_uint8, value_range

WORD = 2**16  # number of values that the 16 bits of an entry or a descriptor can have


class _Lut(NamedTuple):
    """A look-up table; values below its first have the first entry, those beyond its end the last.

    `first` is the value that the first entry is for; each entry has this number of `bits`.
    """

    first: int
    entries: np.ndarray
    bits: int

    def apply(self, values: np.ndarray) -> np.ndarray:
        index = (values - self.first).clip(0, len(self.entries) - 1)
        return self.entries[index.astype(np.intp)]


def keep_stored_bits(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """Remove the bits of integers (H, W) or (H, W, 3) that are not part of a value; extend signs.

    In native and RLE data, a value may be anywhere in its word. In a JPEG stream it cannot.
    """
    if pixels.dtype.kind == "f":
        return pixels
    unused = max(0, 8 * pixels.itemsize - ds.BitsStored)
    syntax = ds.file_meta.TransferSyntaxUID
    in_words = not syntax.is_encapsulated or syntax.name == "RLE Lossless"
    below = int(ds.get("HighBit", ds.BitsStored - 1)) + 1 - ds.BitsStored if in_words else 0
    return (pixels << (unused - below)) >> unused if 0 <= below <= unused else pixels


def grey_as_displayed(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    """Stored grey values (H, W) -> uint8 (H, W), bright where a viewer is bright.

    They go through the modality LUT or the rescaling, and then through the first VOI LUT, or else
    the first window, or else are scaled to their own range (`grey.value_range`). MONOCHROME1
    is inverted, and padding becomes black (PS3.3 C.7.6.3, C.7.5.1.1.2, C.11.1, C.11.2).
    """
    signed = stored.dtype.kind != "u"
    padding = _is_padding(stored, ds)
    values = stored.astype(np.float64)
    if modality := _first_lut(ds, "ModalityLUTSequence", signed):
        values, signed = modality.apply(values), False
    elif (slope := _number(ds, "RescaleSlope")) is not None:
        slope, intercept = slope or 1.0, _number(ds, "RescaleIntercept") or 0.0
        values = values * slope + intercept
        limits = np.array([-1, 1] if signed else [0, 1]) * 2.0 ** ds.get("BitsStored", 16)
        signed = bool((limits * slope + intercept).min() < 0)
    if voi := _first_lut(ds, "VOILUTSequence", signed):
        grey = scale_to_uint8(voi.apply(values), 0, 2**voi.bits - 1)
    elif (windowed := _apply_window(values, ds)) is not None:
        grey = scale_to_uint8(windowed, 0, 1)
    else:
        grey = scale_to_uint8(values, *value_range(values[~padding], deep=stored.itemsize > 1))
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _is_padding(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    """Which pixels (H, W) are padding; their limits may be given with or without a sign."""
    limits = [_number(ds, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if limits[0] is None or stored.dtype.kind == "f":
        return np.zeros(stored.shape, bool)
    size = 2**ds.BitsAllocated
    ends = [int(limits[0] if limit is None else limit) % size for limit in limits]
    if stored.dtype.kind == "i":
        ends = [end - size if end >= size // 2 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _first_lut(ds: Dataset, sequence: str, signed: bool) -> _Lut | None:
    """The first usable table of a sequence; `signed` if values below 0 can enter it."""
    for item in ds.get(sequence) or ():
        descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
        if not descriptor or len(descriptor) != 3 or data is None or not np.size(data):
            continue
        length, first, bits = (int(number) % WORD for number in descriptor)
        entries = _lut_entries(data, length or WORD, little_endian=bool(ds.original_encoding[1]))
        if len(entries):
            first -= WORD if signed and first >= WORD // 2 else 0
            return _Lut(first, entries, max(bits % 17, int(entries.max()).bit_length(), 1))
    return None


def _lut_entries(data: bytes | int | list[int], length: int, little_endian: bool) -> np.ndarray:
    """The entries of a table, float64 (length,); without sign, and at times two in a word."""
    if isinstance(data, bytes):
        wide = len(data) >= 2 * length
        order = "<" if little_endian else ">"
        return np.frombuffer(data, f"{order}u2" if wide else "u1")[:length].astype(np.float64)
    words = (np.atleast_1d(data).astype(np.int64) % WORD).astype("<u2")
    packed = len(words) < length <= 2 * len(words)
    return (words.view("u1") if packed else words)[:length].astype(np.float64)


def _apply_window(values: np.ndarray, ds: Dataset) -> np.ndarray | None:
    """Values (H, W) through the first window, from 0 to 1; None without a usable window."""
    centre, width = _number(ds, "WindowCenter"), _number(ds, "WindowWidth")
    function = str(ds.get("VOILUTFunction", "LINEAR")).strip().upper()
    exact = function in ("SIGMOID", "LINEAR_EXACT")
    if centre is None or width is None or width <= 0 or (width < 1 and not exact):
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if not exact:
        centre, width = centre - 0.5, max(width - 1, 1e-9)
    return ((values - centre) / width + 0.5).clip(0, 1)


def _number(ds: Dataset, name: str) -> float | None:
    """The first value of an element; None if it is absent, empty or not a finite number."""
    try:
        value = float(np.ravel(ds.get(name))[0])
    except (IndexError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None

"""Decode any image file to uint8 RGB (224, 224, 3)."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from covidxray.data import SIZE, image_file
from covidxray.data.grey import is_blank, scale_to_uint8, value_range
from covidxray.data.image_file import Facts, ImageFile
from covidxray.data.image_statistics import ImageStatistics, measure_image
from covidxray.errors import InputError
from covidxray.files import atomic_write

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP")  # Pillow starts programs for some others
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262  # numbers of tags
PNG_CHANNELS = (2, 4, 6)  # colour types with several channels: RGB, grey and alpha, RGB and alpha
JPEG_TABLE_SUM = 3688  # of the luminance table for quality 50 (ITU-T T.81, table K.1)


def read_image(path: Path | ImageFile, size: int = SIZE) -> np.ndarray:
    """The pixels of an image file, uint8 RGB (size, size, 3); see `ImageFile.read` and `decode`."""
    return decode(ImageFile.read(path), size)[0]


def read_mask(path: Path) -> np.ndarray:
    """A lung mask from an image file, bool (224, 224); see `read_image` for size and errors."""
    return read_image(path)[..., 0] > 127


def read_with_statistics(path: Path | ImageFile) -> tuple[np.ndarray, ImageStatistics]:
    """The pixels of an image file, as `read_image` returns or refuses them, and its statistics.

    Raises InputError for a blank image as well, which no model can learn from or be tested on.
    """
    file = ImageFile.read(path)
    pixels, facts = decode(file)
    if is_blank(pixels):
        raise InputError(f"{file.path}: is blank or nearly blank; remove it")
    return pixels, measure_image(pixels, facts)


def decode(file: ImageFile, size: int = SIZE) -> tuple[np.ndarray, Facts]:
    """Decode an image and resize it to a square without keeping its aspect, as the tutorial does.

    Grey, palette, alpha and CMYK images become RGB. Values of more than 8 bits are scaled to their
    own range (`grey.value_range`). The EXIF orientation is applied. A DICOM file is decoded
    as a viewer shows it (`dicom.decode`).

    Returns:
        uint8 array of shape (size, size, 3), RGB, and `ImageFile.facts`.

    Raises:
        InputError: the file cannot be decoded or has too many pixels.
    """
    if file.is_dicom:
        from covidxray.data import dicom  # importing pydicom would slow down --help

        pixels, facts = dicom.decode(file)
    else:
        pixels, facts = _decode_with_pillow(file, size)
    interpolation = cv2.INTER_AREA if min(pixels.shape[:2]) >= size else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (size, size), interpolation=interpolation)
    return cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small, facts


def _decode_with_pillow(file: ImageFile, size: int) -> tuple[np.ndarray, Facts]:
    try:
        with (
            image_file.strict_warnings,
            Image.open(io.BytesIO(file.content), formats=FORMATS) as image,
        ):
            facts = _facts_of(image, file)
            if image.format == "PNG":  # loading a PNG does not verify its check sums
                Image.open(io.BytesIO(file.content), formats=("PNG",)).verify()
            elif image.format in ("JPEG", "MPO"):
                image_file.check_scans(file.content)
                # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, but at twice `size` or more:
                # the last step of scaling by less would change pixels four times as much.
                image.draft(None, (2 * size, 2 * size))
            image.load()
            deep = _is_deep_colour(image, file.content)
            loaded = _read_deep_colour(image, file.content) if deep else image
            ImageOps.exif_transpose(loaded, in_place=True)
            return _grey_or_rgb(loaded), facts
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{file.path}: has too many pixels; scale it down") from error
    except Exception as error:  # damage makes Pillow raise many types, such as IndexError
        message = "is not an image that can be decoded; remove it"
        raise InputError(f"{file.path}: {message}") from error


def _facts_of(image: Image.Image, file: ImageFile) -> Facts:
    """The facts of an image that was opened but not loaded."""
    luminance = getattr(image, "quantization", {}).get(0)  # a table that only JPEG has
    percent = 100 * sum(luminance or []) / JPEG_TABLE_SUM
    quality = 100 - percent / 2 if percent <= 100 else 5000 / percent
    deep = "16" in image.mode or _is_deep_colour(image, file.content)
    bits = {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if deep else 8)
    shape, channels = (image.height, image.width), len(image.getbands())
    return file.facts(shape, str(image.format), bits, channels, quality if luminance else 0)


def _is_deep_colour(image: Image.Image, content: bytes) -> bool:
    """Whether an image has several channels of 16 bits, of which Pillow would keep 8."""
    if image.format == "PNG":
        return content[24] == 16 and content[25] in PNG_CHANNELS
    bits = getattr(image, "tag_v2", {}).get(TIFF_BITS, ())
    return isinstance(bits, tuple) and len(bits) > 1 and max(bits) == 16


def _read_deep_colour(image: Image.Image, content: bytes) -> Image.Image:
    """The same image, with all its bits scaled to 8 and transparent parts black, as RGB."""
    stored = np.frombuffer(content, np.uint8)
    deep = np.asarray(cv2.imdecode(stored, cv2.IMREAD_UNCHANGED), np.float64)
    colours = deep[..., 2::-1] * (deep[..., 3:] / 65535 if deep.shape[2] == 4 else 1)
    pixels = scale_to_uint8(colours, *value_range(colours, deep=True))
    scaled = Image.fromarray(pixels)
    scaled.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return scaled


def _grey_or_rgb(image: Image.Image) -> np.ndarray:
    """uint8, (H, W, 3) or, for a grey image, (H, W), which is resized in a third of the time."""
    if image.mode[0] in "IF":  # Pillow would clip grey of 16 and 32 bits at 255
        grey = np.asarray(image)
        limits = value_range(grey, deep=True)
        shown = scale_to_uint8(grey.astype(np.float64), *limits)
        white_is_zero = getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == 0
        return 255 - shown if white_is_zero else shown
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) as a PNG file, completely or not at all (`files.atomic_write`)."""
    with atomic_write(path) as part:
        part.write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())

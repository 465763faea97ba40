"""Any image file -> uint8 RGB (224, 224, 3)."""

import warnings
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image, ImageOps

from covidxray.errors import InputError

SIZE = 224
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
# One picture at another size and JPEG quality differs in at most 8 of the 256 bits of its hash, the
# pictures of two patients in at least 44 (benchmarks/duplicate_distance.py, 599 real radiographs).
DUPLICATE_BITS = 24


def read_image(path: Path, size: int = SIZE) -> np.ndarray:
    """Decode an image and squeeze it to a square, as the tutorial does.

    Grey, palette, alpha and CMYK become RGB; more than 8 bits are stretched from the darkest to the
    brightest pixel; the EXIF orientation is applied.

    Returns:
        uint8 array of shape (size, size, 3), RGB.

    Raises:
        InputError: the file is not a whole image that can be decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                image = ImageOps.exif_transpose(image)
                pixels = _eight_bit_rgb(image)
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is not an image that can be decoded; remove it") from error
    except Image.DecompressionBombWarning as error:
        raise InputError(f"{path}: has too many pixels; scale it down") from error
    shrink = pixels.shape[0] >= size and pixels.shape[1] >= size
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=interpolation)


def _eight_bit_rgb(image: Image.Image) -> np.ndarray:
    if image.mode[0] in "IF":  # 16-bit and 32-bit grey, which Pillow would clip at 255
        grey = np.asarray(image, dtype=np.float64)
        low, high = grey.min(), grey.max()
        grey = (grey - low) * (255 / max(high - low, 1e-9))
        return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


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

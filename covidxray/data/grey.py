"""The range of an image's values, and the same image in 8 bits."""

import cv2
import numpy as np

CONTRAST = 5.0  # standard deviation of grey, of 255, below which an image is blank


def value_range(values: np.ndarray, deep: bool) -> tuple[float, float]:
    """The values that become black and white in an image that does not say: its lowest and highest.

    NaN and infinity do not count. In a `deep` image, of more than 8 bits, whose highest value lies
    farther above the 99.9th percentile than that lies above the lowest value, such as that of a
    marker, the percentile becomes white. Raises ValueError if no value is finite.
    """
    usable = np.isfinite(values)
    finite = values if usable.all() else values[usable]
    low, high = float(finite.min()), float(finite.max())
    top = float(np.percentile(finite, 99.9)) if deep else high
    return low, top if high - top > top - low else high


def scale_to_uint8(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale numbers of any shape so that `low` becomes 0 and `high` 255, uint8; NaN becomes 0."""
    scaled = np.nan_to_num((values - low) * (255 / max(high - low, 1e-9)), copy=False)
    return scaled.round(out=scaled).clip(0, 255, out=scaled).astype(np.uint8)


def is_blank(pixels: np.ndarray) -> bool:
    """Whether an image, uint8 RGB (H, W, 3), has hardly any contrast."""
    _, deviation = cv2.meanStdDev(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    return bool(deviation[0, 0] < CONTRAST)

"""Masks of lungs, as arrays: read, enlarged, compared, and whether they can be a pair of lungs.

No Keras here.
"""

from pathlib import Path

import cv2
import numpy as np

from covidxray.files import on_disk
from covidxray.images import SIZE, read_image

# Set by eye on frontal and lateral X-rays; how often they hold: benchmarks/segmenter.py.
AREA = (0.08, 0.62)  # of the picture, both lungs together
SMALLER = 0.18  # the smaller lung's area by the larger one's, at least
HEIGHT = 0.6  # difference of the lungs' centres by the taller one's height, at most
SLACK = 0.15  # of the two lungs' area that other, smaller pieces may have
BRIDGE = 15  # pixels: what joins two parts is cut where it is narrower


def read_mask(path: Path) -> np.ndarray:
    """A mask of lungs from an image file: bool (224, 224), squeezed as `read_image` squeezes.

    Raises:
        InputError: the file is not an image that can be decoded.
    """
    with on_disk(path) as file:
        return read_image(file)[..., 0] > 127


def enlarge(logits: np.ndarray) -> np.ndarray:
    """Logits (h, w), lungs above 0, as a mask of the picture: bool (224, 224)."""
    return cv2.resize(logits.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two bool masks of one shape (Dice 1945): 0 apart, 1 the same."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def is_pair_of_lungs(mask: np.ndarray) -> bool:
    """Whether a bool mask (H, W) can be the lungs of a frontal X-ray: two parts beside each other,
    neither too small, at about one height, with little else."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BRIDGE, BRIDGE))
    parted = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, brush)
    n, _, stats, centres = cv2.connectedComponentsWithStats(parted)
    if n < 3:
        return False
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA])
    areas = stats[order, cv2.CC_STAT_AREA] / mask.size
    first, second = order[:2]
    (x, y), (other_x, other_y) = centres[first], centres[second]
    boxes = stats[[first, second]]
    tall = boxes[:, cv2.CC_STAT_HEIGHT].max()
    half = boxes[:, cv2.CC_STAT_WIDTH].max() / 2
    return bool(
        AREA[0] <= areas[:2].sum() <= AREA[1]
        and areas[1] >= SMALLER * areas[0]
        and areas[2:].sum() <= SLACK * areas[:2].sum()
        and abs(x - other_x) >= half
        and abs(y - other_y) <= HEIGHT * tall
    )


def share_inside(heat: np.ndarray, mask: np.ndarray) -> float:
    """The share of heat (H, W) inside a bool mask (H, W); NaN if there is no heat."""
    total = float(heat.sum())
    return float(heat[mask].sum()) / total if total else float("nan")

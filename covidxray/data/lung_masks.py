"""Lung masks as arrays: read, enlarge and compare them; how much heat lies in the lungs."""

import cv2
import numpy as np

from covidxray.data import SIZE
from covidxray.data.prefetch import ordered_map

CENTRAL_SIDE = 0.7  # the central part of an image, as a fraction of its width and its height
# Limits of `is_pair_of_lungs`, set by eye on X-rays; benchmarks/segmenter.py counts exceptions.
AREA = (0.08, 0.62)  # area of both lungs, as a fraction of the image
SMALLER = 0.18  # minimum area of the smaller lung, as a fraction of the larger one
HEIGHT = 0.6  # maximum vertical distance of the centres, as a fraction of the taller lung's height
SLACK = 0.15  # maximum area of all other parts, as a fraction of both lungs
NO_LUNGS = "no pair of lungs found"  # warning of an image
BRIDGE = 15  # pixels; narrower connections between two parts are removed


def enlarge(logits: np.ndarray) -> np.ndarray:
    """Logits (h, w), positive in the lungs, as a mask of the image: bool (224, 224)."""
    return cv2.resize(logits.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two bool masks of one shape (Dice 1945), from 0 for none to 1 for equal masks."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def is_pair_of_lungs(mask: np.ndarray) -> bool:
    """Whether a bool mask (H, W) can show the lungs of a frontal X-ray.

    It has two parts of plausible area side by side at about the same height, and little else.
    """
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BRIDGE, BRIDGE))
    separated = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, brush)
    n, _, stats, centres = cv2.connectedComponentsWithStats(separated)
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


def find_pairs(logits: np.ndarray) -> np.ndarray:
    """Whether logits (N, h, w) of N images, positive in the lungs, show a pair: (N,) bool."""
    return np.array(list(ordered_map(lambda one: is_pair_of_lungs(enlarge(one)), logits)), bool)


def heat_in_mask(heat: np.ndarray, mask: np.ndarray) -> float:
    """The fraction of heat (H, W) inside a bool mask (H, W); NaN if there is no heat."""
    total = float(heat.sum())
    return min(1.0, float(heat[mask].sum()) / total) if total else float("nan")


def heat_in_centre(heat: np.ndarray) -> float:
    """The fraction of heat (224, 224) in the central part; NaN if there is no heat.

    Heat that is spread evenly has a fraction of `CENTRAL_SIDE` squared.
    """
    edge = round(SIZE * (1 - CENTRAL_SIDE) / 2)
    total = float(heat.sum())
    return float(heat[edge:-edge, edge:-edge].sum()) / total if total else float("nan")

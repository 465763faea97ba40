"""Put the lungs of one chest X-ray into another one.

The box around the donor's lungs is scaled and shifted onto that of the host's lungs, and blended
in over the lungs of both. The method of this project; that blacking the lungs out leaves data sets
as easy to tell apart was shown by Maguolo & Nanni, Information Fusion 76 (2021) 1-7.
"""

from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 5  # pixels by which the lungs are enlarged before they are blended
BLUR = 3.0  # standard deviation of the blending, in pixels


@dataclass(frozen=True)
class LungPicture:
    """A picture, uint8 RGB (H, W, 3), and where its lungs are, bool (H, W), not empty."""

    pixels: np.ndarray
    lungs: np.ndarray


def transplant(donor: LungPicture, host: LungPicture) -> LungPicture:
    """The host's picture with the lungs of the donor; both have the same height and width."""
    (x, y, width, height), target = (
        cv2.boundingRect(picture.lungs.astype(np.uint8)) for picture in (donor, host)
    )
    across, down = target[2] / width, target[3] / height
    # Pixels are squares: the left edge of the first one is at -0.5.
    shift_x = target[0] - 0.5 - across * (x - 0.5)
    shift_y = target[1] - 0.5 - down * (y - 0.5)
    matrix = np.array([[across, 0, shift_x], [0, down, shift_y]])
    size = host.lungs.shape[::-1]
    moved = cv2.warpAffine(donor.pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    lungs = cv2.warpAffine(donor.lungs.astype(np.float32), matrix, size) > 0.5
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN + 1, 2 * MARGIN + 1))
    area = cv2.dilate((lungs | host.lungs).astype(np.float32), brush)
    weight = cv2.GaussianBlur(area, (0, 0), BLUR)[..., None]
    mixed = weight * moved + (1 - weight) * host.pixels
    return LungPicture(np.rint(mixed).astype(np.uint8), lungs if lungs.any() else host.lungs)

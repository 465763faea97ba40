"""What speaks for and against the lungs: rows of AUCs, and pictures of the transplant test."""

from pathlib import Path

import numpy as np

from covidxray.data.images import save_png
from covidxray.errors import printable
from covidxray.pipeline.runs import TransplantPicture, TransplantRun

GAP = 4  # white columns between two pictures


def side_by_side(picture: TransplantPicture) -> np.ndarray:
    """The untouched image, its lungs in the reference's chest, and the reference's lungs in its own
    chest: uint8 RGB (224, 680, 3)."""
    gap = np.full((len(picture.untouched), GAP, 3), 255, np.uint8)
    parts = (picture.untouched, gap, picture.own_lungs, gap, picture.fixed_lungs)
    return np.concatenate(parts, axis=1)


def save_pictures(folder: Path | None, run: TransplantRun | None) -> None:
    """Write the pictures of a transplant test as PNG files, if there are a folder and a test."""
    if folder and run:
        for k, picture in enumerate(run.pictures, start=1):
            name = printable(picture.name.replace("/", "-"))[:60]
            save_png(folder / f"{k:02d}-{name}.png", side_by_side(picture))

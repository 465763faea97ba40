"""What speaks for and against the lungs: rows of AUCs, and pictures of the transplant test."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from covidxray.data.images import save_png
from covidxray.errors import printable
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.strata import StratifiedScores
from covidxray.pipeline.runs import TransplantPicture, TransplantRun
from covidxray.report.plots import TRAINING, VALIDATION, Picture, as_picture

GAP = 4  # white columns between two pictures


def evidence_rows(
    region: str,
    strata: StratifiedScores | None,
    transplants: TransplantRun | None,
    baselines: Mapping[str, Estimate],
) -> dict[str, Estimate]:
    """The AUCs that explain a score, by name: within strata, with exchanged lungs, of baselines."""
    rows: dict[str, Estimate] = {}
    if transplants:
        rows |= transplants.regions[region].by_name
    if strata and region in strata.areas:
        rows[f"within strata of {' and '.join(strata.known)}"] = strata.areas[region]
    return rows | dict(baselines)


def draw_forest(
    rows: Mapping[str, Estimate], measure: str = "AUC", chance: float | None = 0.5
) -> Picture:
    """Draw values of a measure with their intervals, one below the other, and its chance level."""
    figure = Figure(figsize=(8.4, 0.9 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, estimate in enumerate(rows.values()):
        axes.plot([estimate.low, estimate.high], [y, y], color=TRAINING, lw=3)
        axes.plot(estimate.value, y, marker="D", color="#1a1a1a", ms=6)
        axes.text(1.04, y, estimate.short, va="center", fontsize="small", clip_on=False)
    if chance is not None:
        axes.axvline(chance, color=VALIDATION, lw=1, ls=":")
    axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
    label = measure if chance is None else f"{measure} (dotted: chance)"
    axes.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
    axes.grid(axis="x", alpha=0.3)
    said = "; ".join(f"{name}: {estimate.short}" for name, estimate in rows.items())
    return as_picture(figure, f"{measure}, with 95 % intervals. {said}.")


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

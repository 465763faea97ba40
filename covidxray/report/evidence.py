"""What speaks for and against the lungs: rows of AUCs, and pictures of the transplant test."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from covidxray.data.images import save_png
from covidxray.errors import printable
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.regions import REGION_NAMES, RegionComparison
from covidxray.evaluation.strata import StratifiedScores
from covidxray.pipeline.runs import TransplantPicture, TransplantRun
from covidxray.report.picture import BLUE, ORANGE, Picture

GAP = 4  # white columns between two pictures
Groups = Mapping[str, Mapping[str, Estimate | None]]  # group -> name -> value, None: not defined


def group_evidence(
    region: str,
    auc: Mapping[str, Estimate],
    strata: StratifiedScores | None,
    regions: RegionComparison | None,
    transplants: TransplantRun | None,
    baselines: Mapping[str, Estimate],
) -> Groups:
    """The AUC of a model that uses `region`, and all AUCs that explain it."""
    groups: dict[str, Mapping[str, Estimate | None]] = {"Model": auc}
    if strata:
        known = f" of {' and '.join(strata.known)}" if strata.known else ""
        groups["Model"] = {**auc, f"within strata{known}": strata.areas.get(region)}
    if regions:
        groups["Regions"] = {name: getattr(regions, key) for key, name in REGION_NAMES.items()}
    if transplants:
        groups["Exchanged lungs"] = transplants.regions[region].by_name
    return groups | {"Baselines": baselines}


def draw_forest(groups: Groups, measure: str = "AUC", chance: float | None = 0.5) -> Picture:
    """Draw values of a measure with their intervals, each group below its name, and its chance
    level; a group named "" has no heading."""
    lines = [line for group, rows in groups.items() for line in ((group, None), *rows.items())]
    lines = [(name, estimate) for name, estimate in lines if name]
    figure = Figure(figsize=(8.4, 0.7 + 0.26 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for y, (name, estimate) in enumerate(lines):
        weight, told = ("bold", "") if name in groups else ("normal", short(estimate))
        axes.text(-0.02, y, name, ha="right", va="center", weight=weight, parse_math=False)
        axes.text(1.02, y, told, va="center", fontsize="small")
        if estimate:
            axes.plot([estimate.low, estimate.high], [y, y], color=BLUE, lw=3)
            axes.plot(estimate.value, y, marker="D", color="#1a1a1a", ms=6)
    if chance is not None:
        axes.axvline(chance, color=ORANGE, lw=1, ls=":")
    label = measure if chance is None else f"{measure} (dotted: chance)"
    axes.set(xlim=(0, 1), ylim=(len(lines) - 0.5, -0.5), yticks=[], xlabel=label)
    axes.grid(axis="x", alpha=0.3)
    said = [
        f"{group}{': ' if group else ''}"
        + "; ".join(f"{name}: {short(one)}" for name, one in rows.items())
        for group, rows in groups.items()
    ]
    return Picture(figure, f"{measure}, with 95 % intervals. {'. '.join(said)}.")


def short(estimate: Estimate | None) -> str:
    """A value and its interval with two digits, or that there is none."""
    return estimate.short if estimate else "not defined"


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

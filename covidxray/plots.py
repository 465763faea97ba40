"""Pictures of numbers: plot.png, and the curves of the report, each with its numbers in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from covidxray.metrics import clopper_pearson

TRAINING, VALIDATION = "#0072b2", "#d55e00"  # a pair that the colour-blind can tell apart
HEAT = 0.65  # opacity of the hottest pixel over the X-ray
BINS = np.linspace(0, 1, 6)  # of the reliability diagram; more would be empty in sets this small
# Colours are never alone: each line has its own dashes and mark.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": TRAINING, "linestyle": "-", "marker": "o"},
    {"color": VALIDATION, "linestyle": "--", "marker": "s"},
    {"color": "#007a5a", "linestyle": "-.", "marker": "^"},
)
OUTLINE = (255, 214, 0)  # RGB, of the lungs


@dataclass(frozen=True)
class Scored:
    """One set of predictions to draw.

    Attributes:
        name: what they are of, such as "held-out images".
        y_true: (N,) bool, True for the positive class.
        y_score: (N,) or (repeats, N) probability of the positive class.
    """

    name: str
    y_true: np.ndarray
    y_score: np.ndarray


@dataclass(frozen=True)
class Picture:
    """A drawing as the bytes of an SVG file, and what it shows in words and numbers."""

    svg: bytes
    alt: str


def plot_history(history: dict[str, list[float]], title: str, note: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs, training and validation, into a PNG.

    Args:
        history: `loss`, `val_loss`, `accuracy`, `val_accuracy`, one value an epoch.
        note: a line under the picture.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _history(axes, history, key)
    figure.suptitle(title, parse_math=False)  # a folder's name may hold a $
    figure.supxlabel(note, fontsize="small")
    figure.savefig(path, dpi=150)


def draw_history(history: dict[str, list[float]], key: str) -> Picture:
    """`loss` or `accuracy` over the epochs; see `plot_history`."""
    figure, axes = _small()
    _history(axes, history, key)
    first, last = ([history[name][i] for name in (key, f"val_{key}")] for i in (0, -1))
    return _picture(
        figure,
        f"{key.capitalize()} over {len(history[key])} epochs: training from {first[0]:.2f} to "
        f"{last[0]:.2f}, validation from {first[1]:.2f} to {last[1]:.2f}.",
    )


def _history(axes: Axes, history: dict[str, list[float]], key: str) -> None:
    epochs = np.arange(1, len(history[key]) + 1)
    axes.plot(epochs, history[key], color=TRAINING, marker=".", label="training")
    axes.plot(
        epochs, history[f"val_{key}"], color=VALIDATION, marker=".", ls="--", label="validation"
    )
    axes.set(xlabel="Epoch", title=key.capitalize())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_ylim(0, 1.05 if key == "accuracy" else None)


def mean_roc(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve of each of R repeats at common points.

    The area under the mean of the curves is the mean of their areas, ties included.

    Args:
        y_true: (N,) bool, both values present.
        y_score: (N,) or (R, N).

    Returns:
        False positive rates (M,), and the repeats' true positive rates there (R, M).
    """
    n = int((~y_true).sum())
    # A step is upright at a multiple of 1 / n: its foot and its head lie a hair to either side.
    rates = np.sort(np.concatenate([np.arange(n + 1) / n + side for side in (-1e-9, 1e-9)]))
    curves = []
    for row in np.atleast_2d(y_score):
        false, true, _ = roc_curve(y_true, row, drop_intermediate=False)
        curves.append(np.interp(rates, false, true, left=0, right=1))
    return rates.clip(0, 1), np.array(curves)


def draw_roc(scored: Sequence[Scored], title: str = "ROC", band: bool = True) -> Picture:
    """ROC curves; of repeats their vertical average, in the `band` from the lowest to the highest
    if one is wanted."""
    figure, axes = _small()
    axes.plot([0, 1], [0, 1], color="#767676", lw=1, ls=":", label="chance, AUC 0.50")
    said = []
    for one, style in zip(scored, cycle(STYLES), strict=False):
        rates, curves = mean_roc(one.y_true, one.y_score)
        mean = curves.mean(axis=0)
        area = float(np.trapezoid(mean, rates))
        line = {**style, "marker": None}
        axes.plot(rates, mean, label=f"{one.name}, AUC {area:.2f}", **line)
        if band and len(curves) > 1:
            ends = curves.min(axis=0), curves.max(axis=0)
            axes.fill_between(rates, *ends, color=style["color"], alpha=0.18, lw=0)
        at = np.interp((0.1 + 2e-9, 0.2 + 2e-9), rates, mean)  # the head of a step, if it is one
        said.append(
            f"{one.name}: area {area:.2f}; sensitivity {at[0]:.2f} at a false positive rate of "
            f"0.10, {at[1]:.2f} at 0.20"
        )
    axes.set(xlabel="False positive rate (1 - specificity)", ylabel="Sensitivity", title=title)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _legend(figure, axes)
    return _picture(figure, f"ROC curves. {'. '.join(said)}.")


def draw_calibration(scored: Sequence[Scored]) -> Picture:
    """Reliability diagram with exact 95 % intervals, and under it how many images each bin holds.

    Repeats are pooled; an image counts as one, shared out over the bins that its repeats fall in.
    """
    figure = Figure(figsize=(4.4, 5.2), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="#767676", lw=1, ls=":", label="calibrated")
    said = []
    for i, (one, style) in enumerate(zip(scored, cycle(STYLES), strict=False)):
        scores = np.atleast_2d(one.y_score)
        which = np.digitize(scores, BINS[1:-1])
        weight = np.ones_like(scores) / len(scores)
        counts, hits, mean = (
            np.bincount(which.ravel(), (weight * of).ravel(), minlength=len(BINS) - 1)
            for of in (1, one.y_true, scores)
        )
        full = counts > 0
        x, share = mean[full] / counts[full], hits[full] / counts[full]
        bounds = [clopper_pearson(k, n) for k, n in zip(hits[full], counts[full], strict=True)]
        reach = np.abs(np.transpose(bounds) - share)
        axes.errorbar(x, share, reach, label=one.name, capsize=3, ms=5, **style)
        width = 0.16 / len(scored)
        left = BINS[:-1] + 0.02 + i * width
        hatch = "" if i == 0 else "////"
        bars = below.bar(left, counts, width, align="edge", color="white", hatch=hatch)
        for bar in bars:
            bar.set_edgecolor(style["color"])
        below.bar_label(bars, [f"{n:g}" for n in counts.round(1)], fontsize=7, padding=1)
        parts = zip(x, share, counts[full].round(1), strict=True)
        said.append(
            f"{one.name}: "
            + ", ".join(f"{p:.2f} predicted and {s:.2f} found in {n:g}" for p, s, n in parts)
        )
    axes.set(ylabel="Share of images that are positive", title="Calibration")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    below.set(xlabel="Predicted probability", ylabel="Images")
    below.margins(y=0.3)
    _legend(figure, axes)
    return _picture(
        figure,
        f"Calibration, mean probability against share of positives by bin. {'. '.join(said)}.",
    )


def _small() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")  # a phone's width at its own size
    return figure, figure.subplots()


def _legend(figure: Figure, axes: Axes) -> None:
    axes.grid(alpha=0.3)
    lines = axes.get_legend_handles_labels()
    legend = figure.legend(*lines, loc="outside lower center", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)


def _picture(figure: Figure, alt: str) -> Picture:
    file = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "covidxray"}):  # the same picture, the same bytes
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Picture(file.getvalue(), alt)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image, uint8 RGB (H, W, 3), with heat (H, W) from 0 to 1 upon it; no heat, no colour."""
    colour = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    opacity = HEAT * heat[..., None]
    return (image * (1 - opacity) + colour * opacity).round().astype(np.uint8)


def outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image, uint8 RGB (H, W, 3), with the border of a bool mask (H, W) drawn on it."""
    borders, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), borders, -1, OUTLINE, 1)

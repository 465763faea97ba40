"""Draw plot.png, the curves of the report with a description of each, and heat on X-rays."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
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

from covidxray.errors import printable
from covidxray.evaluation.calibration import BINS, calibration_curve
from covidxray.evaluation.recalibration import class_weights
from covidxray.report.picture import BLUE, ORANGE, Picture

TRAINING, VALIDATION = BLUE, ORANGE
HEAT = 0.65  # opacity of the hottest pixel over the X-ray
# Each line also has its own dashes and marker, so that colour is not the only difference.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": TRAINING, "linestyle": "-", "marker": "o"},
    {"color": VALIDATION, "linestyle": "--", "marker": "s"},
    {"color": "#007a5a", "linestyle": "-.", "marker": "^"},
)
OUTLINE = (255, 214, 0)  # colour of the outline of the lungs, RGB


@dataclass(frozen=True)
class NamedScores:
    """What one curve is drawn of.

    `y_true`, bool (N,), is whether an image is of the positive class, and `y_score`, float64 (N,)
    or (repeats, N), its score. `probability`, of the same shape, is `y_score` if it is not given.
    `weights` are those of `calibration.calibration_curve`; without them, positive and negative
    images have the same sum.
    """

    name: str
    y_true: np.ndarray
    y_score: np.ndarray
    probability: np.ndarray | None = None
    weights: np.ndarray | None = None


def plot_history(history: dict[str, list[float]], title: str, note: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs into a file, whose suffix decides the format.

    `history` has `loss`, `val_loss`, `accuracy` and `val_accuracy`, with one value for each epoch.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _history(axes, history, key)
    figure.suptitle(title, parse_math=False)  # a folder name may contain a $
    figure.supxlabel(note, fontsize="small")
    figure.savefig(path, dpi=150)


def draw_history(history: dict[str, list[float]], key: str) -> Picture:
    """Draw one `key`, "loss" or "accuracy", of a history as in `plot_history`."""
    figure, axes = _small()
    _history(axes, history, key)
    training, validation = history[key], history[f"val_{key}"]
    return Picture(
        figure,
        f"{key.capitalize()} over {len(training)} epochs: training from {training[0]:.2f} to "
        f"{training[-1]:.2f}, validation from {validation[0]:.2f} to {validation[-1]:.2f}.",
    )


def _history(axes: Axes, history: dict[str, list[float]], key: str) -> None:
    training, validation = history[key], history[f"val_{key}"]
    epochs = np.arange(1, len(training) + 1)
    axes.plot(epochs, training, color=TRAINING, marker=".", label="training")
    axes.plot(epochs, validation, color=VALIDATION, marker=".", ls="--", label="validation")
    axes.set(xlabel="Epoch", title=key.capitalize())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_ylim(0, 1.05 if key == "accuracy" else None)


def mean_roc(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Common false positive rates (M,) of R repeats, and their true positive rates there (R, M).

    The area under the mean of the curves equals the mean of their areas, also where scores tie.
    `y_true` (N,) bool has both values; `y_score` is (N,) or (R, N) float64.
    """
    n = int((~y_true).sum())
    # The curves rise vertically at multiples of 1 / n: sample just before and just after each.
    rates = np.sort(np.concatenate([np.arange(n + 1) / n + side for side in (-1e-9, 1e-9)]))
    curves = []
    for row in np.atleast_2d(y_score):
        false, true, _ = roc_curve(y_true, row, drop_intermediate=False)
        curves.append(np.interp(rates, false, true, left=0, right=1))
    return rates.clip(0, 1), np.array(curves)


def draw_roc(scored: Sequence[NamedScores], title: str = "ROC", band: bool = True) -> Picture:
    """Draw ROC curves: of repeats their vertical average and, with `band`, their whole range."""
    figure, axes = _small()
    axes.plot([0, 1], [0, 1], color="#767676", lw=1, ls=":", label="chance, AUC 0.50")
    said = []
    for one, style in zip(scored, cycle(STYLES), strict=False):
        rates, curves = mean_roc(one.y_true, one.y_score)
        mean = curves.mean(axis=0)
        area = float(np.trapezoid(mean, rates))
        axes.plot(rates, mean, label=f"{one.name}, AUC {area:.2f}", **style | {"marker": None})
        if band and len(curves) > 1:
            low, high = curves.min(axis=0), curves.max(axis=0)
            axes.fill_between(rates, low, high, color=style["color"], alpha=0.18, lw=0)
        at = np.interp((0.1 + 2e-9, 0.2 + 2e-9), rates, mean)  # after the step
        said.append(
            f"{one.name}: area {area:.2f}; sensitivity {at[0]:.2f} at a false positive rate of "
            f"0.10, {at[1]:.2f} at 0.20"
        )
    axes.set(xlabel="False positive rate (1 - specificity)", ylabel="Sensitivity", title=title)
    _finish(figure, axes)
    return Picture(figure, f"ROC curves. {'. '.join(said)}.")


def draw_calibration(scored: Sequence[NamedScores]) -> Picture:
    """Draw calibration curves with exact 95 % intervals, and the number of images in each bin.

    The numbers are those of `calibration.calibration_curve`, in which repeats are pooled.
    """
    figure = Figure(figsize=(4.4, 5.2), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="#767676", lw=1, ls=":", label="calibrated")
    said = []
    for i, (one, style) in enumerate(zip(scored, cycle(STYLES), strict=False)):
        weights = class_weights(one.y_true) if one.weights is None else one.weights
        probability = one.y_score if one.probability is None else one.probability
        curve = calibration_curve(one.y_true, probability, weights)
        left = (np.arange(BINS) + 0.1 + 0.8 * i / len(scored)) / BINS
        hatch, edge = "////" if i else "", style["color"]
        height, width = [b.count for b in curve], 0.8 / BINS / len(scored)
        looks = {"align": "edge", "color": "white", "edgecolor": edge, "hatch": hatch}
        bars = below.bar(left, height, width, **looks)
        labels = [f"{round(b.count, 1):g}" if b.count else "" for b in curve]
        below.bar_label(bars, labels, fontsize=7, padding=1)
        curve = [b for b in curve if b.count]
        x, share = np.array([(b.predicted, b.observed) for b in curve]).T
        reach = np.abs(np.array([(b.low, b.high) for b in curve]).T - share)
        axes.errorbar(x, share, reach, label=one.name, capsize=3, ms=5, **style)
        numbers = [
            f"{b.predicted:.2f} predicted and {b.observed:.2f} found in {round(b.count, 1):g}"
            for b in curve
        ]
        said.append(f"{one.name}: {', '.join(numbers)}")
    axes.set(ylabel="Share of positives,\nclasses equally common", title="Calibration")
    below.set(xlabel="Predicted probability", ylabel="Images")
    below.margins(y=0.3)
    _finish(figure, axes)
    return Picture(
        figure,
        f"Calibration, mean probability against share of positives by bin. {'. '.join(said)}.",
    )


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], name: str) -> Picture:
    """Draw a confusion matrix, int64 (C, C) with a row for each true class, of the images `name`.

    The darker a cell, the larger is its share of the true class.
    """
    side = 2.4 + max(2.0, 0.8 * len(classes))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=2)  # black letters can be read on every cell
    said = []
    for row, truth in enumerate(classes):
        for column, found in enumerate(classes):
            share = f"{matrix[row, column]}\n({shares[row, column]:.2f})"
            axes.text(column, row, share, ha="center", va="center")
            said.append(f"{matrix[row, column]} of {truth} classified as {found}")
    ticks, labels = range(len(classes)), [printable(one)[:20] for one in classes]
    axes.set_xticks(ticks, labels, rotation=20 if len(classes) > 2 else 0, parse_math=False)
    axes.set_yticks(ticks, labels, rotation=90, va="center", parse_math=False)
    axes.set(xlabel="Classified as (share of the true class)", ylabel="Truth")
    axes.set_title(f"Confusion matrix, {name}", fontsize="medium")
    return Picture(figure, f"Confusion matrix, {name}. {', '.join(said)}.")


def _small() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")  # fits the width of a phone
    return figure, figure.subplots()


def _finish(figure: Figure, axes: Axes) -> None:
    """Give axes from 0 to 1 their limits, grid and legend."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    lines = axes.get_legend_handles_labels()
    legend = figure.legend(*lines, loc="outside lower center", fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Blend heat, (H, W) from 0 to 1, into an image, uint8 RGB (H, W, 3); 0 leaves it as it is."""
    colour = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    opacity = HEAT * heat[..., None]
    return (image * (1 - opacity) + colour * opacity).round().astype(np.uint8)


def outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the border of a mask, bool (H, W), on a copy of an image, uint8 RGB (H, W, 3)."""
    borders, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), borders, -1, OUTLINE, 1)


def jpeg_address(image: np.ndarray) -> str:
    """The `data_address` of an image, uint8 RGB (H, W, 3), as a JPEG."""
    encoded = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 88))[1]
    return data_address("jpeg", encoded.tobytes())


def data_address(kind: str, content: bytes) -> str:
    """An address that holds a picture itself; `kind` is its MIME type after "image/"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

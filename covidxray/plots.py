"""plot.png: how the training went."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TRAINING, VALIDATION = "#0072b2", "#d55e00"  # a pair that the colour-blind can tell apart


def plot_history(history: dict[str, list[float]], title: str, note: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs, training and validation, into a PNG.

    Args:
        history: `loss`, `val_loss`, `accuracy`, `val_accuracy`, one value an epoch.
        note: a line under the picture.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, key, name in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True
    ):
        axes.plot(epochs, history[key], color=TRAINING, marker=".", label="training")
        axes.plot(epochs, history[f"val_{key}"], color=VALIDATION, marker=".", label="validation")
        axes.set(xlabel="Epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
        axes.set_ylim(0, 1.05 if key == "accuracy" else None)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize="small")
    figure.savefig(path, dpi=150)

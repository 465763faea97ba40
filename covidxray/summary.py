"""What a run found, gathered for the terminal, for JSON and for the report."""

import json
import math
import platform
import textwrap
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from covidxray.audit import Audit
from covidxray.classifier import Prediction
from covidxray.dataset import Dataset
from covidxray.gradcam import NOTE, central_share
from covidxray.masks import share_inside
from covidxray.metrics import CrossValidation, Estimate, Evaluation
from covidxray.modelfile import About
from covidxray.plots import Scored
from covidxray.report import Case, Content, count_exclusions
from covidxray.validation import Validation
from covidxray.where import NAMES

PACKAGES = ("keras", "numpy", "opencv-python", "pillow", "scikit-learn")
DRAWINGS = "These images are drawings: the numbers say nothing about COVID-19."
SHOWN = 4  # cases of each kind in the gallery


def versions() -> dict[str, str]:
    """The versions that numbers depend on; Keras' backend, which is in use, among them."""
    names = (*PACKAGES, keras.config.backend())
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def describe_data(data: Dataset) -> dict[str, Any]:
    """A data set's facts for JSON."""
    return {
        "name": data.name,
        "classes": data.classes,
        "sha256": data.sha256,
        "images": np.bincount(data.labels, minlength=len(data.classes)),
        "patients": len(np.unique(data.groups)),
        "synthetic": data.synthetic,
        "left_out": len(data.left_out),
    }


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write results, NumPy arrays and paths among them, as JSON."""
    text = json.dumps(
        results, indent=1, default=lambda x: x.tolist() if hasattr(x, "tolist") else str(x)
    )
    path.write_text(text, encoding="utf-8")


def compare(name: str, auc: Estimate | None, audit: Audit) -> str:
    """The model's area beside the strongest shortcut's, in a sentence."""
    best = audit.best
    shortcut = f"{best.what} reaches {best.auc.short}"
    if auc is None:
        return f"Of the shortcuts, {shortcut}."
    sentence = f"The model's {name}AUC is {auc.short}; {shortcut}."
    if audit.alarm and best.auc.value >= auc.low:
        sentence += " The shortcut does as well: the model need not have looked at a lung."
    return sentence


def format_shortcut(audit: Audit, sentence: str) -> str:
    """The shortcut's lines on the terminal, in 80 columns."""
    lines = [f"best shortcut auc: {audit.best.auc}  {audit.best.name}"]
    return "\n".join([*lines, *textwrap.wrap(sentence, 80), *textwrap.wrap(audit.verdict, 80)])


def model_card(about: About) -> dict[str, str]:
    """A model's facts in words."""
    return {
        "classes": ", ".join(about.classes),
        "positive class": f"{about.positive}, from a probability of {about.threshold:.3f}",
        "recipe": f"{about.recipe}, pooled over the {NAMES[about.pool]}",
        "trained on": f"{len(about.trained_on)} images"
        + (" (drawings)" if about.synthetic else ""),
        **about.card,
        "intended for": "learning and research; never for patients",
    }


@dataclass
class Gallery:
    """The surest right and wrong cases of a stream of predictions, and the mean shares of heat in
    the lungs and in the central part of the picture."""

    classes: tuple[str, ...]
    positive: int
    right: list[tuple[float, Case]] = field(default_factory=list)
    wrong: list[tuple[float, Case]] = field(default_factory=list)
    shares: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, name: str, truth: int, prediction: Prediction) -> None:
        """Offer one case for the gallery."""
        centre = central_share(prediction.heat)
        inside = share_inside(prediction.heat, prediction.lungs)
        if not math.isnan(centre):
            self.shares.append((centre, inside, float(prediction.lungs.mean())))
        sure = float(prediction.probabilities[prediction.label])
        chosen = self.right if truth == prediction.label else self.wrong
        if len(chosen) == SHOWN and sure <= chosen[-1][0]:
            return
        probability = float(prediction.probabilities[self.positive])
        called = self.classes[prediction.label]
        case = Case(
            name,
            prediction.image,
            prediction.heat,
            self.classes[truth],
            called,
            probability,
            prediction.lungs,
            inside,
        )
        chosen.append((sure, case))
        chosen.sort(key=lambda pair: -pair[0])
        del chosen[SHOWN:]

    @property
    def cases(self) -> list[Case]:
        """The wrong ones first."""
        return [case for _, case in self.wrong + self.right]

    @property
    def centre(self) -> float | None:
        """Mean share of heat in the central part; None if no image had any heat."""
        return float(np.mean(self.shares, axis=0)[0]) if self.shares else None

    @property
    def inside(self) -> float | None:
        """Mean share of heat in the lungs; None if no image had any heat."""
        return float(np.mean(self.shares, axis=0)[1]) if self.shares else None

    @property
    def note(self) -> str:
        """What the mean shares are, and what an even heat would give."""
        if self.centre is None:
            return NOTE
        centre, inside, area = np.mean(self.shares, axis=0)
        return (
            f"On average {inside:.0%} of the heat lies in the lungs, which are {area:.0%} of the "
            f"picture, and {centre:.0%} in the central part. {NOTE}"
        )


def shares(scores: Evaluation | CrossValidation, prefix: str = "") -> dict[str, Estimate]:
    """Accuracy, sensitivity and specificity by name, but for what is undefined."""
    names = ("accuracy", "sensitivity", "specificity")
    found = {prefix + name: getattr(scores, name) for name in names}
    return {name: estimate for name, estimate in found.items() if estimate}


def validation_report(
    data: Dataset,
    positive: int,
    probabilities: np.ndarray,
    result: Validation,
    gallery: Gallery,
    about: About,
    audit: Audit | None,
    sentence: str,
    pools: list[Scored],
) -> Content:
    """The report of a saved model on other images; `probabilities` (N, C) are of `data`."""
    headline = {"AUC": result.auc} if result.auc else {}
    headline |= shares(result.evaluation)
    if not result.auc and result.false_positive_rate:
        headline["false-positive rate"] = result.false_positive_rate
    headline |= result.fixed
    headline |= {"Brier score": result.calibration.brier}
    headline |= {"expected calibration error": result.calibration.error}
    return Content(
        title=f"A saved model on {data.name}",
        synthetic=data.synthetic or about.synthetic,
        positive=about.positive,
        classes=data.classes,
        headline=headline,
        sentence=sentence,
        evaluation=result.evaluation,
        evaluated="this data set",
        scored=[Scored("this data set", data.labels == positive, probabilities[:, positive])],
        pools=pools,
        history=None,
        audit=audit,
        cases=gallery.cases,
        heat_note=gallery.note,
        subgroups=result.subgroups,
        data=data,
        exclusions=count_exclusions(data),
        notes={},
        model=model_card(about),
        limits=[],
    )

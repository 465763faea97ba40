"""report.html: what a run found, in one file that needs nothing else and no network."""

import base64
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from covidxray import claim, plots
from covidxray.cli import DISCLAIMER
from covidxray.dataset import Dataset
from covidxray.manifest import read_exclusions
from covidxray.metrics import Estimate, Evaluation
from covidxray.plots import Scored
from covidxray.validation import Subgroup


@dataclass(frozen=True)
class Case:
    """One image with what the model made of it.

    Attributes:
        name: class/file.
        image: uint8 (224, 224, 3), RGB.
        heat: float (224, 224), 0 to 1.
        truth, called: classes.
        probability: of the positive class.
        lungs: bool (224, 224), where they were found.
        inside: share of the heat in the lungs; NaN without any heat.
    """

    name: str
    image: np.ndarray
    heat: np.ndarray
    truth: str
    called: str
    probability: float
    lungs: np.ndarray
    inside: float


@dataclass(frozen=True)
class Content:
    """All that a report shows; a section whose part is None or empty is left out.

    Attributes:
        headline: printed name -> estimate, in order.
        sentence: the model's number next to the shortcut's.
        pools: the scores of each pooling on the same images; empty where there is one class.
        evaluation: of the images that `evaluated` names.
        audit: has `baselines`, the strongest first (each with `name`, `what`, `auc`, `p_value`),
            and as texts of a line or more `verdict`, `advice` and `findings`.
        heat_note: what the mean share of heat is, and what an even heat would give.
        exclusions: class, reason, number of images; see `count_exclusions`.
        notes, model: name -> text, more lines of the data card, and the model card.
        limits: sentences beside those that hold for every run.
    """

    title: str
    synthetic: bool
    positive: str
    classes: tuple[str, ...]
    headline: dict[str, Estimate]
    sentence: str
    evaluation: Evaluation | None
    evaluated: str
    scored: list[Scored]
    pools: list[Scored]
    history: dict[str, list[float]] | None
    audit: Any
    cases: list[Case]
    heat_note: str
    subgroups: list[Subgroup]
    data: Dataset
    exclusions: list[tuple[str, str, int]]
    notes: dict[str, str]
    model: dict[str, str]
    limits: list[str]


def write_report(path: Path, content: Content) -> None:
    """Write the page."""
    # A file's name may hold bytes that are no character: they become question marks.
    path.write_text(render(content), encoding="utf-8", errors="replace")


def render(content: Content) -> str:
    """The page, in which everything that comes from files is escaped."""
    return _ENVIRONMENT.get_template("report.html.j2").render(
        c=content,
        disclaimer=DISCLAIMER,
        pictures=_pictures(content),
        called=[f"called {name}" for name in content.classes],
        per_class=_per_class(content),
        cases=[
            (
                case,
                _jpeg(plots.outline(case.image, case.lungs)),
                _jpeg(plots.outline(plots.overlay(case.image, case.heat), case.lungs)),
            )
            for case in content.cases
        ],
        traits=_traits(content.data),
        licences=Counter((row.source, row.license) for row in content.data.rows).most_common(),
        topics=claim.TOPICS,
        answers=claim.answers(content),
        prevalence=float((content.data.labels == content.classes.index(content.positive)).mean()),
    )


def count_exclusions(data: Dataset) -> list[tuple[str, str, int]]:
    """Class, reason and number of the images that the builders, or this run, left out."""
    folders = {path.parent.name: path.parent for path in data.paths}
    reason = "cannot be read, or in no class folder"
    here = [("any", reason, len(data.left_out))] if data.left_out else []
    return here + [
        (name, reason, n)
        for name in data.classes
        if name in folders
        for reason, n in Counter(reason for _, reason in read_exclusions(folders[name])).items()
    ]


def _pictures(content: Content) -> list[tuple[str, str, str]]:
    """Address, description and caption of each curve."""
    drawn = []
    if content.history:
        for key in ("loss", "accuracy"):
            caption = f"{key.capitalize()} on training and held-out images, epoch by epoch."
            drawn.append((plots.draw_history(content.history, key), caption))
    if both := [one for one in content.scored if 0 < one.y_true.sum() < len(one.y_true)]:
        caption = "A number of images as small as this makes a curve of few steps."
        if any(one.y_score.ndim > 1 for one in both):
            caption = (
                "Of the cross-validation: the repeats' vertical average. Band: from the lowest to "
                "the highest repeat, which is not the uncertainty from having few patients."
            )
        drawn.append((plots.draw_roc(both), caption))
    if content.pools:
        caption = (
            "The same head on the same maps: of the whole picture, of the lungs alone, and of all "
            "but the lungs. Where the last does as well, the model need not look at a lung."
        )
        title = "ROC by where the model may look"
        drawn.append((plots.draw_roc(content.pools, title, band=False), caption))
    if content.scored:
        caption = (
            "In a calibrated model the share of positives is the probability. Bars: exact 95 % "
            "intervals at the number of images in the bin, which stands below."
        )
        drawn.append((plots.draw_calibration(content.scored), caption))
    return [(_data_uri("svg+xml", picture.svg), picture.alt, text) for picture, text in drawn]


def _per_class(content: Content) -> list[tuple[str, list[int], float, float, float]]:
    """Class, its row of the confusion matrix, precision, recall and F1; 0 where undefined."""
    if content.evaluation is None:
        return []
    matrix = content.evaluation.confusion
    hits, called, true = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    scores = (hits / called.clip(1), hits / true.clip(1), 2 * hits / (called + true).clip(1))
    return list(zip(content.classes, matrix.tolist(), *map(np.ndarray.tolist, scores), strict=True))


def _traits(data: Dataset) -> dict[str, list[str]]:
    """What is known of each class's images: trait -> one text a class."""
    table: dict[str, list[str]] = {}
    for label in range(len(data.classes)):
        rows = [data.rows[i] for i in np.flatnonzero(data.labels == label)]
        ages = [age for row in rows if (age := _number(row.age)) is not None]
        known = f"median {np.median(ages):g}, {min(ages):g} to {max(ages):g}; " if ages else ""
        texts = {
            "Images": str(len(rows)),
            "Patients": str(len(np.unique(data.groups[data.labels == label]))),
            "Source": _tally(row.source for row in rows),
            "View": _tally(row.view for row in rows),
            "Sex": _tally(row.sex.upper() for row in rows),
            "Age, years": f"{known}known of {len(ages)}",
        }
        for trait, text in texts.items():
            table.setdefault(trait, []).append(text)
    return table


def _tally(values: Iterable[str]) -> str:
    return ", ".join(f"{value or 'not stated'} {n}" for value, n in Counter(values).most_common())


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _jpeg(rgb: np.ndarray) -> str:
    encoded = cv2.imencode(".jpg", rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 88))[1]
    return _data_uri("jpeg", encoded.tobytes())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _estimate(value: Estimate | None) -> str:
    if value is None or math.isnan(value.value):
        return "no value"
    return value.short


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["estimate"] = _estimate

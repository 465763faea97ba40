"""Write the report of a run: one HTML file that holds its pictures and needs no network."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from covidxray import DISCLAIMER, DRAWINGS
from covidxray.audit.result import AuditResult
from covidxray.data.dataset import Dataset
from covidxray.data.lung_masks import CENTRAL_SIDE
from covidxray.data.manifest import read_exclusions
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.metrics import ClassificationScores, CrossValidationScores, Subgroup
from covidxray.evaluation.regions import RegionComparison
from covidxray.pipeline.runs import Gallery, TrainingRun, TransplantRun
from covidxray.report import evidence, plots, sentences, text
from covidxray.report.figures import FigureContent, draw_curves, training_figures
from covidxray.report.picture import Picture

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata


@dataclass(frozen=True)
class ReportContent(FigureContent):
    """Everything that a report shows; a section whose part is None or empty is left out.

    Attributes:
        sentence: compares the model with the best shortcut; "" without an audit.
        verdict: whether the lungs matter, and what else may explain the score; "" without both
            classes.
        transplants: whose pictures are shown.
        history: as for `plots.plot_history`; None where nothing was trained.
        notes: further rows of the data card, name -> text.
    """

    title: str
    headline: dict[str, Estimate]
    sentence: str
    verdict: str
    transplants: TransplantRun | None
    audit: AuditResult | None
    regions: RegionComparison | None
    gallery: Gallery
    metadata: "ModelMetadata"
    history: dict[str, list[float]] | None = None
    subgroups: Sequence[Subgroup] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, page: str) -> None:
    """Write a page; bytes of file names that are not valid text become question marks."""
    path.write_text(page, encoding="utf-8", errors="replace")


def training_content(
    run: TrainingRun, metadata: "ModelMetadata", gallery: Gallery
) -> ReportContent:
    """What the report of a training run shows; `metadata` is that of the model that it saved, and
    `gallery` is of held-out images that did not train that model."""
    headline = defined_scores(run.holdout.scores, "held-out ")
    if run.cross_validation:
        scores = run.cross_validation.scores
        headline = defined_scores(scores, "cross-validated ") | headline
        headline = {"cross-validated AUC": scores.auc} | headline
    headline |= run.predictive_values
    notes = {"Copies across patients": f"{run.copies} images, each kept on one side of a split"}
    if run.lung_dice:
        notes["Lungs found, against the masks that came with the images"] = f"Dice {run.lung_dice}"
    return ReportContent(
        **vars(training_figures(run)),
        title=f"Training on {run.data.name}",
        headline=headline,
        sentence=text.training_sentence(run),
        verdict=sentences.audit_verdict(run.audit, text.describe_run(run)),
        transplants=run.transplants,
        history=run.holdout.history,
        audit=run.audit,
        regions=run.regions,
        gallery=gallery,
        notes=notes,
        metadata=metadata,
    )


def render(content: ReportContent) -> str:
    """The page as HTML, in which all text from files and names is escaped."""
    data, rows, metadata = content.data, content.data.rows, content.metadata
    return _ENVIRONMENT.get_template("report.html.j2").render(
        c=content,
        drawings=DRAWINGS if data.synthetic or metadata.synthetic else "",
        model=text.model_card(metadata),
        curves=_curves(content),
        per_class=_per_class(content),
        traits=_traits(data),
        sources=sorted({row.source or "not stated" for row in rows}),
        licences=Counter((row.source, row.license) for row in rows).most_common(),
        exclusions=count_exclusions(data),
    )


def render_comparison(
    rows: Sequence[tuple[str, ...]], forests: Mapping[str, Picture], texts: Sequence[str]
) -> str:
    """A page that compares data sets: a table, forest plots by measure, and each one's text."""
    page = _ENVIRONMENT.get_template("comparison.html.j2")
    return page.render(rows=rows, forests=forests, texts=texts)


def count_exclusions(data: Dataset) -> list[tuple[str, str, int]]:
    """Class, reason and number of the images that the builders, or this run, left out."""
    folders = {path.parent.name: path.parent for path in data.paths}
    found = [("any", "cannot be read, or in no class folder") for _ in data.left_out]
    for name in data.classes:
        if name in folders:
            found += [(name, reason) for _, reason in read_exclusions(folders[name])]
    return [(name, reason, n) for (name, reason), n in Counter(found).items()]


def defined_scores(
    scores: ClassificationScores | CrossValidationScores, prefix: str = ""
) -> dict[str, Estimate]:
    """Accuracy, sensitivity and specificity by name, without those that are undefined."""
    names = ("accuracy", "sensitivity", "specificity")
    return {prefix + name: found for name in names if (found := getattr(scores, name))}


def _curves(content: ReportContent) -> dict[str, Picture]:
    """The curves by their kind; the template has a caption for each kind."""
    drawn: dict[str, Picture] = {}
    if content.history:
        drawn |= {key: plots.draw_history(content.history, key) for key in ("loss", "accuracy")}
    return drawn | draw_curves(content)


def _per_class(content: ReportContent) -> list[tuple[str, list[int], float, float, float]]:
    """Class, its row of the confusion matrix, precision, recall and F1; 0 where undefined."""
    if content.evaluation is None:
        return []
    matrix = content.evaluation.confusion
    hits, predicted, true = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    scores = (hits / predicted.clip(1), hits / true.clip(1), 2 * hits / (predicted + true).clip(1))
    names = content.data.classes
    return list(zip(names, matrix.tolist(), *map(np.ndarray.tolist, scores), strict=True))


def _traits(data: Dataset) -> dict[str, list[str]]:
    """What is known of each class's images: trait -> one text for each class."""
    table: dict[str, list[str]] = {}
    for label in range(len(data.classes)):
        rows = [data.rows[i] for i in np.flatnonzero(data.labels == label)]
        ages = [age for row in rows if math.isfinite(age := _number(row.age))]
        known = f"median {np.median(ages):g}, {min(ages):g} to {max(ages):g}; " if ages else ""
        for trait, cell in (
            ("Images", str(len(rows))),
            ("Patients", str(len(np.unique(data.groups[data.labels == label])))),
            ("Source", _tally(row.source for row in rows)),
            ("View", _tally(row.view for row in rows)),
            ("Sex", _tally(row.sex.upper() for row in rows)),
            ("Age, years", f"{known}known of {len(ages)}"),
        ):
            table.setdefault(trait, []).append(cell)
    return table


def _tally(values: Iterable[str]) -> str:
    return ", ".join(f"{value or 'not stated'} {n}" for value, n in Counter(values).most_common())


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals.update(
    text=text,
    sentences=sentences,
    plots=plots,
    side_by_side=evidence.side_by_side,
    disclaimer=DISCLAIMER,
    central_side=CENTRAL_SIDE,
)

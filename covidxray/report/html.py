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
from covidxray.evaluation.recalibration import class_weights
from covidxray.evaluation.regions import REGION_NAMES, RegionComparison
from covidxray.pipeline.runs import Gallery, TrainingRun, TransplantRun
from covidxray.report import evidence, plots, sentences, text
from covidxray.report.plots import NamedScores, Picture

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows; a section whose part is None or empty is left out.

    Attributes:
        sentence: compares the model with the best shortcut; "" without an audit.
        verdict: whether the lungs matter, and what else may explain the score; "" without both
            classes.
        evidence: AUCs that the figure on top shows, by name.
        transplants: whose pictures are shown.
        scored: the scores whose ROC and calibration curves are drawn.
        evaluation: of the images of the last of `scored`.
        region_scores: the scores from each region, whose ROC curves are drawn.
        history: as for `plots.plot_history`; None where nothing was trained.
        notes: further rows of the data card, name -> text.
    """

    title: str
    headline: dict[str, Estimate]
    sentence: str
    verdict: str
    evidence: Mapping[str, Estimate]
    transplants: TransplantRun | None
    evaluation: ClassificationScores | None
    scored: list[NamedScores]
    region_scores: list[NamedScores]
    audit: AuditResult | None
    regions: RegionComparison | None
    gallery: Gallery
    data: Dataset
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
    data, holdout, cross_validation = run.data, run.holdout, run.cross_validation
    labels, found = data.labels[holdout.test], holdout.probabilities[:, run.positive]
    is_positive, weights = labels == run.positive, class_weights(labels)
    scored = [NamedScores("held-out images", is_positive, found, weights=weights)]
    headline = defined_scores(holdout.scores, "held-out ")
    region_scores = []
    if cross_validation:
        truth, scores = cross_validation.is_positive, cross_validation.scores
        method = text.describe_cross_validation(cross_validation)
        own, weights = (
            cross_validation.region_scores[run.config.region],
            class_weights(cross_validation.labels),
        )
        one = NamedScores(method, truth, own, cross_validation.probabilities, weights)
        scored.insert(0, one)
        region_scores = scores_by_region(truth, cross_validation.region_scores)
        headline = defined_scores(scores, "cross-validated ") | headline
        headline = {"cross-validated AUC": scores.auc} | headline
    headline |= run.predictive_values
    notes = {"Copies across patients": f"{run.copies} images, each kept on one side of a split"}
    if run.lung_dice:
        notes["Lungs found, against the masks that came with the images"] = f"Dice {run.lung_dice}"
    return ReportContent(
        title=f"Training on {data.name}",
        headline=headline,
        sentence=text.training_sentence(run),
        verdict=sentences.audit_verdict(run.audit, text.describe_run(run)),
        evidence=training_evidence(run),
        transplants=run.transplants,
        evaluation=holdout.scores,
        scored=scored,
        region_scores=region_scores,
        history=holdout.history,
        audit=run.audit,
        regions=run.regions,
        gallery=gallery,
        data=data,
        notes=notes,
        metadata=metadata,
    )


def training_evidence(run: TrainingRun) -> dict[str, Estimate]:
    """The AUCs that explain a run's score, by name; empty without cross-validation."""
    if not run.cross_validation:
        return {}
    shortcut = {f"best shortcut, {run.audit.best.name}": run.audit.best.auc}
    rows = evidence.evidence_rows(run.config.region, run.strata, run.transplants, shortcut)
    return {"cross-validated": run.cross_validation.scores.auc} | rows


def render(content: ReportContent) -> str:
    """The page as HTML, in which all text from files and names is escaped."""
    data, rows, metadata = content.data, content.data.rows, content.metadata
    return _ENVIRONMENT.get_template("report.html.j2").render(
        c=content,
        drawings=DRAWINGS if data.synthetic or metadata.synthetic else "",
        model=text.model_card(metadata),
        curves=_curves(content),
        forest=evidence.draw_forest(content.evidence) if content.evidence else None,
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


def scores_by_region(is_positive: np.ndarray, scores: dict[str, np.ndarray]) -> list[NamedScores]:
    """The scores of each region under its name; arguments as for `regions.compare_regions`."""
    return [NamedScores(REGION_NAMES[key], is_positive, y) for key, y in scores.items()]


def _curves(content: ReportContent) -> dict[str, Picture]:
    """The curves by their kind; the template has a caption for each kind."""
    drawn: dict[str, Picture] = {}
    if content.history:
        drawn |= {key: plots.draw_history(content.history, key) for key in ("loss", "accuracy")}
    if both := [one for one in content.scored if 0 < one.y_true.sum() < len(one.y_true)]:
        drawn["roc"] = plots.draw_roc(both)
    if content.region_scores:
        drawn["regions"] = plots.draw_roc(content.region_scores, "ROC by region", band=False)
    if content.scored:
        drawn["calibration"] = plots.draw_calibration(content.scored)
    return drawn


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

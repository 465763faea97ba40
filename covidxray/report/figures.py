"""The figures of a run, for the report and as files of their own."""

from dataclasses import dataclass, replace
from pathlib import Path

from covidxray import DISCLAIMER, DRAWINGS
from covidxray.data.dataset import Dataset
from covidxray.errors import printable
from covidxray.evaluation.metrics import ClassificationScores
from covidxray.evaluation.recalibration import class_weights
from covidxray.evaluation.regions import REGION_NAMES
from covidxray.files import atomic_writes
from covidxray.pipeline.runs import TrainingRun
from covidxray.process import info
from covidxray.report import evidence, plots, text
from covidxray.report.evidence import Groups
from covidxray.report.picture import Picture
from covidxray.report.plots import NamedScores

NAMES = ("forest", "roc", "regions", "calibration", "confusion")
TEXTS = "plots.txt"


@dataclass(frozen=True)
class FigureContent:
    """What the figures of a run show; a figure whose part is None or empty is left out.

    Attributes:
        evidence: AUCs of the forest plot.
        scored: the scores whose ROC and calibration curves are drawn.
        region_scores: the scores from each region, whose ROC curves are drawn.
        evaluation: of the images of the last of `scored`.
    """

    data: Dataset
    evidence: Groups
    scored: list[NamedScores]
    region_scores: list[NamedScores]
    evaluation: ClassificationScores | None


def training_figures(run: TrainingRun) -> FigureContent:
    """What the figures of a training run show."""
    labels, region = run.data.labels[run.holdout.test], run.config.region
    found, weights = run.holdout.probabilities[:, run.positive], class_weights(labels)
    scored = [NamedScores("held-out images", labels == run.positive, found, weights=weights)]
    region_scores: list[NamedScores] = []
    groups: Groups = {}
    if validated := run.cross_validation:
        truth, by_region = validated.is_positive, validated.region_scores
        method, weights = text.describe_cross_validation(validated), class_weights(validated.labels)
        own, found = by_region[region], validated.probabilities
        scored.insert(0, NamedScores(method, truth, own, found, weights))
        region_scores = [NamedScores(REGION_NAMES[key], truth, y) for key, y in by_region.items()]
        auc = {"cross-validated": validated.scores.auc}
        shortcut = {f"best shortcut, {run.audit.best.name}": run.audit.best.auc}
        parts = run.strata, run.regions, run.transplants
        groups = evidence.group_evidence(region, auc, *parts, shortcut)
    return FigureContent(run.data, groups, scored, region_scores, run.holdout.scores)


def draw_curves(content: FigureContent) -> dict[str, Picture]:
    """The ROC and calibration curves that can be drawn, by name."""
    drawn: dict[str, Picture] = {}
    if both := [one for one in content.scored if 0 < one.y_true.sum() < len(one.y_true)]:
        drawn["roc"] = plots.draw_roc(both)
    if content.region_scores:
        drawn["regions"] = plots.draw_roc(content.region_scores, "ROC by region", band=False)
    if content.scored:
        drawn["calibration"] = plots.draw_calibration(content.scored)
    return drawn


def draw_figures(content: FigureContent) -> dict[str, Picture]:
    """All figures of `NAMES` that can be drawn, by name."""
    drawn = draw_curves(content)
    if content.evidence:
        drawn["forest"] = evidence.draw_forest(content.evidence)
    if content.evaluation:
        matrix, name = content.evaluation.confusion, content.scored[-1].name
        drawn["confusion"] = plots.draw_confusion(matrix, content.data.classes, name)
    return {name: drawn[name] for name in NAMES if name in drawn}


def save_training_figures(folder: Path | None, run: TrainingRun) -> None:
    """Write the figures of a training run (`save_figures`), if there is a folder for them."""
    if folder:
        content = training_figures(run)
        save_figures(folder, content, run.data.synthetic, "there is no cross-validation")


def save_figures(folder: Path, content: FigureContent, drawings: bool, reason: str) -> None:
    """Write each figure as PNG and as SVG, and what they show as `TEXTS`: all of them, or none.

    Files of a figure that cannot be drawn, for the `reason`, are removed if `TEXTS` shows that they
    are of another run. With `drawings`, each figure says that its numbers mean nothing.
    """
    drawn, filled_before = draw_figures(content), (folder / TEXTS).exists()
    left_out = [name for name in NAMES if name not in drawn]
    lines = [str(content.data), DISCLAIMER]
    with atomic_writes() as output:
        for name, picture in drawn.items():
            if drawings:
                picture.figure.suptitle(DRAWINGS, fontsize="x-small")
                picture = replace(picture, alt=f"{picture.alt} {DRAWINGS}")
            lines.append(f"{name}.png, {name}.svg: {picture.alt}")
            for suffix, image in (("png", picture.png), ("svg", picture.svg)):
                with output(folder / f"{name}.{suffix}") as path:
                    path.write_bytes(image)
        if left_out:
            lines.append(f"Left out: {', '.join(left_out)}: {reason}.")
            info(f"--plots: left out {', '.join(left_out)}: {reason}")
        told = "\n\n".join(text.wrap(printable(line)) for line in lines)
        with output(folder / TEXTS) as path:
            path.write_text(f"{told}\n", encoding="utf-8")
    for name in left_out if filled_before else ():
        for suffix in ("png", "svg"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)

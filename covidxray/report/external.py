"""The evaluation of a saved model on labelled images as text, as JSON and as HTML."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from covidxray.evaluation.calibration import BINS
from covidxray.evaluation.external_scores import ExternalScores
from covidxray.evaluation.metrics import Subgroup
from covidxray.evaluation.recalibration import class_weights
from covidxray.pipeline.external_run import ExternalRun
from covidxray.report import html, results, sentences, text
from covidxray.report.plots import NamedScores


def format_text(run: ExternalRun) -> str:
    """The evaluation of a saved model: known images, scores, regions and shortcuts."""
    trained, also = run.trained_images, run.trained_patients & ~run.trained_images
    lines = []
    if trained.any() or also.any():
        lines.append(
            f"TRAINED ON: {trained.sum()} of these images were trained on, and {also.sum()} more "
            "are of\npatients trained on. The numbers are too good by them; see the subgroups."
        )
    lines.append(f"unlike the training images: {run.warnings} of {len(run.data)}")
    if run.strata:
        lines.append(f"\n{text.format_strata(run.strata, run.metadata.positive)}")
    rule = text.describe_threshold(run.metadata.positive, run.metadata.threshold)
    lines.append(f"\n{text.wrap(f'classified as {rule}:')}\n")
    lines.append(format_scores(run.scores, run.data.classes))
    lines.append(text.format_predictive_values(run.predictive_values).rstrip())
    if run.regions:
        lines.append(f"\n{text.format_regions(run.regions)}\n")
    if run.audit:
        lines.append(text.format_shortcut(run.audit, _sentence(run), run.regions))
    elif run.regions:
        lines.append(sentences.describe_regions(run.regions))
    return "\n".join(lines)


def _sentence(run: ExternalRun) -> str:
    if run.audit is None:
        return ""
    return sentences.compare_with_shortcut("", run.scores.auc, run.audit, run.versus_shortcut)


def json_results(run: ExternalRun) -> dict[str, Any]:
    """The JSON of an evaluation of a saved model: its numbers and what they depend on."""
    images, patients = run.trained_images.sum(), run.trained_patients.sum()
    return {
        "dataset": results.describe_data(run.data, run.copies),
        "model": {"file": run.model.name, **text.model_card(run.metadata)},
        "trained_on": {"images": images, "of_patients": patients},
        "unlike_the_training_images": run.warnings,
        "heat_in_centre": run.gallery.heat_in_centre,
        "heat_in_lungs": run.gallery.heat_in_lungs,
        "pairs_of_lungs": run.pairs_of_lungs,
        "regions": run.regions and asdict(run.regions),
        "strata": run.strata and asdict(run.strata),
        **asdict(run.scores),
        "predictive_values": {name: asdict(e) for name, e in run.predictive_values.items()},
        "versus_shortcut": run.versus_shortcut and asdict(run.versus_shortcut),
        "shortcuts": run.audit and results.audit_results(run.audit, run.regions),
        "versions": results.library_versions(),
    }


def report_content(run: ExternalRun) -> html.ReportContent:
    """What the HTML report of an evaluation shows."""
    data, scores = run.data, run.scores
    is_positive, y_score = data.labels == run.positive, run.probabilities[:, run.positive]
    weights = class_weights(data.labels)
    headline = html.defined_scores(scores.evaluation)
    if scores.auc:
        headline = {"AUC": scores.auc} | headline
    elif scores.false_positive_rate:
        headline["false-positive rate"] = scores.false_positive_rate
    headline |= run.predictive_values | scores.fixed | {"Brier score": scores.calibration.brier}
    region_scores = html.scores_by_region(is_positive, run.region_scores) if run.regions else []
    return html.ReportContent(
        title=f"A saved model on {data.name}",
        headline=headline,
        sentence=_sentence(run),
        evaluation=scores.evaluation,
        scored=[NamedScores("this data set", is_positive, y_score, weights=weights)],
        region_scores=region_scores,
        audit=run.audit,
        regions=run.regions,
        gallery=run.gallery,
        subgroups=scores.subgroups,
        data=data,
        metadata=run.metadata,
    )


def format_scores(result: ExternalScores, classes: Sequence[str]) -> str:
    """The tutorial's block, and the scores that a saved model has on other images."""
    lines = [text.format_classification(result.evaluation, classes)]
    if result.auc:
        lines.append(f"auc: {result.auc}")
    elif result.false_positive_rate:
        lines.append(f"false-positive rate: {result.false_positive_rate}")
    lines += [f"{name}: {estimate}" for name, estimate in result.fixed.items()]
    lines.append(f"brier score: {result.calibration.brier}")
    lines.append(f"expected calibration error: {result.calibration.error:.4f}")
    if result.calibration.line:
        lines.append("calibration: slope {:.2f}, intercept {:.2f}".format(*result.calibration.line))
    lines += ["", "each class with the same weight:", ""]
    lines += ["calibration   probability   truly positive   images"]
    for i, b in enumerate(result.calibration.bins):
        if b.count:
            ends = f"{i / BINS:>6.1f}-{(i + 1) / BINS:.1f}"
            lines.append(f"{ends}{b.predicted:>15.2f}{b.observed:>17.2f}{b.count:>9g}")
    if result.subgroups:
        names = "".join(f"{name:>15}" for name in ("sensitivity", "specificity", "AUC"))
        lines += ["", f"{'subgroup':<22}{'images':>6}{'pos.':>6}{names}"]
        lines += [_subgroup_line(subgroup) for subgroup in result.subgroups]
    return "\n".join(lines)


def _subgroup_line(subgroup: Subgroup) -> str:
    scores = "".join(
        f"{'' if e is None else f'{e.value:.2f} {e.low:.2f}-{e.high:.2f}':>15}"
        for e in (subgroup.sensitivity, subgroup.specificity, subgroup.auc)
    )
    name = f"{subgroup.kind} {subgroup.value}"[:22]
    return f"{name:<22}{subgroup.n:>6}{subgroup.positives:>6}{scores}"

"""The evaluation of a saved model on labelled images as text, as JSON and as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from covidxray.evaluation.calibration import BINS
from covidxray.evaluation.external_scores import ExternalScores
from covidxray.evaluation.metrics import Subgroup
from covidxray.evaluation.recalibration import class_weights
from covidxray.evaluation.regions import REGION_NAMES
from covidxray.pipeline.external_run import ExternalRun
from covidxray.report import figures, html, results, sentences, text
from covidxray.report.evidence import Groups, group_evidence
from covidxray.report.figures import FigureContent
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
    positive, evidence = run.metadata.positive, run.evidence
    if evidence:
        lines.append(f"\n{text.format_strata(evidence.strata, positive)}")
        if evidence.transplants:
            scores = evidence.transplants.regions[run.metadata.region]
            lines.append(f"\n{text.format_transplants(scores)}")
        lines.append(f"\n{format_acquisition(run)}")
    if run.reference:
        lines.append(f"\n{text.wrap(sentences.describe_reference(run.reference))}")
    rule = text.describe_threshold(positive, run.metadata.threshold)
    lines.append(f"\n{text.wrap(f'classified as {rule}:')}\n")
    lines.append(format_scores(run.scores, run.data.classes))
    lines.append(text.format_predictive_values(run.predictive_values).rstrip())
    if evidence:
        lines.append(f"\n{text.format_regions(evidence.regions)}\n")
        lines.append(text.wrap(describe_evidence(run)))
    return "\n".join(lines)


def format_acquisition(run: ExternalRun) -> str:
    """The AUC of the model, and of each baseline of how images are taken, a line each."""
    evidence = run.evidence
    if evidence is None or run.scores.auc is None:
        return ""
    lines = [
        "auc of the model, and of baselines that were trained with it (difference: model",
        "minus baseline):",
        "",
    ]
    lines.append(f"model: {run.scores.auc.short}")
    for name, one in evidence.acquisition.items():
        more = f"difference {one.difference.short}"
        lines.append(f"{sentences.ACQUISITION[name]}: {one.auc.short}; {more}")
    return "\n".join(lines)


def describe_evidence(run: ExternalRun) -> str:
    """The verdict: do the lungs matter, and what other explanation is not excluded?"""
    evidence = run.evidence
    if evidence is None:
        return ""
    exchanged = evidence.transplants
    scores = exchanged.regions[run.metadata.region] if exchanged else None
    patients = evidence.regions.patients
    parts = [sentences.describe_lungs(scores, evidence.regions)]
    strata = evidence.strata
    if strata.areas:
        parts.append(sentences.describe_strata(strata, run.metadata.region))
    else:
        reason = sentences.explain_undefined(strata, run.metadata.positive)
        parts.append(f"{reason[0].upper()}{reason[1:]}")
    parts.append(sentences.strongest_alternative(evidence.acquisition, patients))
    if evidence.audit and evidence.audit.alarm:
        best = evidence.audit.best
        told = f"{sentences.BASELINES[best.name]} trained on itself (AUC {best.auc.short})"
        parts.append(f"Note: this data set can be told apart by {told}.")
    return " ".join(filter(None, parts))


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
        **_json_evidence(run),
        **asdict(run.scores),
        "predictive_values": {name: asdict(e) for name, e in run.predictive_values.items()},
        "versions": results.library_versions(),
    }


def _json_evidence(run: ExternalRun) -> dict[str, Any]:
    evidence, reference = run.evidence, run.reference
    exchanged = evidence.transplants if evidence else None
    audit = evidence.audit if evidence else None
    regions = evidence.regions if evidence else None
    return {
        "reference": reference
        and {
            "images": len(reference.scores),
            "false_positives": reference.rate,
            "interval": reference.rate_interval,
            "p_values": reference.p_values(run.probabilities[:, run.positive]),
        },
        "regions": regions and asdict(regions),
        "strata": evidence and asdict(evidence.strata),
        "acquisition": evidence and {k: asdict(one) for k, one in evidence.acquisition.items()},
        "transplants": exchanged and results.asdict_scores(exchanged),
        "shortcuts": audit and results.audit_results(audit, regions=regions),
        "verdict": describe_evidence(run),
    }


def external_figures(run: ExternalRun) -> FigureContent:
    """What the figures of an evaluation show."""
    is_positive, y_score = run.data.labels == run.positive, run.probabilities[:, run.positive]
    weights = class_weights(run.data.labels)
    scored = [NamedScores("this data set", is_positive, y_score, weights=weights)]
    groups: Groups = {}
    region_scores: list[NamedScores] = []
    if (found := run.evidence) and run.scores.auc:
        baselines = {sentences.ACQUISITION[k]: one.auc for k, one in found.acquisition.items()}
        auc, region = {"all images": run.scores.auc}, run.metadata.region
        parts = found.strata, found.regions, found.transplants
        groups = group_evidence(region, auc, *parts, baselines)
        by_region = found.region_scores.items()
        region_scores = [NamedScores(REGION_NAMES[key], is_positive, y) for key, y in by_region]
    return FigureContent(run.data, groups, scored, region_scores, run.scores.evaluation)


def save_figures(runs: Mapping[str, ExternalRun]) -> None:
    """Write the figures of evaluations (`figures.save_figures`) into the folder of `--plots`, if
    there is one; those of several into folders in it, which have the names of `runs`."""
    for name, run in runs.items():
        if folder := run.config.plots:
            drawings = run.data.synthetic or run.metadata.synthetic
            folder = folder / name if len(runs) > 1 else folder
            folder.mkdir(exist_ok=True)
            content = external_figures(run)
            figures.save_figures(folder, content, drawings, "the images are of one class")


def report_content(run: ExternalRun) -> html.ReportContent:
    """What the HTML report of an evaluation shows."""
    scores = run.scores
    headline = html.defined_scores(scores.evaluation)
    if scores.auc:
        headline = {"AUC": scores.auc} | headline
    elif scores.false_positive_rate:
        headline["false-positive rate"] = scores.false_positive_rate
    headline |= run.predictive_values | scores.fixed | {"Brier score": scores.calibration.brier}
    evidence = run.evidence
    return html.ReportContent(
        **vars(external_figures(run)),
        title=f"A saved model on {run.data.name}",
        headline=headline,
        sentence="",
        verdict=describe_evidence(run),
        transplants=evidence.transplants if evidence else None,
        audit=evidence.audit if evidence else None,
        regions=evidence.regions if evidence else None,
        gallery=run.gallery,
        subgroups=scores.subgroups,
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

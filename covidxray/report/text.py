"""Results as text: sentences, and blocks of at most 80 columns for the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from covidxray.audit.result import AuditResult
from covidxray.data.dataset import Dataset
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.metrics import ClassificationScores
from covidxray.evaluation.regions import REGION_NAMES, RegionComparison
from covidxray.evaluation.strata import StratifiedScores
from covidxray.evaluation.transplants import TransplantScores
from covidxray.pipeline.runs import CrossValidationResult, HoldoutResult, SiteScore, TrainingRun
from covidxray.report.sentences import (
    audit_advice,
    audit_verdict,
    compare_with_shortcut,
    describe_lungs,
    explain_undefined,
)

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata

MOST = 0.8  # fraction of the pairs from which on the largest stratum is named
STRATIFIED_NAMES = {"shortcut": "best shortcut"}
PROBABILITY = (
    "A probability is stated for classes that are equally common: where they are, four in five of "
    "the images with a probability of 0.8 are of that class."
)


def format_training(run: TrainingRun) -> str:
    """All results of a training run; the AUC within strata comes first."""
    blocks = []
    if run.lung_dice:
        blocks.append(f"lungs found, against given masks: Dice {run.lung_dice}")
    if run.strata:
        blocks.append(f"\n{format_strata(run.strata, run.config.positive)}")
    if run.transplants:
        blocks.append(f"\n{format_transplants(run.transplants.regions[run.config.region])}")
    if run.sites:
        blocks.append(format_sites(run.sites))
    blocks.append(format_holdout(run.holdout, run.data))
    if run.cross_validation:
        blocks.append(format_cross_validation(run.cross_validation))
    shortcut = format_shortcut(run.audit, training_sentence(run), describe_run(run))
    return "\n".join([*blocks, format_predictive_values(run.predictive_values) + shortcut])


def format_strata(strata: StratifiedScores, positive: str) -> str:
    """The AUCs within strata, or why there are none."""
    heading = f"auc within strata of {' and '.join(strata.known)}" if strata.known else "auc"
    if not strata.areas:
        return wrap(f"{heading}: not defined: {explain_undefined(strata, positive)}")
    count = "1 stratum" if strata.strata == 1 else f"{strata.strata} strata"
    size = f"{strata.pairs} pairs of images in {count}"
    if strata.share > MOST and strata.strata > 1:
        size += f", {100 * strata.share:.0f} % of them in {strata.largest}"
    lines = [wrap(f"{heading} ({size}):"), ""]
    for name, area in strata.areas.items():
        label = REGION_NAMES.get(name, STRATIFIED_NAMES.get(name, name))
        lines.append(f"{label}: {area}  p = {strata.p_values[name]:.3f}")
    return "\n".join(lines)


def format_transplants(scores: TransplantScores) -> str:
    """The AUCs with exchanged lungs."""
    plural = "s" if scores.references > 1 else ""
    size = f"{scores.positives} + {scores.negatives} images, {scores.references} reference{plural}"
    if scores.left_out:
        size += f"; left out without a plausible pair of lungs: {scores.left_out}"
    lines = [wrap(f"auc with exchanged lungs ({size}):"), ""]
    for name, estimate in scores.by_name.items():
        lines.append(f"{name}: {estimate}")
    lines.append(f"normal images, exchanged against untouched: {scores.artefact.short}; best 0.50")
    return "\n".join(lines)


def format_sites(sites: Sequence[SiteScore]) -> str:
    """The AUC at each site that was left out of training."""
    lines = ["\nauc at a site that was left out of training:", ""]
    for one in sites:
        lines.append(f"{one.auc.short}  {one.positives} + {one.negatives} images, {one.site}"[:80])
    return "\n".join(lines)


def format_holdout(holdout: HoldoutResult, data: Dataset) -> str:
    """The scores of the held-out images, under their heading."""
    block = format_classification(holdout.scores, data.classes)
    whose = " of the folder test" if data.held_out.any() else ", the tutorial's measure"
    return f"\nheld-out {len(holdout.test)} images{whose}:\n\n{block}"


def format_classification(result: ClassificationScores, classes: Sequence[str]) -> str:
    """The tutorial's block: report, confusion matrix, acc, sensitivity, specificity."""
    width = max(max(len(name) for name in classes), 5) + 2
    table = [("", classes), *zip(classes, result.confusion, strict=True)]
    matrix = "\n".join(
        f"{name:<{width}}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in table
    )
    return (
        f"{result.report}\n"
        f"confusion matrix (row: truth, column: prediction)\n{matrix}\n"
        f"acc: {result.accuracy}\n"
        f"sensitivity: {result.sensitivity or 'no positive image'}\n"
        f"specificity: {result.specificity or 'no negative image'}"
    )


def format_cross_validation(result: CrossValidationResult) -> str:
    """The cross-validated scores and the comparison of the regions, under their heading."""
    scores, single = result.scores, result.scores.fold_accuracy
    line = "no finite slope, the classes do not overlap"
    if scores.calibration_line:
        line = "slope {:.2f}, intercept {:.2f} (best: 1 and 0)".format(*scores.calibration_line)
    stored = f"stored threshold: {result.threshold:.4f}\n" if result.threshold is not None else ""
    return (
        f"\n{describe_cross_validation(result)}, the one to quote:\n\n"
        f"cv acc: {scores.accuracy}\n"
        f"cv sensitivity: {scores.sensitivity}\n"
        f"cv specificity: {scores.specificity}\n"
        f"cv auc: {scores.auc}\n"
        f"acc on single folds: from {single.min():.2f} to {single.max():.2f}\n"
        f"cv calibration: {line}\n"
        f"recalibration changes the most probable class of {scores.changed:.1f} of "
        f"{len(result.is_positive)} images\n\n{wrap(PROBABILITY)}\n\n"
        f"{format_regions(result.regions, 'cv ')}\n{stored}"
    )


def format_predictive_values(values: Mapping[str, Estimate]) -> str:
    """PPV and NPV, one line each (`metrics.predictive_values`)."""
    return "".join(f"{name}: {estimate}\n" for name, estimate in values.items())


def describe_threshold(positive: str, threshold: float | None) -> str:
    """How a class follows from probabilities."""
    if threshold is None:
        return "the most probable class"
    return f"{positive} from a probability of {threshold:.3f}, else the most probable other class"


def describe_cross_validation(result: CrossValidationResult) -> str:
    """The kind of cross-validation, such as "20 x 5-fold cross-validation by patient"."""
    return f"{result.repeats} x {result.folds}-fold cross-validation by patient"


def format_regions(regions: RegionComparison, prefix: str = "") -> str:
    """The AUC of each region and the difference, one line each; `prefix` stands before "auc"."""
    lines = [f"{prefix}auc of each region:", ""]
    lines += [f"{name}: {getattr(regions, key)}" for key, name in REGION_NAMES.items()]
    lines.append(f"lungs - outside: {regions.difference}")
    if regions.found < regions.total:
        lines.append(f"a pair of lungs was found in {regions.found} of {regions.total} images")
    return "\n".join(lines)


def format_audit(audit: AuditResult) -> str:
    """The audit of a data set: table of baselines, method, verdict, advice and findings."""
    table = f"{'baseline':<12}{'AUC':>4}   {'95 % interval':<14}{'p':>8}"
    for b in audit.baselines:
        alarm = " *" if b.p_value <= audit.level else ""
        table += f"\n{b.name:<12}{b.auc.value:.2f}   {b.auc.low:.2f} to {b.auc.high:.2f}"
        table += f"{b.p_value:>10.3f}{alarm}"
    method = (
        f"{audit.positive} against the rest, {audit.images} images, {audit.repeats} x "
        f"{audit.folds}-fold cross-validation by patient; p from {audit.permutations} permutations "
        f"of the patients, corrected for {len(audit.baselines)} baselines; "
        f"*: an alarm, p <= {audit.level}."
    )
    texts = [method, audit_verdict(audit), audit_advice(audit), format_findings(audit)]
    return "\n\n".join([table, *(wrap(text) for text in texts if text)])


def describe_run(run: TrainingRun) -> str:
    """Whether the trained model needs the lungs; "" without cross-validation."""
    exchanged = run.transplants.regions[run.config.region] if run.transplants else None
    return describe_lungs(exchanged, run.regions)


def format_shortcut(audit: AuditResult, sentence: str, about_lungs: str) -> str:
    """The best shortcut, its comparison with the model (`sentence`), and the verdict."""
    best = f"best shortcut auc: {audit.best.auc}  {audit.best.name}"
    return "\n".join([best, wrap(sentence), wrap(audit_verdict(audit, about_lungs))])


def training_sentence(run: TrainingRun) -> str:
    """One sentence that compares the cross-validated AUC with that of the best shortcut."""
    auc = run.cross_validation.scores.auc if run.cross_validation else None
    return compare_with_shortcut("cross-validated ", auc, run.audit, run.versus_shortcut)


def format_findings(audit: AuditResult) -> str:
    """The properties of a data set that a user should know, one line each; "" without any."""
    findings, notes = audit.findings, []
    if findings.apart:
        sources = "; ".join(
            f"{name}: {', '.join(source or 'unknown' for source in sources)}"
            for name, sources in findings.sources.items()
        )
        notes.append(f"Classes from different sources ({sources}).")
    if findings.pneumonia:
        notes.append(
            f"{len(findings.pneumonia)} images of a normal class are pneumonia by their own names, "
            f"such as {findings.pneumonia[0]}. sample_kaggle_dataset.py leaves such files out."
        )
    if findings.shared_patients:
        notes.append(f"{findings.shared_patients} patients have images in both classes.")
    if findings.copies:
        notes.append(
            f"{findings.copies} pairs of images are copies: {findings.exact} the same file, "
            f"{findings.across_classes} across classes, {findings.across_patients} across patients:"
        )
        notes += [f"  {copy.first}\n  = {copy.second}" for copy in findings.listed]
    return "\n".join(notes)


def model_card(metadata: "ModelMetadata") -> dict[str, str]:
    """What is stored about a saved model, in words: name of the fact -> text."""
    drawings = " (drawings)" if metadata.synthetic else ""
    return {
        "classes": ", ".join(metadata.classes),
        "positive class": metadata.positive,
        "classified as": describe_threshold(metadata.positive, metadata.threshold),
        "recipe": f"{metadata.recipe}, pooled over the {REGION_NAMES[metadata.region]}",
        "trained on": f"{len(metadata.trained_on)} images{drawings}",
        **metadata.card,
        "intended for": "learning and research; never for patients",
    }


def wrap(text: str) -> str:
    """Break the lines of more than 80 columns."""
    return "\n".join(
        textwrap.fill(line, 80, break_on_hyphens=False) if len(line) > 80 else line
        for line in text.splitlines()
    )

"""What the numbers show, and no more, in sentences."""

from collections.abc import Mapping

from covidxray.audit.result import STRONG, AuditResult
from covidxray.evaluation.conformal import Reference
from covidxray.evaluation.external_scores import BaselineScore
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.regions import LEVEL, RegionComparison
from covidxray.evaluation.strata import StratifiedScores
from covidxray.evaluation.transplants import TransplantScores

BASELINES = {
    "frame": "the outer frame alone",
    "histogram": "the histogram of grey levels alone",
    "file": "the file's header alone (size, format, compression)",
    "thumbnail": "an 8 x 8 thumbnail alone",
    "manifest": "the manifest alone (source, view, sex, age)",
}
ACQUISITION = {
    "view": "view classifier",
    "thumbnail": "8 x 8 thumbnail",
    "frame": "outer frame",
    "histogram": "histogram of grey levels",
}
REMEDIES = {
    "frame": "Check the edges of the images, and crop borders and markers off in both classes.",
    "histogram": "Compare how the classes were exposed, windowed and exported, and start again "
    "from originals that were treated alike. Very large lesions show in a histogram, too.",
    "file": "Make all files from their originals in one way: one size, format and quality.",
    "thumbnail": "Check for markers, and how each class is framed and exposed. "
    "Very large lesions show in a thumbnail, too.",
    "manifest": "Choose images so that the classes agree in view, age and sex.",
}
SAME_SOURCE = """\
Compare COVID-19 with images of the same source, and leave out all others:
  python build_covid_dataset.py --covid covid-chestxray-dataset \\
      --output dataset/covid --controls dataset/controls"""
MARGIN = 0.05  # AUCs that differ by less are called as good


def compare(difference: Estimate, patients: int) -> str:
    """Which of two AUCs is higher by the interval of their difference: "first", "second", "equal"
    if the interval lies within `MARGIN`, else a clause that says that it cannot be told."""
    if difference.low > 0:
        return "first"
    if difference.high < 0:
        return "second"
    if difference.low > -MARGIN and difference.high < MARGIN:
        return "equal"
    return (
        f"these {patients} patients cannot tell which is better (the difference lies from "
        f"{difference.low:.2f} to {difference.high:.2f})"
    )


def describe_regions(regions: RegionComparison) -> str:
    """What the comparison of the regions means, in one sentence."""
    areas = (
        f"The lungs alone give an AUC of {regions.lungs.short}, all but the lungs one of "
        f"{regions.outside.short}"
    )
    inside, outside = regions.is_shown("lungs"), regions.is_shown("outside")
    if not inside and not outside:
        return f"{areas}: none is shown to be better than chance."
    found = compare(regions.difference, regions.patients)
    if found == "first":
        more = "; but the rest of the image predicts the class, too" if outside else ""
        return f"{areas}: the lungs predict the class better{more}."
    if found == "second":
        return f"{areas}, which is more: the model does not need the lungs."
    if found == "equal":
        return f"{areas}, which is as good within {MARGIN}: the model does not need the lungs."
    if inside and outside:
        return f"{areas}; both predict the class, and {found}."
    only = "the lungs" if inside else "the rest of the image"
    return f"{areas}: only {only} can be shown to be better than chance, but {found}."


def describe_transplants(scores: TransplantScores) -> str:
    """Whether the model needs the lungs, by its AUC with the same lungs in every image."""
    fixed, untouched = scores.fixed_lungs, scores.untouched
    if scores.put_back and scores.back_drop and scores.back_drop.low > 0:
        return (
            f"Lungs that are moved and put back lower the AUC from {untouched.value:.2f} to "
            f"{scores.put_back.short}, so that the transplants say little here."
        )
    same = "With the same healthy lungs in every image the AUC"
    if scores.drop.low > 0:
        rest = ", and what surrounds them predicts the class, too" if fixed.low > 0.5 else ""
        return (
            f"{same} falls from {untouched.value:.2f} to {fixed.short}: the model needs the lungs"
            f"{rest}."
        )
    if fixed.low > 0.5:
        level = "is still" if scores.drop.value > 0.005 else "is"
        return f"{same} {level} {fixed.short}: the model does not need the lungs."
    return (
        f"{same} is {fixed.short} instead of {untouched.short}: these {scores.patients} patients "
        "cannot tell whether the model needs the lungs."
    )


def describe_strata(strata: StratifiedScores, region: str) -> str:
    """What the AUC within strata shows."""
    area, p_value = strata.areas[region], strata.p_values[region]
    shown = "better" if p_value <= LEVEL else "not shown to be better"
    return (
        f"Within strata of {' and '.join(strata.known)} the AUC is {area.short}, {shown} than "
        f"chance (p = {p_value:.3f})."
    )


def strongest_alternative(acquisition: Mapping[str, BaselineScore], patients: int) -> str:
    """The best baseline of how images are taken that the model is not shown to be better than."""
    for name, one in acquisition.items():
        if one.difference.low <= 0:
            found = compare(one.difference, patients)
            known = {"second": "the model is worse", "equal": f"as good within {MARGIN}"}
            return (
                f"Not excluded: {ACQUISITION[name]}, which knows nothing of a lung, has an AUC of "
                f"{one.auc.short}; {known.get(found, found)}."
            )
    return "The model is better than each baseline of how images are taken."


def describe_reference(reference: Reference) -> str:
    """What the false-positive rate of a reference means."""
    low, high = reference.rate_interval
    return (
        f"Threshold from {len(reference.scores)} normal reference images: {reference.rate:g} of "
        "normal images like them are positive on average over such references; for this one the "
        f"rate lies between {low:.3f} and {high:.3f}."
    )


def explain_undefined(strata: StratifiedScores, positive: str) -> str:
    """Why no pair of images lies in one stratum, and what follows."""
    if not strata.known:
        return "site, view and device of the images are unknown."
    first, *rest = strata.known
    same = {"view": " in the same view", "device": " by the same device"}
    agree = "".join(same[name] for name in rest)
    return (
        f"no {first} has images of both classes{agree}, so this data set cannot tell {positive} "
        "from how and where the images were taken."
    )


def compare_with_shortcut(
    prefix: str, auc: Estimate | None, audit: AuditResult, difference: Estimate | None
) -> str:
    """Compare a model with the best shortcut.

    Args:
        prefix: stands before "AUC".
        auc: of the model.
        difference: AUC of the model minus that of the shortcut, on the same images.
    """
    shortcut = f"{BASELINES[audit.best.name]} reaches {audit.best.auc.short}"
    if auc is None or difference is None:
        return f"Of the shortcuts, {shortcut}."
    sentence = f"The model's {prefix}AUC is {auc.short}; {shortcut}."
    found = compare(difference, audit.patients)
    if found == "first":
        return f"{sentence} The model is better by {difference.short}."
    if found not in ("second", "equal"):
        return f"{sentence} {found[0].upper()}{found[1:]}."
    than = "does better" if found == "second" else f"is as good within {MARGIN}"
    return f"{sentence} The shortcut {than}: the model may not have used the lungs at all."


def describe_lungs(transplants: TransplantScores | None, regions: RegionComparison | None) -> str:
    """Whether a model needs the lungs: by transplants, or else by its regions; "" without both."""
    if transplants:
        return describe_transplants(transplants)
    return describe_regions(regions) if regions else ""


def audit_verdict(audit: AuditResult, about_lungs: str = "") -> str:
    """What the audit means, and what is known of the lungs (`describe_lungs`)."""
    best, strong = audit.best, audit.best.auc.value >= STRONG
    can = "can" if strong else "can in part"
    read = f"The label {can} be read from {BASELINES[best.name]}: AUC {best.auc.short}."
    if best.p_value > audit.level:
        missed = max(1.0, 100 - 100 * audit.power)
        verdict = (
            f"No shortcut found: none of these {len(audit.baselines)} baselines is shown to be "
            f"better than chance. That is no proof that there is none: with {audit.patients} "
            "patients, one with an AUC of 0.80 is missed in about "
            f"{missed:.0f} % of such data sets, and there are others that none of these looks for."
        )
    elif best.name == "manifest":
        verdict = f"{read} The classes differ in more than the finding, and a model can learn that."
    else:
        gain = "score well" if strong else "gain some of its score"
        verdict = f"{read} A model can {gain} on this data set without looking at a lung."
    return f"{verdict} {about_lungs}".rstrip()


def audit_advice(audit: AuditResult) -> str:
    """What the user can do about an alarm; "" without one."""
    if not audit.alarm:
        return ""
    return SAME_SOURCE if audit.findings.apart else REMEDIES[audit.best.name]

"""Scores of a saved model on labelled images that it was not developed on, and on subgroups."""

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals, metrics
from covidxray.evaluation.calibration import Calibration, calibrate
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.metrics import LabelledProbabilities, Subgroup
from covidxray.evaluation.recalibration import class_weights

SITE_IMAGES, SMALL = 5, "(small sites)"
AGES = (18, 40, 60, 80)  # years at which a new band begins
AGE_BANDS = ("0-17", "18-39", "40-59", "60-79", "80+")


@dataclass(frozen=True)
class BaselineScore:
    """A baseline that was trained with the model, on the images evaluated; `difference` is the AUC
    of the model minus its own."""

    auc: Estimate
    difference: Estimate


@dataclass(frozen=True)
class ExternalScores:
    """All scores of labelled images; None or empty where a score needs a class that is missing.

    `evaluation` is at the threshold of the model; `fixed` is from `metrics.scores_at_fixed_levels`.
    """

    evaluation: metrics.ClassificationScores
    auc: Estimate | None
    false_positive_rate: Estimate | None
    calibration: Calibration
    fixed: dict[str, Estimate] = field(default_factory=dict)
    subgroups: list[Subgroup] = field(default_factory=list)


def score_external(
    scores: LabelledProbabilities, subgroups: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> ExternalScores:
    """Score N images and their subgroups (see `subgroup_values`); `rng` resamples patients."""
    is_positive, groups, y_score = scores.is_positive, scores.groups, scores.y_score
    y_pred, positive, both = scores.y_pred, scores.positive, scores.has_both
    false_positive = (y_pred == positive)[~is_positive]
    return ExternalScores(
        evaluation=metrics.evaluate(scores.y_true, y_pred, scores.classes, positive, groups),
        auc=intervals.auc(is_positive, y_score, groups) if both else None,
        false_positive_rate=intervals.share(false_positive, groups[~is_positive]),
        calibration=calibrate(is_positive, y_score, class_weights(scores.y_true), groups, rng),
        fixed=metrics.scores_at_fixed_levels(is_positive, y_score, groups, rng) if both else {},
        subgroups=[
            score_subgroup(kind, value, scores.select(np.array(values) == value))
            for kind, values in subgroups.items()
            for value in known_values(values)
        ],
    )


def score_subgroup(kind: str, value: str, scores: LabelledProbabilities) -> Subgroup:
    """Score one subgroup; `scores` are those of its images alone."""
    truth, groups = scores.is_positive, scores.groups
    predicted = scores.y_pred == scores.positive
    return Subgroup(
        kind=kind,
        value=value or "unknown",
        n=len(truth),
        positives=int(truth.sum()),
        sensitivity=intervals.share(predicted[truth], groups[truth]),
        specificity=intervals.share(~predicted[~truth], groups[~truth]),
        auc=intervals.auc(truth, scores.y_score, groups) if scores.has_both else None,
    )


def subgroup_values(
    rows: Sequence[ManifestRow], trained_on: Sequence[bool]
) -> dict[str, list[str]]:
    """The value of each image for every kind of subgroup; "" where it is unknown.

    Sites with fewer than `SITE_IMAGES` images are one subgroup.
    `trained_on`: whether the image, or its patient, was trained on; no subgroups if none was.
    """
    sites_of = [row.site for row in rows]
    sites = Counter(sites_of)
    return {
        "source": [row.source for row in rows],
        "site": [site if sites[site] >= SITE_IMAGES or not site else SMALL for site in sites_of],
        "sex": [row.sex for row in rows],
        "age": [age_band(row.age) for row in rows],
        "view": [row.view for row in rows],
        "trained on": ["yes" if t else "no" for t in trained_on] if any(trained_on) else [],
    }


def age_band(age: str) -> str:
    """The band of an age in years, such as "40-59"; "" if the text is not an age."""
    try:
        years = float(age)
    except ValueError:
        return ""
    return AGE_BANDS[bisect(AGES, years)] if 0 <= years < 200 else ""


def known_values(values: Sequence[str]) -> list[str]:
    """The distinct values of one kind, "" last if some are unknown; empty if all are unknown."""
    known = sorted(set(values) - {""})
    return known + ([""] if "" in values else []) if known else []

"""Scores of a saved model on labelled images from elsewhere. No Keras here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from covidxray import metrics
from covidxray.manifest import Row
from covidxray.metrics import Estimate

FIXED = (0.90, 0.95)  # specificity at which sensitivity is given, and the reverse
BINS = 10
RESAMPLES = 1000
AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80), (80, 200))


@dataclass(frozen=True)
class Bin:
    """A tenth of the probability scale: images, mean probability, share that is positive."""

    count: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Brier score and expected calibration error, 0 at best, and the curve behind the latter."""

    brier: Estimate
    error: Estimate
    bins: list[Bin]


@dataclass(frozen=True)
class Subgroup:
    """The scores of one part of the images; None where it has no image of that truth."""

    kind: str
    value: str
    n: int
    positives: int
    sensitivity: Estimate | None
    specificity: Estimate | None
    auc: Estimate | None


@dataclass(frozen=True)
class Validation:
    """Everything that is said of N labelled images; what needs both truths is None or empty
    where there is one. `fixed` maps what is measured to its estimate."""

    evaluation: metrics.Evaluation
    auc: Estimate | None
    false_positive_rate: Estimate | None
    calibration: Calibration
    fixed: dict[str, Estimate] = field(default_factory=dict)
    subgroups: list[Subgroup] = field(default_factory=list)


def validate(
    y_true: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    positive: int,
    threshold: float,
    groups: np.ndarray,
    parts: dict[str, list[str]],
    rng: np.random.Generator,
) -> Validation:
    """Score a model's probabilities against the truth.

    Args:
        y_true: (N,) int labels.
        probabilities: (N, C).
        positive: the positive class's label.
        threshold: probability from which an image is called positive.
        groups: (N,) patients.
        parts: kinds of subgroups ("sex", ...), each with the value of every image, "" if unknown.
        rng: resamples patients.
    """
    is_positive = y_true == positive
    score = probabilities[:, positive]
    called = metrics.decide(probabilities, positive, threshold)
    both = is_positive.any() and not is_positive.all()
    wrong = called[~is_positive] == positive
    return Validation(
        evaluation=metrics.evaluate(y_true, called, classes, positive, groups),
        auc=metrics.auc(is_positive, score, groups) if both else None,
        false_positive_rate=metrics.share(wrong, groups[~is_positive]),
        calibration=calibrate(is_positive, score, groups, rng),
        fixed=_fixed(is_positive, score, groups, rng) if both else {},
        subgroups=[
            _subgroup(kind, value, is_positive, called == positive, score, groups, np.array(values))
            for kind, values in parts.items()
            for value in _known(values)
        ],
    )


def describe(rows: Sequence[Row], seen: Sequence[bool]) -> dict[str, list[str]]:
    """The kinds of subgroups that manifests know of (source, sex, age band, view), and whether a
    patient was trained on; for `validate`."""
    return {
        "source": [row.source for row in rows],
        "sex": [row.sex for row in rows],
        "age": [age_band(row.age) for row in rows],
        "view": [row.view for row in rows],
        "trained on": ["yes" if s else "no" for s in seen] if any(seen) else [],
    }


def age_band(age: str) -> str:
    """An age in years as its band, "40-59"; "" if it is no number."""
    try:
        years = float(age)
    except ValueError:
        return ""
    for low, high in AGE_BANDS:
        if low <= years < high:
            return f"{low}-{high - 1}" if high < 200 else f"{low}+"
    return ""


def calibrate(
    y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Calibration:
    """Brier score (Brier 1950), and expected calibration error in ten bins of equal width (Naeini
    et al. 2015), which is too high in small samples: chance alone parts the bins from the diagonal.
    Their intervals: patients resampled."""
    return Calibration(
        brier=_resampled(_brier, y_true, y_score, groups, rng),
        error=_resampled(_calibration_error, y_true, y_score, groups, rng),
        bins=_bins(y_true, y_score),
    )


def _brier(y_true: np.ndarray, y_score: np.ndarray) -> float:
    return float(np.square(y_score - y_true).mean())


def _bins(y_true: np.ndarray, y_score: np.ndarray) -> list[Bin]:
    index = np.minimum((y_score * BINS).astype(int), BINS - 1)
    counts = np.bincount(index, minlength=BINS)
    safe = np.maximum(counts, 1)
    predicted = np.bincount(index, y_score, BINS) / safe
    observed = np.bincount(index, y_true, BINS) / safe
    return [Bin(*b) for b in zip(counts.tolist(), predicted, observed, strict=True)]


def _calibration_error(y_true: np.ndarray, y_score: np.ndarray) -> float:
    bins = _bins(y_true, y_score)
    return sum(b.count * abs(b.predicted - b.observed) for b in bins) / len(y_true)


def sensitivity_at(y_true: np.ndarray, y_score: np.ndarray, specificity: float) -> float:
    """The share of positives found where at least `specificity` of the negatives are left."""
    # The highest negatives' score that may still be called; one has to lie above it.
    allowed = int(np.floor((1 - specificity) * (~y_true).sum() + 1e-9))
    limit = np.sort(y_score[~y_true])[::-1][allowed]
    return float((y_score[y_true] > limit).mean())


def _specificity_at(y_true: np.ndarray, y_score: np.ndarray, sensitivity: float) -> float:
    return sensitivity_at(~y_true, -y_score, sensitivity)


def _fixed(
    y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> dict[str, Estimate]:
    result = {}
    for name, at, other, truth in (
        ("sensitivity", sensitivity_at, "specificity", y_true),
        ("specificity", _specificity_at, "sensitivity", ~y_true),
    ):
        for level in FIXED:

            def statistic(y, s, at=at, level=level):
                return at(y, s, level)

            estimate = _resampled(statistic, y_true, y_score, groups, rng)
            # Resampling alone would call a perfect score certain.
            n = len(np.unique(groups[truth]))
            low, high = metrics.clopper_pearson(estimate.value * n, n)
            low, high = min(low, estimate.low), max(high, estimate.high)
            result[f"{name} at {other} {level:.2f}"] = Estimate(estimate.value, low, high)
    return result


def _resampled(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
) -> Estimate:
    """A statistic with its percentile interval over resampled patients."""
    patients = np.unique(groups)
    members = [np.flatnonzero(groups == g) for g in patients]
    values = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate(
            [members[i] for i in rng.integers(len(patients), size=len(patients))]
        )
        truth = y_true[drawn]
        # A resample without one of the truths says nothing of a statistic that needs both.
        if truth.any() == y_true.any() and truth.all() == y_true.all():
            values.append(statistic(truth, y_score[drawn]))
    low, high = np.quantile(values, (0.025, 0.975))
    value = statistic(y_true, y_score)
    return Estimate(value, min(float(low), value), max(float(high), value))


def _known(values: list[str]) -> list[str]:
    """The values of a kind of subgroup, if it tells at least something; the unknown last."""
    known = sorted({value for value in values if value})
    return known + ([""] if "" in values else []) if known else []


def _subgroup(kind, value, is_positive, called, score, groups, values) -> Subgroup:
    here = values == value
    truth, hits, patients = is_positive[here], called[here], groups[here]
    both = truth.any() and not truth.all()
    return Subgroup(
        kind=kind,
        value=value or "unknown",
        n=int(here.sum()),
        positives=int(truth.sum()),
        sensitivity=metrics.share(hits[truth], patients[truth]),
        specificity=metrics.share(~hits[~truth], patients[~truth]),
        auc=metrics.auc(truth, score[here], patients) if both else None,
    )


def format_validation(result: Validation, classes: Sequence[str]) -> str:
    """The tutorial's block and what follows it, in 80 columns."""
    lines = [metrics.format_evaluation(result.evaluation, classes)]
    if result.auc:
        lines.append(f"auc: {result.auc}")
    elif result.false_positive_rate:
        lines.append(f"false-positive rate: {result.false_positive_rate}")
    lines += [f"{name}: {estimate}" for name, estimate in result.fixed.items()]
    lines += [f"brier score: {result.calibration.brier}"]
    lines += [f"expected calibration error: {result.calibration.error}"]
    lines += ["", "calibration   probability   truly positive   images"]
    lines += [
        f"{i / BINS:>6.1f}-{(i + 1) / BINS:.1f}{b.predicted:>15.2f}{b.observed:>17.2f}{b.count:>9}"
        for i, b in enumerate(result.calibration.bins)
        if b.count
    ]
    if result.subgroups:
        header = f"{'subgroup':<22}{'images':>6}{'pos.':>6}"
        header += "".join(f"{name:>15}" for name in ("sensitivity", "specificity", "AUC"))
        lines += ["", header]
    for part in result.subgroups:
        scores = "".join(
            f"{'' if e is None else f'{e.value:.2f} {e.low:.2f}-{e.high:.2f}':>15}"
            for e in (part.sensitivity, part.specificity, part.auc)
        )
        name = f"{part.kind} {part.value}"
        lines.append(f"{name[:22]:<22}{part.n:>6}{part.positives:>6}{scores}")
    return "\n".join(lines)

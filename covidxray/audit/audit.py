"""Audit a data set: can its labels be predicted without any anatomy?

Baselines (`baselines.py`) predict the label from one kind of image statistics each. A baseline that
does better than chance is a shortcut that a model can use as well. Apart from that, the data set is
checked for copies, shared patients, separate sources and mislabelled files.
"""

import re
from collections.abc import Sequence
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from covidxray.audit.baselines import PERMUTATIONS, REPEATS, Baseline, fit_baselines, folds_for
from covidxray.audit.feature_tables import feature_tables
from covidxray.audit.result import STRONG, AuditResult, CopyPair, DatasetChecks
from covidxray.data.duplicates import merge_groups_with_copies, near_duplicates
from covidxray.data.folders import PNEUMONIA
from covidxray.data.image_statistics import ImageStatistics
from covidxray.evaluation import intervals, splits
from covidxray.evaluation.regions import LEVEL

if TYPE_CHECKING:
    from covidxray.data.dataset import Dataset

CAP = 500  # images of each class that the baselines are fitted on, to bound the time
NORMAL = re.compile(r"\b(normal|healthy|no finding)\b", re.IGNORECASE)
LISTED = 10  # pairs of copies that are named


def run_audit(
    data: "Dataset",
    image_statistics: Sequence[ImageStatistics],
    positive: int,
    rng: np.random.Generator,
) -> AuditResult:
    """Fit the baselines and check the data set; patients who share an image need not be merged.

    `rng` draws folds, permutations, resamples, and the patients of a class above `CAP`.

    Raises:
        InputError: a class has fewer than two patients.
    """
    hashes = np.array([statistics.hash for statistics in image_statistics])
    groups, _ = merge_groups_with_copies(data.groups, hashes)
    splits.check_patients(data.labels, groups, data.classes, 2)
    cap_rng, baseline_rng = rng.spawn(2)
    chosen = _choose_images(data.labels, groups, cap_rng)
    y_true, groups = data.labels[chosen] == positive, groups[chosen]
    features = feature_tables([image_statistics[i] for i in chosen], [data.rows[i] for i in chosen])
    # Equal ranks stay in the order of `feature_tables`, the narrowest kind of statistics first.
    baselines = sorted(fit_baselines(features, y_true, groups, baseline_rng), key=_rank)
    return AuditResult(
        positive=data.classes[positive],
        images=len(chosen),
        patients=len(np.unique(groups)),
        folds=folds_for(y_true, groups),
        repeats=REPEATS,
        permutations=PERMUTATIONS,
        level=LEVEL,
        alarm=baselines[0].p_value <= LEVEL,
        power=estimate_power(baselines[0].critical, y_true, groups),
        chosen=chosen,
        baselines=tuple(baselines),
        findings=check_dataset(data, hashes, positive),
    )


def estimate_power(critical: float, y_true: np.ndarray, groups: np.ndarray) -> float:
    """How often a shortcut with an AUC of 0.8 exceeds the critical one in data sets like this one.

    A fit on few patients reaches less than 0.8: by 0.9 divided by the patients of the smaller class
    (benchmarks/audit_power.py). The variance is that of Hanley & McNeil, Radiology 143 (1982)
    29-36, at the number of patients.
    """
    p, q = len(np.unique(groups[y_true])), len(np.unique(groups[~y_true]))
    area = max(0.5, 0.8 - 0.9 / min(p, q))
    variance = area * (1 - area) + (p - 1) * (area / (2 - area) - area**2)
    variance += (q - 1) * (2 * area**2 / (1 + area) - area**2)
    variance *= intervals.overlap_factor(area) / (p * q)
    return float(ndtr((area - critical) / np.sqrt(variance)))


def _choose_images(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of randomly drawn whole patients, up to about `CAP` images of each class."""
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        for group in rng.permutation(np.unique(groups[labels == label])):
            if chosen[labels == label].sum() >= CAP:
                break
            chosen |= groups == group
    return np.flatnonzero(chosen)


def _rank(baseline: Baseline) -> tuple[bool, bool, bool, float]:
    """Sort key; of strong baselines the manifest comes last, because no model sees it."""
    strong = baseline.auc.value >= STRONG
    unseen = strong and baseline.name == "manifest"
    return baseline.p_value > LEVEL, not strong, unseen, -round(baseline.auc.value, 2)


def check_dataset(data: "Dataset", hashes: np.ndarray, positive: int) -> DatasetChecks:
    """Check a data set; `hashes` are the perceptual hashes of its images, (N, 4) uint64."""
    labels, groups = data.labels, data.groups
    digests = np.array([row.sha256 for row in data.rows])
    pairs = near_duplicates(hashes)
    # For each pair: the same file, two classes, two patients.
    equal = [values[pairs[:, 0]] == values[pairs[:, 1]] for values in (digests, labels, groups)]
    exact, classes, patients = equal[0], ~equal[1], ~equal[2]
    listed = []
    for k in np.lexsort((~patients, ~classes))[:LISTED]:
        first, second = data.names(pairs[k])
        listed.append(CopyPair(first, second, bool(exact[k]), bool(classes[k]), bool(patients[k])))
    sources = {
        name: tuple(sorted({data.rows[i].source for i in np.flatnonzero(labels == label)}))
        for label, name in enumerate(data.classes)
    }
    own = set(sources[data.classes[positive]])
    return DatasetChecks(
        copies=len(pairs),
        exact=int(exact.sum()),
        across_classes=int(classes.sum()),
        across_patients=int(patients.sum()),
        listed=tuple(listed),
        shared_patients=len(np.intersect1d(groups[labels == positive], groups[labels != positive])),
        sources=sources,
        apart=tuple(name for name, theirs in sources.items() if own.isdisjoint(theirs)),
        pneumonia=_find_pneumonia(data),
    )


def _find_pneumonia(data: "Dataset") -> tuple[str, ...]:
    """Images of normal classes whose file name, or name at the source, says pneumonia."""
    normal = [bool(NORMAL.search(re.sub(r"[_-]", " ", name))) for name in data.classes]
    named = [
        any(map(PNEUMONIA.search, (row.filename, PureWindowsPath(row.source_id).name)))
        for row in data.rows
    ]
    return tuple(data.names(np.flatnonzero(np.array(normal)[data.labels] & named)))

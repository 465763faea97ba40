"""Can the label be read without any anatomy? No Keras here.

The baselines (`baselines.py`) read one kind of clue each (`clues.py`). An alarm is a corrected
p <= 0.01: at 0.05 every twentieth clean data set would raise one. Patients with copies of one
picture count as one. Of a class with more than 500 images, the baselines see 500, drawn by patient.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covidxray import splits
from covidxray.baselines import PERMUTATIONS, REPEATS, Baseline, fit_baselines, folds_for
from covidxray.clues import Clue, designs
from covidxray.dataset import Dataset
from covidxray.findings import Findings, examine
from covidxray.where import Where

LEVEL = 0.01
CAP = 500  # images per class
STRONG = 0.8  # an AUC

MENDS = {
    "frame": "Look at the pictures' edges, and crop borders and markers off in both classes.",
    "histogram": "Compare how the classes were exposed, windowed and exported, and start again "
    "from originals that were treated alike. Very large lesions show in a histogram, too.",
    "file": "Make all files from their originals in one way: one size, format and quality.",
    "thumbnail": "Look for markers, and at how each class is framed and exposed. "
    "Very large lesions show in a thumbnail, too.",
    "manifest": "Choose images so that the classes agree in view, age and sex.",
}
SAME_SOURCE = """\
Take what COVID-19 is told from out of the same source, and leave the rest out:
  python build_covid_dataset.py --covid covid-chestxray-dataset \\
      --output dataset/covid --controls dataset/controls"""


@dataclass(frozen=True)
class Audit:
    """What an audit found; `dataclasses.asdict` of it goes into JSON.

    `baselines` are in order of their evidence; `images` is how many they were fitted on; `where` is
    what a model made of the lungs and of the rest, if one was asked.
    """

    positive: str
    images: int
    folds: int
    repeats: int
    permutations: int
    level: float
    alarm: bool
    verdict: str
    advice: str
    baselines: tuple[Baseline, ...]
    findings: Findings
    where: Where | None

    @property
    def best(self) -> Baseline:
        """The baseline with the strongest evidence; of equals, the narrowest kind of clue."""
        return self.baselines[0]


def audit(
    data: Dataset,
    clues: Sequence[Clue],
    positive: int,
    rng: np.random.Generator,
    where: Where | None = None,
) -> Audit:
    """Tell the positive class from the rest by each kind of clue.

    Args:
        data: N images.
        clues: their N clues, in the same order.
        positive: the positive class's label.
        rng: decides folds, permutations, resampling, and who is left out above the cap.
        where: a model's scores inside and outside the lungs, for the verdict.

    Raises:
        InputError: a class has fewer than two patients.
    """
    hashes = np.array([clue.hash for clue in clues])
    groups, _ = splits.merge_duplicates(data.groups, hashes)
    splits.check_patients(data.labels, groups, data.classes, 2)
    cap_rng, baseline_rng = rng.spawn(2)
    kept = _cap(data.labels, groups, cap_rng)
    y_true, groups = data.labels[kept] == positive, groups[kept]
    features = designs([clues[i] for i in kept], [data.rows[i] for i in kept])
    # Sorting is stable: what reads the same to two digits stays in the order of `designs`.
    baselines = sorted(fit_baselines(features, y_true, groups, baseline_rng), key=_rank)
    findings = examine(data, hashes, positive)
    alarm = baselines[0].p_value <= LEVEL
    return Audit(
        positive=data.classes[positive],
        images=len(kept),
        folds=folds_for(y_true, groups),
        repeats=REPEATS,
        permutations=PERMUTATIONS,
        level=LEVEL,
        alarm=alarm,
        verdict=_verdict(baselines, len(np.unique(groups)))
        + (f" {where.sentence}" if where else ""),
        advice=(SAME_SOURCE if findings.apart else MENDS[baselines[0].name]) if alarm else "",
        baselines=tuple(baselines),
        findings=findings,
        where=where,
    )


def _rank(baseline: Baseline) -> tuple[bool, bool, bool, float]:
    """Strongest evidence first; of what is strong, the manifest last: no model sees it."""
    strong = baseline.auc.value >= STRONG
    unseen = strong and baseline.name == "manifest"
    return baseline.p_value > LEVEL, not strong, unseen, -round(baseline.auc.value, 2)


def _cap(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of whole patients, drawn until each class has CAP images or no more."""
    kept = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        for group in rng.permutation(np.unique(groups[labels == label])):
            if kept[labels == label].sum() >= CAP:
                break
            kept |= groups == group
    return np.flatnonzero(kept)


def _verdict(baselines: Sequence[Baseline], patients: int) -> str:
    best = baselines[0]
    if best.p_value > LEVEL:
        return (
            f"No shortcut found: none of these {len(baselines)} baselines reads the label better "
            f"than chance. That is no proof that there is none: with {patients} patients a weak "
            "one is missed, and there are others that none of these looks for."
        )
    strong = best.auc.value >= STRONG
    can = "can" if strong else "can in part"
    read = f"The label {can} be read from {best.what}: AUC {best.auc.short}."
    if best.name == "manifest":
        return f"{read} The classes differ in more than the finding, and a model can learn that."
    gain = "score well" if strong else "gain some of its score"
    return f"{read} A model can {gain} on this data set without looking at a lung."


def format_audit(audit: Audit) -> str:
    """The audit as text of at most 80 columns."""
    lines = [
        f"{'baseline':<12}{'AUC':>4}   {'95 % interval':<14}{'p':>8}",
        *(
            f"{b.name:<12}{b.auc.value:.2f}   {b.auc.low:.2f} to {b.auc.high:.2f}"
            f"{b.p_value:>10.3f}{' *' if b.p_value <= audit.level else ''}"
            for b in audit.baselines
        ),
    ]
    method = (
        f"{audit.positive} against the rest, {audit.images} images, {audit.repeats} x "
        f"{audit.folds}-fold cross-validation by patient; p from {audit.permutations} permutations "
        f"of the patients, corrected for {len(audit.baselines)} baselines; "
        f"*: an alarm, p <= {audit.level}."
    )
    parts = ["\n".join(lines), method, audit.verdict, audit.advice, str(audit.findings)]
    return "\n\n".join(_wrap(part) for part in parts if part)


def _wrap(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(
        textwrap.fill(line, 80, break_on_hyphens=False) if len(line) > 80 else line
        for line in lines
    )

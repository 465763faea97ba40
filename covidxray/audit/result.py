"""What an audit found: values only, so that a report need not read images."""

from dataclasses import dataclass, field

import numpy as np

from covidxray.audit.baselines import Baseline

STRONG = 0.8  # AUC from which a baseline alone classifies well


@dataclass(frozen=True)
class CopyPair:
    """Two files, as class/file, that hold the same image; `exact`: equal byte for byte."""

    first: str
    second: str
    exact: bool
    across_classes: bool
    across_patients: bool


@dataclass(frozen=True)
class DatasetChecks:
    """Properties of a data set that should be known before a model is trained on it.

    Attributes:
        copies: number of pairs of files that hold the same image (`duplicates.near_duplicates`).
        exact, across_classes, across_patients: number of these pairs, as in `CopyPair`.
        listed: the first ten pairs; pairs across classes come first.
        shared_patients: number of patients with images in the positive class and in another one.
        sources: the sources of each class, "" where the manifest names none.
        apart: classes that share no source with the positive class.
        pneumonia: files of a normal class whose own names say pneumonia, as class/file.
    """

    copies: int
    exact: int
    across_classes: int
    across_patients: int
    listed: tuple[CopyPair, ...]
    shared_patients: int
    sources: dict[str, tuple[str, ...]]
    apart: tuple[str, ...]
    pneumonia: tuple[str, ...]


@dataclass(frozen=True)
class AuditResult:
    """What an audit measured; the baselines come with the strongest evidence first.

    Patients with copies of one image count as one. A p-value of at most `level` raises the alarm.

    Attributes:
        power: how often an alarm finds a shortcut with an AUC of 0.8 (`estimate_power`).
        chosen: (images,) int64, the images of the data set that the baselines were fitted on.
    """

    positive: str
    images: int
    patients: int
    folds: int
    repeats: int
    permutations: int
    level: float
    alarm: bool
    power: float
    baselines: tuple[Baseline, ...]
    findings: DatasetChecks
    chosen: np.ndarray = field(compare=False)

    @property
    def best(self) -> Baseline:
        """The baseline with the strongest evidence."""
        return self.baselines[0]

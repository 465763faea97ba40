"""What a data set's folders give away: copies, patients, sources and names. No Keras here."""

import re
from dataclasses import dataclass
from pathlib import PureWindowsPath

import numpy as np

from covidxray.dataset import Dataset
from covidxray.images import DUPLICATE_BITS, hash_distance
from covidxray.sources.kaggle import PNEUMONIA

NORMAL = re.compile(r"\b(normal|healthy|no finding)\b", re.IGNORECASE)
LISTED = 10  # copies


@dataclass(frozen=True)
class Copy:
    """Two images that are one picture, as class/file; `exact`: byte by byte."""

    first: str
    second: str
    exact: bool
    across_classes: bool
    across_patients: bool


@dataclass(frozen=True)
class Findings:
    """What is worth knowing of a data set before it is trained on.

    Attributes:
        copies: how many pairs of images are one picture, by `images.perceptual_hash`.
        exact, across_classes, across_patients: how many of these pairs are the same file, or
            stand in two classes, or with two patients.
        listed: the first ten pairs, those across classes before the others.
        shared_patients: patients with images in the positive class and outside it.
        sources: each class's sources, "" where the manifest says none.
        apart: classes that have no source in common with the positive class.
        pneumonia: images of a normal class whose own names say pneumonia, as class/file.
    """

    copies: int
    exact: int
    across_classes: int
    across_patients: int
    listed: tuple[Copy, ...]
    shared_patients: int
    sources: dict[str, tuple[str, ...]]
    apart: tuple[str, ...]
    pneumonia: tuple[str, ...]

    def __str__(self) -> str:
        notes = []
        if self.apart:
            sources = "; ".join(
                f"{name}: {', '.join(source or 'unknown' for source in sources)}"
                for name, sources in self.sources.items()
            )
            notes.append(f"Classes from different sources ({sources}).")
        if self.pneumonia:
            notes.append(
                f"{len(self.pneumonia)} images of a normal class are pneumonia by their own names, "
                f"{self.pneumonia[0]} for one. sample_kaggle_dataset.py leaves such files out."
            )
        if self.shared_patients:
            notes.append(f"{self.shared_patients} patients have images in both classes.")
        if self.copies:
            notes.append(
                f"{self.copies} pairs of images are one picture: {self.exact} the same file, "
                f"{self.across_classes} across classes, {self.across_patients} across patients:"
            )
            notes += [f"  {copy.first}\n  = {copy.second}" for copy in self.listed]
        return "\n".join(notes)


def examine(data: Dataset, hashes: np.ndarray, positive: int) -> Findings:
    """Look for copies, shared patients, separate sources and telling names.

    Args:
        data: N images.
        hashes: their perceptual hashes, uint64 (N, 4).
        positive: the positive class's label.
    """
    labels, groups = data.labels, data.groups
    files = np.array([row.sha256 for row in data.rows])
    near = [
        np.flatnonzero(hash_distance(hashes[:i], h) <= DUPLICATE_BITS) for i, h in enumerate(hashes)
    ]
    a = np.concatenate(near)
    b = np.repeat(np.arange(len(near)), [len(n) for n in near])
    exact, classes, patients = files[a] == files[b], labels[a] != labels[b], groups[a] != groups[b]
    listed = tuple(
        Copy(*data.names((a[i], b[i])), bool(exact[i]), bool(classes[i]), bool(patients[i]))
        for i in np.lexsort((~patients, ~classes))[:LISTED]
    )
    sources = {
        name: tuple(sorted({data.rows[i].source for i in np.flatnonzero(labels == label)}))
        for label, name in enumerate(data.classes)
    }
    own = set(sources[data.classes[positive]])
    return Findings(
        copies=len(a),
        exact=int(exact.sum()),
        across_classes=int(classes.sum()),
        across_patients=int(patients.sum()),
        listed=listed,
        shared_patients=len(np.intersect1d(groups[labels == positive], groups[labels != positive])),
        sources=sources,
        apart=tuple(name for name, theirs in sources.items() if own.isdisjoint(theirs)),
        pneumonia=_pneumonia(data),
    )


def _pneumonia(data: Dataset) -> tuple[str, ...]:
    normal = [bool(NORMAL.search(re.sub(r"[_-]", " ", name))) for name in data.classes]
    return tuple(
        data.names([i])[0]
        for i, (label, row) in enumerate(zip(data.labels, data.rows, strict=True))
        if normal[label]
        and any(PNEUMONIA.search(PureWindowsPath(n).name) for n in (row.filename, row.source_id))
    )

"""A data set: paths, labels, patients and manifest rows of its images."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from covidxray.data.duplicates import merge_groups_with_copies
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError, printable


@dataclass(frozen=True)
class Dataset:
    """N labelled images, ordered by class and file name.

    Attributes:
        name: the folder's name.
        classes: names of the class folders, sorted; or the classes of a model, in its order.
        paths: N files.
        labels: (N,) int64, indices into `classes`.
        groups: (N,) int64, one number for each patient, in order of first occurrence.
        patients: N digests of patients (`patient_digest`); "" if an image is its own patient.
        image_names: N paths in the data set, with slashes; or class/file of an added image.
        held_out: (N,) bool, whether an image lies in the data set's own folder `test`.
        masks: N paths of the lung masks that came with the images; None for an image without one.
        rows: N manifest rows. Without a manifest they are mostly empty, but the row of a DICOM file
            has what may be kept of its header, and the patient's digest for `patient_id`.
        without_manifest: folders without a manifest in which an image is its own patient.
        left_out: one error for each file that is left out.
    """

    name: str
    classes: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    groups: np.ndarray
    patients: list[str]
    image_names: list[str]
    held_out: np.ndarray
    masks: list[Path | None]
    rows: list[ManifestRow]
    without_manifest: tuple[str, ...]
    left_out: tuple[InputError, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def sha256(self) -> str:
        """Digest of the class and the SHA-256 of every image, in hexadecimal."""
        digest = hashlib.sha256()
        for label, row in zip(self.labels, self.rows, strict=True):
            digest.update(f"{self.classes[label]}\0{row.sha256}\n".encode())
        return digest.hexdigest()

    @property
    def synthetic(self) -> bool:
        """Whether the images are drawings."""
        return self.rows[0].synthetic == "yes"

    def __str__(self) -> str:
        counts = np.bincount(self.labels, minlength=len(self.classes))
        named = zip(counts, self.classes, strict=True)
        images = " + ".join(f"{count} {name}" for count, name in named if count)
        left_out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{self.name}: {images} images, {len(np.unique(self.groups))} patients{left_out}"

    def index(self, positive: str) -> int:
        """The label of a class by its name; InputError if there is none."""
        if positive not in self.classes:
            found = ", ".join(self.classes)
            raise InputError(f"{self.name}: no class {positive}; --positive takes {found}")
        return self.classes.index(positive)

    def select(self, images: Sequence[int] | np.ndarray) -> "Dataset":
        """The images of these indices."""
        lists = ("paths", "patients", "image_names", "masks", "rows")
        parts: dict[str, Any] = {name: [getattr(self, name)[i] for i in images] for name in lists}
        for name in ("labels", "groups", "held_out"):
            parts[name] = getattr(self, name)[images]
        return replace(self, **parts)

    def without(self, unread: Mapping[int, InputError]) -> "Dataset":
        """Leave out images, whose errors are given by index; raise one if no image remains."""
        kept = [i for i in range(len(self)) if i not in unread]
        if not kept:
            raise unread[0]
        left_out = (*self.left_out, *unread.values())
        return replace(self.select(kept), left_out=left_out)

    @property
    def development(self) -> "Dataset":
        """The images that are not held out in the data set's own `test`."""
        return self.select(np.flatnonzero(~self.held_out))

    def find_leaks(self) -> dict[int, InputError]:
        """An error for each image whose patient, or a copy of it, is held out in `test`."""
        leaks = ~self.held_out & np.isin(self.groups, self.groups[self.held_out])
        message = "is of a patient, or a copy of an image, that is in test; it is not trained on"
        return {int(i): InputError(f"{self.paths[i]}: {message}") for i in np.flatnonzero(leaks)}

    def merge(self, hashes: np.ndarray) -> tuple["Dataset", int]:
        """Merge patients who share an image into one; see `duplicates.merge_groups_with_copies`."""
        groups, copies = merge_groups_with_copies(self.groups, hashes)
        return replace(self, groups=groups), copies

    def names(self, indices: Iterable[int]) -> list[str]:
        """Names of images, the same on every machine, as printable text."""
        return [printable(self.image_names[i]) for i in indices]


# Is told of a data set when it is loaded, with None, and again when images of it cannot be read,
# with their errors by index.
Announce = Callable[[Dataset, Mapping[int, InputError] | None], None]

"""Read class folders into a Dataset: paths, labels, patients and manifest rows."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from covidxray.data.duplicates import merge_groups_with_copies
from covidxray.data.folders import find_class_folders, list_class_images, list_images
from covidxray.data.image_file import ImageFile
from covidxray.data.manifest import ManifestRow, mask_of, read_manifest
from covidxray.data.patients import number_patients, patient_digest
from covidxray.data.prefetch import ordered_map
from covidxray.errors import InputError, printable

# Names in ChestX-ray14 (Wang et al. 2017): the patient, and the number of the image.
NIH_NAME = re.compile(r"(\d{8})_\d{3}\.png", re.IGNORECASE)


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
    def masks(self) -> list[Path | None]:
        """N paths of the lung masks that came with the images; None for an image without one."""
        images = zip(self.paths, self.rows, strict=True)
        return [mask_of(path) if row.mask_sha256 else None for path, row in images]

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

    def without(self, unread: Mapping[int, InputError]) -> "Dataset":
        """Leave out images, whose errors are given by index; raise one if no image remains."""
        kept = [i for i in range(len(self)) if i not in unread]
        if not kept:
            raise unread[0]
        return replace(
            self,
            paths=[self.paths[i] for i in kept],
            labels=self.labels[kept],
            groups=self.groups[kept],
            patients=[self.patients[i] for i in kept],
            rows=[self.rows[i] for i in kept],
            left_out=(*self.left_out, *unread.values()),
        )

    def merge(self, hashes: np.ndarray) -> tuple["Dataset", int]:
        """Merge patients who share an image into one; see `duplicates.merge_groups_with_copies`."""
        groups, copies = merge_groups_with_copies(self.groups, hashes)
        return replace(self, groups=groups), copies

    def names(self, indices: Iterable[int]) -> list[str]:
        """Names of images as class/file, the same on every machine, as printable text."""
        names = (f"{self.classes[self.labels[i]]}/{self.paths[i].name}" for i in indices)
        return [printable(name) for name in names]


def inspect_file(path: Path, listed: bool, salt: bytes) -> ManifestRow | InputError:
    """Read an image file without decoding its pixels; the error if it cannot be read.

    The row has the file's SHA-256 and, for `source_id`, its path. If no manifest lists the file,
    the row also has the patient's digest where the name has the form of NIH's data set, and of a
    DICOM file what may be kept of its header.
    """
    try:
        file = ImageFile.read(path)
        row = ManifestRow(path.name, "", str(path), "", sha256=file.sha256)
        if not listed and (named := NIH_NAME.fullmatch(path.name)):
            return replace(row, patient_id=patient_digest(f"nih\0{named[1]}", salt))
        if listed or not file.is_dicom:
            return row
        from covidxray.data.dicom import read_header  # pydicom is slow to import

        return replace(row, source="dicom", **read_header(file, salt))
    except InputError as error:
        return error


def inspect_files(
    paths: Sequence[Path], listed: Sequence[bool], salt: bytes
) -> Iterator[ManifestRow | InputError]:
    """`inspect_file` for many files in threads; results are in order and computed on demand."""
    files = zip(paths, listed, strict=True)
    return ordered_map(lambda file: inspect_file(*file, salt), files)


def load_dataset(
    root: Path,
    salt: bytes,
    *,
    classes: Sequence[str] | None = None,
    added: Sequence[tuple[str, Path]] = (),
    inspect_files: Callable[..., Iterable[ManifestRow | InputError]] = inspect_files,
) -> Dataset:
    """Read the class folders in `root`. Hidden files and folders are ignored.

    Two images are of one patient if their manifest rows name the same source and patient id, if
    their DICOM headers have the same Patient ID or, without one, the same study, or if their names
    in the form of NIH's data set begin alike. Any other image is its own patient. A file that
    cannot be read, or is not in a class folder, is left out.

    Args:
        root: folder of class folders.
        salt: of the patients' digests (`patient_digest`); nothing else depends on it.
        classes: of a model, to which all folders must belong. None: two or more folders.
        added: pairs of a class and a folder with more images of it.
        inspect_files: reads the files; `RayEngine.inspect_files` does so on many machines.

    Raises:
        InputError: a class is missing, unknown or empty, a manifest does not fit its folder,
            drawings are mixed with real images, or no file can be read.
    """
    names, folders = find_class_folders(root, classes, added)
    stray = list_images(root)
    left_out = [InputError(f"{p}: lies in no class folder; move it into one") for p in stray]
    images: list[tuple[Path, int, ManifestRow, str]] = []
    without_manifest = []
    for name, folder in folders:
        manifest = read_manifest(folder)
        paths = list_class_images(folder, manifest)
        rows = inspect_files(paths, [path.name in manifest for path in paths], salt)
        first = len(images)
        for path, row in zip(paths, rows, strict=True):
            if isinstance(row, InputError):
                left_out.append(row)
            else:
                row, patient = _row_and_patient(path, row, manifest.get(path.name), salt)
                images.append((path, names.index(name), row, patient))
        if not manifest and any(not patient for *_, patient in images[first:]):
            without_manifest.append(folder.name)
    if not images:
        raise left_out[-1]
    paths, labels, rows, patients = (list(column) for column in zip(*images, strict=True))
    _refuse_mixture(paths, rows)
    return Dataset(
        name=printable(root.resolve().name),
        classes=names,
        paths=paths,
        labels=np.array(labels, np.int64),
        groups=number_patients(patients),
        patients=patients,
        rows=rows,
        without_manifest=tuple(without_manifest),
        left_out=tuple(left_out),
    )


def _row_and_patient(
    path: Path, found: ManifestRow, listed: ManifestRow | None, salt: bytes
) -> tuple[ManifestRow, str]:
    """An image's row, from its manifest or else from what was `found`, and its patient's digest."""
    if listed is None:
        return found, found.patient_id
    if listed.sha256 not in ("", found.sha256):
        raise InputError(f"{path}: is not the image of its manifest; run the builder again")
    key = f"{listed.source}\0{listed.patient_id}" if listed.patient_id else ""
    return replace(listed, sha256=found.sha256), key and patient_digest(key, salt)


def _refuse_mixture(paths: Sequence[Path], rows: Sequence[ManifestRow]) -> None:
    folders = {row.synthetic == "yes": path.parent for path, row in zip(paths, rows, strict=True)}
    if len(folders) == 2:
        raise InputError(
            f"{folders[True]}: holds drawings while {folders[False]} holds real images; "
            "fill both with real ones (build_covid_dataset.py, sample_kaggle_dataset.py)"
        )

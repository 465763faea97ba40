"""Class folders -> Dataset: paths, labels, patients, sources."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from covidxray.cli import info, printable
from covidxray.errors import InputError
from covidxray.files import on_disk, sha256_of
from covidxray.images import check_file, is_dicom, list_images
from covidxray.manifest import Row, mask_of, read_manifest
from covidxray.pipeline import ordered_map
from covidxray.splits import merge_duplicates


@dataclass(frozen=True)
class Dataset:
    """Labelled images, in the order of their class and file names.

    Attributes:
        name: the folder's name.
        classes: the class folders' names, sorted; or those asked for, in their order.
        paths: N files.
        labels: (N,) int64, indices into `classes`.
        groups: (N,) int64; images with the same number are one patient's. Numbered as they come.
        patients: N digests of patients (`patient_digest`); "" where an image is its own patient.
        rows: N manifest rows. Where a folder has none they are mostly empty, but of a DICOM file
            they say what may be kept, with the patient's digest for `patient_id`.
        without_manifest: classes without one in which some images are taken for a patient each.
        sha256: digest of every class name and image.
        left_out: why each image that is not among these is left out.
    """

    name: str
    classes: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    groups: np.ndarray
    patients: list[str]
    rows: list[Row]
    without_manifest: tuple[str, ...]
    sha256: str
    left_out: tuple[InputError, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def masks(self) -> list[Path | None]:
        """The mask of the lungs that came with each image."""
        pairs = zip(self.paths, self.rows, strict=True)
        return [mask_of(path) if row.mask_sha256 else None for path, row in pairs]

    @property
    def synthetic(self) -> bool:
        """Whether these are drawings."""
        return self.rows[0].synthetic == "yes"

    def __str__(self) -> str:
        counts = zip(
            np.bincount(self.labels, minlength=len(self.classes)), self.classes, strict=True
        )
        images = " + ".join(f"{n} {name}" for n, name in counts if n)
        left_out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{self.name}: {images} images, {len(np.unique(self.groups))} patients{left_out}"

    def index(self, positive: str) -> int:
        """The label of a class.

        Raises:
            InputError: there is no such class.
        """
        if positive not in self.classes:
            found = ", ".join(self.classes)
            raise InputError(f"{self.name}: no class {positive}; --positive takes {found}")
        return self.classes.index(positive)

    def without(self, unread: Mapping[int, InputError]) -> "Dataset":
        """Leave out images that could not be read, by index.

        Raises:
            InputError: no others are there.
        """
        kept = [i for i in range(len(self)) if i not in unread]
        if not kept:
            raise unread[0]
        rows, labels = [self.rows[i] for i in kept], self.labels[kept]
        return replace(
            self,
            paths=[self.paths[i] for i in kept],
            labels=labels,
            groups=self.groups[kept],
            patients=[self.patients[i] for i in kept],
            rows=rows,
            sha256=_digest(self.classes, labels, rows),
            left_out=(*self.left_out, *unread.values()),
        )

    def merge(self, hashes: np.ndarray) -> tuple["Dataset", int]:
        """Make one of all patients who share a picture (`splits.merge_duplicates`).

        Args:
            hashes: (N, 4) uint64 perceptual hashes.

        Returns:
            The data set with those groups, and how many images have a copy under another patient.
        """
        groups, copies = merge_duplicates(self.groups, hashes)
        return replace(self, groups=groups), copies

    def names(self, indices: Iterable[int]) -> list[str]:
        """Images as class/file, the same on every machine, for any output (`cli.printable`)."""
        names = (f"{self.classes[self.labels[i]]}/{self.paths[i].name}" for i in indices)
        return [printable(name) for name in names]


def patient_digest(patient: str, salt: bytes) -> str:
    """Digest of a patient's key, to tell whether two data sets share a patient.

    BLAKE2b keyed with `salt`, 16 bytes in hexadecimal. It hides the key from who lacks the salt,
    not from who has it: hospitals' numbers are short, and all of them can be tried.

    Args:
        patient: the source and the patient id of a manifest with NUL between them, or a DICOM
            file's Patient ID, after its issuer and NUL if there is one.
        salt: 1 to 64 bytes; digests with another salt cannot be compared.
    """
    return hashlib.blake2b(
        patient.encode(errors="surrogateescape"), key=salt, digest_size=16
    ).hexdigest()


def look(path: Path, listed: bool, salt: bytes) -> Row | InputError:
    """What a file alone says: its hash, and if no manifest lists it, what a DICOM header tells.

    Of one that cannot be read, why.
    """
    with on_disk(path) as file:
        try:
            check_file(file)
            row = Row(path.name, "", "", "") if listed else _unlisted(file, salt)
            return replace(row, source_id=str(path), sha256=sha256_of(file))
        except InputError as error:
            return InputError(str(error).replace(str(file), str(path)))
        except OSError as error:
            return InputError(f"{path}: cannot be read ({error.strerror}); see who may")


def look_at_all(
    paths: Sequence[Path], listed: Sequence[bool], salt: bytes
) -> Iterator[Row | InputError]:
    """`look` at files in threads, in order and as they are asked for."""
    return ordered_map(lambda item: look(*item, salt), zip(paths, listed, strict=True))


def load_dataset(
    root: Path,
    salt: bytes,
    *,
    classes: Sequence[str] | None = None,
    added: Sequence[tuple[str, Path]] = (),
    look_at: Callable[..., Iterable[Row | InputError]] = look_at_all,
) -> Dataset:
    """Read `root`'s class folders; hidden files and folders are passed over.

    A patient is known by source and patient id, or by a DICOM file's Patient ID, in whichever class
    folder; any other image without a manifest row is its own patient. A file that cannot be
    read, or lies in no class folder, is left out, and the data set says why.

    Args:
        root: folder of class folders.
        salt: of the patients' digests (`patient_digest`); nothing else depends on it.
        classes: a model's classes; one or more of them must be there as folders, and no other.
            None: the folders are the classes, two or more.
        added: a class and a folder of more images of it, each.
        look_at: reads the files; `cluster.Cluster.look_at` does so on many machines.

    Raises:
        InputError: too few classes or an unknown one, a class without images, a manifest that does
            not fit its folder, or drawings mixed with real images; or not one file can be read.
    """
    folders = _class_folders(root, classes)
    classes = tuple(classes or (folder.name for folder in folders))
    paths: list[Path] = []
    labels: list[int] = []
    rows: list[Row] = []
    patients: list[str] = []
    left_out = [
        InputError(f"{path}: lies in no class folder; move it into one")
        for path in list_images(root)
    ]
    without_manifest = []
    for name, _ in added:
        if name not in classes:
            raise InputError(f"{root}: no class {name} to add to; there are {', '.join(classes)}")
    for name, folder in [*((folder.name, folder) for folder in folders), *added]:
        manifest = read_manifest(folder)
        images = list_images(folder)
        if not images:
            raise InputError(f"{folder}: holds no images; fill it or remove it")
        absent = sorted(set(manifest) - {p.name for p in images})
        if absent:
            raise InputError(f"{folder / absent[0]}: is in the manifest but gone; build it again")
        listed = [path.name in manifest for path in images]
        if manifest and False in listed:
            count, first = listed.count(False), images[listed.index(False)].name
            info(f"{folder}: {count} images have no row in its manifest.csv, {first} for one")
        before = len(patients)
        for path, seen in zip(images, look_at(images, listed, salt), strict=True):
            if isinstance(seen, InputError):
                left_out.append(seen)
                continue
            row, patient = seen, seen.patient_id
            if path.name in manifest:
                row = manifest[path.name]
                patient = f"{row.source}\0{row.patient_id}" if row.patient_id else ""
                patient = patient and patient_digest(patient, salt)
            if row.sha256 not in ("", seen.sha256):
                raise InputError(f"{path}: is not the image of its manifest; build it again")
            if row.mask_sha256 and not mask_of(path).is_file():
                raise InputError(f"{mask_of(path)}: is in the manifest but gone; build it again")
            paths.append(path)
            labels.append(classes.index(name))
            rows.append(replace(row, sha256=seen.sha256))
            patients.append(patient)
        if not manifest and "" in patients[before:]:
            without_manifest.append(folder.name)
    if not paths:
        raise left_out[-1]
    _refuse_mixture(rows, paths)
    return Dataset(
        name=printable(root.resolve().name),
        classes=classes,
        paths=paths,
        labels=np.array(labels, np.int64),
        groups=_number(patients),
        patients=patients,
        rows=rows,
        without_manifest=tuple(without_manifest),
        sha256=_digest(classes, labels, rows),
        left_out=tuple(left_out),
    )


def _digest(classes: Sequence[str], labels: Iterable[int], rows: Iterable[Row]) -> str:
    whole = hashlib.sha256()
    for label, row in zip(labels, rows, strict=True):
        whole.update(f"{classes[label]}\0{row.sha256}\n".encode())
    return whole.hexdigest()


def _class_folders(root: Path, classes: Sequence[str] | None) -> list[Path]:
    folders = sorted(
        p for p in root.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX"
    )
    for folder in folders:
        if not folder.name.isprintable():
            raise InputError(f"{folder}: cannot be a class's name; rename the folder")
    if classes is None and len(folders) < 2:
        raise InputError(
            f"{root}: needs two or more class folders, has {len(folders)}; "
            "build_covid_dataset.py and sample_kaggle_dataset.py make them"
        )
    if classes is not None:
        known = ", ".join(classes)
        if not folders:
            raise InputError(f"{root}: holds no class folder; the model's classes are {known}")
        for folder in folders:
            if folder.name not in classes:
                raise InputError(f"{folder}: is no class of the model; its classes are {known}")
    return folders


def _unlisted(path: Path, salt: bytes) -> Row:
    """A row for an image that no manifest names; of its patient, if that is known, the digest."""
    row = Row(path.name, "", "", "")
    if not is_dicom(path):
        return row
    from covidxray.dicom import read_header  # pydicom is slow to import, and seldom needed

    header = read_header(path)
    digest = header.patient and patient_digest(header.patient, salt)
    row = replace(row, source="dicom", patient_id=digest, view=header.view)
    return replace(row, age=header.age, sex=header.sex)


def _number(patients: list[str]) -> np.ndarray:
    """Number patients from 0 in the order in which they come; each "" is another one."""
    numbers: dict[str | int, int] = {}
    keys = (patient or index for index, patient in enumerate(patients))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _refuse_mixture(rows: list[Row], paths: list[Path]) -> None:
    drawn = {path.parent for row, path in zip(rows, paths, strict=True) if row.synthetic == "yes"}
    real = {path.parent for row, path in zip(rows, paths, strict=True) if row.synthetic != "yes"}
    if drawn and real:
        raise InputError(
            f"{sorted(drawn)[0]}: holds drawings while {sorted(real)[0]} holds real images; "
            "fill both with real ones (build_covid_dataset.py, sample_kaggle_dataset.py)"
        )

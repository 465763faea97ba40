"""Class folders -> Dataset: paths, labels, patients, sources."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from imutils import paths as imutils_paths

from covidxray.errors import InputError
from covidxray.files import sha256_of
from covidxray.images import EXTENSIONS
from covidxray.manifest import Row, read_manifest


@dataclass(frozen=True)
class Dataset:
    """Labelled images, in the order of their class and file names.

    Attributes:
        name: the folder's name.
        classes: the class folders' names, sorted.
        paths: N files.
        labels: (N,) int64, indices into `classes`.
        groups: (N,) int64; images with the same number are one patient's.
        rows: N manifest rows; mostly empty where a folder has no manifest.
        without_manifest: classes whose images are each taken for a patient of its own.
        sha256: digest of every class name and image.
    """

    name: str
    classes: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    groups: np.ndarray
    rows: list[Row]
    without_manifest: tuple[str, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def synthetic(self) -> bool:
        """Whether these are drawings."""
        return self.rows[0].synthetic == "yes"

    def __str__(self) -> str:
        counts = zip(np.bincount(self.labels), self.classes, strict=True)
        images = " + ".join(f"{n} {name}" for n, name in counts)
        return f"{self.name}: {images} images, {len(np.unique(self.groups))} patients"

    def names(self, indices: Iterable[int]) -> list[str]:
        """Images as class/file, the same on every machine."""
        return [f"{self.classes[self.labels[i]]}/{self.paths[i].name}" for i in indices]


def load_dataset(root: Path) -> Dataset:
    """Read `root`'s class folders; hidden files and folders are passed over.

    A patient is known by source and patient id, in whichever class folder; an image without a
    manifest row is its own patient.

    Raises:
        InputError: fewer than two classes, a class without images, a manifest that does not fit
            its folder, or drawings mixed with real images.
    """
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise InputError(
            f"{root}: needs two or more class folders, has {len(folders)}; "
            "build_covid_dataset.py and sample_kaggle_dataset.py make them"
        )
    paths: list[Path] = []
    labels: list[int] = []
    rows: list[Row] = []
    without_manifest = []
    for label, folder in enumerate(folders):
        manifest = read_manifest(folder)
        if not manifest:
            without_manifest.append(folder.name)
        images = sorted(Path(p) for p in imutils_paths.list_files(folder, validExts=EXTENSIONS))
        images = [p for p in images if p.parent == folder and not p.name.startswith(".")]
        if not images:
            raise InputError(f"{folder}: holds no images; fill it or remove it")
        absent = sorted(set(manifest) - {p.name for p in images})
        if absent:
            raise InputError(f"{folder / absent[0]}: is in the manifest but gone; build it again")
        for path in images:
            row = manifest.get(path.name) or Row(path.name, "", str(path), "")
            digest = sha256_of(path)
            if row.sha256 not in ("", digest):
                raise InputError(f"{path}: is not the image of its manifest; build it again")
            paths.append(path)
            labels.append(label)
            rows.append(Row(**{**vars(row), "sha256": digest}))
    _refuse_mixture(rows, paths)
    classes = tuple(folder.name for folder in folders)
    whole = hashlib.sha256()
    for label, row in zip(labels, rows, strict=True):
        whole.update(f"{classes[label]}\0{row.sha256}\n".encode())
    names = [
        f"{row.source}\0{row.patient_id}" if row.patient_id else f"\0{path}"
        for row, path in zip(rows, paths, strict=True)
    ]
    return Dataset(
        name=root.resolve().name,
        classes=classes,
        paths=paths,
        labels=np.array(labels, np.int64),
        groups=np.unique(names, return_inverse=True)[1].astype(np.int64),
        rows=rows,
        without_manifest=tuple(without_manifest),
        sha256=whole.hexdigest(),
    )


def _refuse_mixture(rows: list[Row], paths: list[Path]) -> None:
    drawn = {path.parent for row, path in zip(rows, paths, strict=True) if row.synthetic == "yes"}
    real = {path.parent for row, path in zip(rows, paths, strict=True) if row.synthetic != "yes"}
    if drawn and real:
        raise InputError(
            f"{sorted(drawn)[0]}: holds drawings while {sorted(real)[0]} holds real images; "
            "fill both with real ones (build_covid_dataset.py, sample_kaggle_dataset.py)"
        )

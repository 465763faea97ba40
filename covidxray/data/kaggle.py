"""Read Chest X-Ray Images (Pneumonia) (Kermany, Zhang, Goldbaum 2018; Kaggle, CC BY 4.0).

The images are of children aged one to five years from one hospital in Guangzhou. The folders
`train`, `test` and `val` each have a folder `NORMAL` and a folder `PNEUMONIA`:

- The zip file has the whole folder twice, one inside the other.
- Some images are in two splits, at two sizes.
- Names in `NORMAL` begin with the patient: `IM-0115-0001`, `NORMAL2-IM-0315-0001`,
  `NORMAL-28501-0001`.
- Pneumonia is in the name, as in `person1_bacteria_2`. Some copies of the data set have such files
  in `NORMAL`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from covidxray.data.class_folder import Selection
from covidxray.data.duplicates import near_duplicates, perceptual_hash
from covidxray.data.folders import PNEUMONIA, list_images
from covidxray.data.images import read_image
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError

Paths = Sequence[Path]

SOURCE = "kaggle-chest-xray-pneumonia"
SITE = "Guangzhou Women and Children's Medical Center"
SPLITS = ("train", "test", "val")
PATIENT = re.compile(r"(?:NORMAL2?-)?(?:IM-)?\d+(?=-)")


class Sample(NamedTuple):
    """Images drawn at random and those that were passed over, sorted but for `damaged`."""

    taken: list[Path]
    copies: list[Path]  # of an image that was taken, or with the same file name
    damaged: dict[Path, InputError]


def find_root(folder: Path) -> Path:
    """The folder that has train, test and val: `folder` itself or one that is directly in it.

    Raises:
        InputError: there is none.
    """
    inside = [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name != "__MACOSX"]
    for root in (folder, *inside):
        if any((root / split / "NORMAL").is_dir() for split in SPLITS):
            return root
    raise InputError(f"{folder}: has no train/NORMAL; give the unzipped chest_xray folder")


def list_normal(root: Path, splits: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """List the images in the NORMAL folders: normal ones, and those named as pneumonia.

    Raises:
        InputError: a split has no NORMAL folder.
    """
    normal: list[Path] = []
    pneumonia: list[Path] = []
    for split in splits:
        folder = root / split / "NORMAL"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; choose another --split")
        for path in list_images(folder):
            (pneumonia if PNEUMONIA.match(path.name) else normal).append(path)
    return normal, pneumonia


def patient_of(path: Path) -> str:
    """The patient in a file name; the whole name without its ending if there is none."""
    match = PATIENT.match(path.name)
    return match.group() if match else path.stem


def sample(paths: Paths, n: int, rng: np.random.Generator, one_per_patient: bool = True) -> Sample:
    """Draw `n` different images at random, by default one per patient.

    Raises:
        InputError: there are fewer than `n`; the message says how many.
    """
    taken: list[Path] = []
    copies: list[Path] = []
    damaged: dict[Path, InputError] = {}
    patients: set[str] = set()
    names: set[str] = set()
    hashes = np.empty((0, 4), np.uint64)
    for path in (paths[index] for index in rng.permutation(len(paths))):
        if len(taken) == n:
            break
        if one_per_patient and patient_of(path) in patients:
            continue
        try:
            image_hash = perceptual_hash(read_image(path))
        except InputError as error:
            damaged[path] = error
            continue
        if len(near_duplicates(hashes, image_hash[None])) or path.name.lower() in names:
            copies.append(path)
            continue
        taken.append(path)
        patients.add(patient_of(path))
        names.add(path.name.lower())
        hashes = np.vstack([hashes, image_hash])
    if len(taken) < n:
        kind = "patients" if one_per_patient else "different images"
        reason = f"there are {len(taken)} normal {kind}"
        raise InputError(f"--sample {n}: {reason}; give a smaller number")
    return Sample(sorted(taken), sorted(copies), damaged)


def make_selection(
    root: Path, normal: Paths, pneumonia: Paths, drawn: Sample, one_per_patient: bool
) -> Selection:
    """The drawn images with their manifest rows, and why each other image in NORMAL is left out."""
    reasons = dict.fromkeys(pneumonia, "pneumonia by its name")
    reasons |= dict.fromkeys(drawn.copies, "copy of another image")
    reasons |= dict.fromkeys(drawn.damaged, "damaged")
    patients = {patient_of(path) for path in drawn.taken} if one_per_patient else set()
    for path in sorted(set(normal) - {*drawn.taken, *reasons}):
        seen = patient_of(path) in patients
        reasons[path] = "another image of the patient" if seen else "not drawn"
    excluded = [(path.name, reason) for path, reason in reasons.items()]
    return Selection([(row(root, path), path) for path in drawn.taken], excluded)


def row(root: Path, path: Path) -> ManifestRow:
    """The manifest row of a NORMAL image in `root`."""
    return ManifestRow(
        filename=path.name,
        source=SOURCE,
        source_id=path.relative_to(root).as_posix(),
        patient_id=patient_of(path),
        finding="No Finding",
        site=SITE,
        license="CC BY 4.0",
        url="https://data.mendeley.com/datasets/rscbjbr9sj",
    )

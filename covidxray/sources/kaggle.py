"""Chest X-Ray Images (Pneumonia), Kermany, Zhang, Goldbaum 2018 (Kaggle, CC BY 4.0).

Children of one to five years from one hospital in Guangzhou, as `train/test/val`, each with
`NORMAL` and `PNEUMONIA`. Quirks: the zip holds the folder twice, one in the other; some pictures
stand in two splits at two sizes; `NORMAL` names begin with the patient (`IM-0115-0001`,
`NORMAL2-IM-0315-0001`, `NORMAL-28501-0001`); pneumonia names say so (`person1_bacteria_2`), and in
copies of the set such files have ended up among the normal ones.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covidxray.errors import InputError
from covidxray.images import DUPLICATE_BITS, EXTENSIONS, hash_distance, perceptual_hash, read_image
from covidxray.manifest import Row

SOURCE = "kaggle-chest-xray-pneumonia"
SPLITS = ("train", "test", "val")
PNEUMONIA = re.compile(r"person\d+_(bacteria|virus)", re.IGNORECASE)
PATIENT = re.compile(r"(?:NORMAL2?-)?(?:IM-)?\d+(?=-)")


def find_root(folder: Path) -> Path:
    """The folder that holds train, test and val: `folder` itself or one level below it.

    Raises:
        InputError: there is none.
    """
    below = [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name != "__MACOSX"]
    for place in (folder, *below):
        if any((place / split / "NORMAL").is_dir() for split in SPLITS):
            return place
    raise InputError(f"{folder}: holds no train/NORMAL; give the unzipped chest_xray folder")


def list_normal(root: Path, splits: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Images in the NORMAL folders, and apart from them those whose names say pneumonia.

    Raises:
        InputError: a split has no NORMAL folder.
    """
    normal: list[Path] = []
    pneumonia: list[Path] = []
    for split in splits:
        folder = root / split / "NORMAL"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; choose another --split")
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
                (pneumonia if PNEUMONIA.match(path.name) else normal).append(path)
    return normal, pneumonia


def patient_of(path: Path) -> str:
    """The patient whom a file name tells; the whole name where it tells none."""
    match = PATIENT.match(path.name)
    return match.group() if match else path.stem


def sample(
    paths: Sequence[Path], n: int, rng: np.random.Generator, one_per_patient: bool = True
) -> tuple[list[Path], list[Path], dict[Path, InputError]]:
    """Draw `n` images at random: by default one per patient, never one picture twice.

    Returns:
        The images in order of their names, copies of them that were passed over, and those
        that could not be decoded, each with its error.

    Raises:
        InputError: there are fewer than `n`; it says how many.
    """
    taken: list[Path] = []
    copies: list[Path] = []
    damaged: dict[Path, InputError] = {}
    patients: set[str] = set()
    names: set[str] = set()
    hashes = np.empty((0, 4), np.uint64)
    for index in rng.permutation(len(paths)):
        path = paths[index]
        if len(taken) == n:
            break
        if one_per_patient and patient_of(path) in patients:
            continue
        try:
            code = perceptual_hash(read_image(path))
        except InputError as error:
            damaged[path] = error
            continue
        alike = (hash_distance(hashes, code) <= DUPLICATE_BITS).any()
        if alike or path.name.lower() in names:
            copies.append(path)
            continue
        taken.append(path)
        patients.add(patient_of(path))
        names.add(path.name.lower())
        hashes = np.vstack([hashes, code])
    if len(taken) < n:
        kind = "patients" if one_per_patient else "different images"
        raise InputError(
            f"{n} images asked for, but there are {len(taken)} normal {kind}; lower --sample"
        )
    return sorted(taken), sorted(copies), damaged


def row(root: Path, path: Path) -> Row:
    """A manifest row for a NORMAL image below `root`."""
    return Row(
        filename=path.name,
        source=SOURCE,
        source_id=path.relative_to(root).as_posix(),
        patient_id=patient_of(path),
        finding="No Finding",
        license="CC BY 4.0",
        url="https://data.mendeley.com/datasets/rscbjbr9sj",
    )

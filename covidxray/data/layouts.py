"""Where the images of each class lie: the layouts of folders that a data set may have.

- `CLASS/image`, as the builders of this program write it.
- `train/CLASS`, `val/CLASS`, `test/CLASS` (Kaggle): the images of `test` are held out.
- `CLASS/images` and `CLASS/masks` (COVID-19 Radiography Database): the masks are of the lungs.
- `CLASS/PATIENT/.../image` (CheXpert, MIMIC-CXR-JPG): a folder is a patient.

A layout is accepted only if every folder at its level fits it.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray.data.folders import Listing, is_masks, list_folder, list_tree, mask_of
from covidxray.errors import InputError

if TYPE_CHECKING:
    from covidxray.data.manifest import ManifestRow

TRAIN, TEST = "train", "test"
SPLITS = (TRAIN, "val", "valid", "validation", TEST)
NUMBERED = re.compile(r"\d")  # a folder of a patient, study or series has a number in its name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassFolder:
    """A folder of images of one class; `held_out` if it lies in the data set's own `test`."""

    name: str
    folder: Path
    held_out: bool = False


@dataclass(frozen=True)
class ClassImages:
    """The images of a class folder.

    Attributes:
        base: folder that the names in its manifest are relative to.
        paths: sorted.
        by_patient: whether each folder in `base` is a patient.
        masks: folder of lung masks named as their images; None without one.
        left_out: an error for each image that is not used.
    """

    base: Path
    paths: list[Path]
    by_patient: bool
    masks: Path | None
    left_out: list[InputError]

    def name_of(self, path: Path) -> str:
        """The name of an image in its manifest: its path in `base`, with slashes."""
        return "/".join(path.parts[len(self.base.parts) :])

    def mask_of(self, path: Path, listed: "ManifestRow | None") -> Path | None:
        """The lung mask of an image, from its manifest row or by its name; None without one."""
        if listed:
            return mask_of(path) if listed.mask_sha256 else None
        mask = self.masks / path.name if self.masks else None
        return mask if mask and mask.is_file() else None


def find_class_folders(
    root: Path, classes: Sequence[str] | None, added: Sequence[tuple[str, Path]]
) -> tuple[tuple[str, ...], list[ClassFolder], list[InputError]]:
    """The names of the classes, their folders, and an error for each image outside of them.

    The arguments are those of `loading.load_dataset`.
    """
    listing = list_folder(root)
    outside = [(listing.images, listing.foreign)]
    folders = [ClassFolder(folder.name, folder) for folder in listing.folders]
    if splits := _find_splits(listing.folders, classes or ()):
        outside += [(inner.images, inner.foreign) for inner in splits.values()]
        folders = [
            ClassFolder(folder.name, folder, held_out=split.name.lower() == TEST)
            for split, inner in splits.items()
            for folder in inner.folders
        ]
    names = tuple(classes or sorted({folder.name for folder in folders}))
    _check_names(root, names, folders, classes, added)
    left_out = []
    for images, foreign in outside:
        message = "lies in no class folder; move it into one"
        left_out += [*(InputError(f"{path}: {message}") for path in images), *foreign]
    return names, [*folders, *(ClassFolder(*pair) for pair in added)], left_out


def _find_splits(folders: Sequence[Path], classes: Sequence[str]) -> dict[Path, Listing]:
    """What `train`, `val` and `test` hold; empty if the folders are not these."""
    names = [folder.name.lower() for folder in folders]
    if TRAIN not in names or not set(names) <= set(SPLITS) or not set(names).isdisjoint(classes):
        return {}
    splits = {folder: list_folder(folder) for folder in folders}
    return splits if all(listing.folders for listing in splits.values()) else {}


def _check_names(
    root: Path,
    names: Sequence[str],
    folders: Sequence[ClassFolder],
    classes: Sequence[str] | None,
    added: Sequence[tuple[str, Path]],
) -> None:
    known = ", ".join(names)
    for folder in folders:
        if not folder.name.isprintable():
            raise InputError(f"{folder.folder}: cannot be a class's name; rename the folder")
        if folder.name not in names:
            raise InputError(f"{folder.folder}: is no class of the model; its classes are {known}")
    if classes is not None and not folders:
        raise InputError(f"{root}: holds no class folder; the model's classes are {known}")
    if classes is None and len(names) < 2:
        raise InputError(
            f"{root}: needs two or more class folders, has {len(names)}; "
            "build_covid_dataset.py and sample_kaggle_dataset.py make them"
        )
    for name, _ in added:
        if name not in names:
            raise InputError(f"{root}: no class {name} to add to; there are {known}")


def list_class(folder: Path, manifest: Mapping[str, "ManifestRow"]) -> ClassImages:
    """The images of a class folder, which must include all that its manifest lists.

    Raises:
        InputError: there is no image, or one of the manifest is missing.
    """
    listing = list_folder(folder)
    inner = _inner_folders(listing)
    masks = next(filter(is_masks, listing.folders), None)
    base, images, left_out = folder, listing.images, listing.foreign
    if not images and [path.name.lower() for path in inner] == ["images"]:
        base, listing = inner[0], list_folder(inner[0])
        images, inner = listing.images, _inner_folders(listing)
        left_out = left_out + listing.foreign
    by_patient = bool(inner) and not manifest and all(map(_is_numbered, inner))
    for path in inner:
        found, errors = list_tree(path)
        left_out += errors
        if by_patient:
            images += found
        else:
            message = "lies in a folder inside the class folder; move it up to use it"
            left_out += [InputError(f"{image}: {message}") for image in found]
    if not images:
        hint = "; fill it or remove it" if not left_out else f" that are used ({left_out[0]})"
        raise InputError(f"{folder}: holds no images{hint}")
    listed = ClassImages(base, sorted(images), by_patient, masks, left_out)
    _check_manifest(listed, manifest)
    return listed


def _inner_folders(listing: Listing) -> list[Path]:
    """The folders that may hold images. A link is not followed, because it may lead in a circle."""
    return [path for path in listing.folders if not is_masks(path) and not path.is_symlink()]


def _is_numbered(folder: Path) -> bool:
    """Whether a folder, and each below, can be that of a patient, a study or a series."""
    inner = _inner_folders(list_folder(folder))
    return NUMBERED.search(folder.name) is not None and all(map(_is_numbered, inner))


def _check_manifest(listed: ClassImages, manifest: Mapping[str, "ManifestRow"]) -> None:
    names = {listed.name_of(path) for path in listed.paths}
    missing = [listed.base / name for name in sorted(set(manifest) - names)]
    masks = [mask_of(listed.base / name) for name, row in manifest.items() if row.mask_sha256]
    missing += [mask for mask in masks if not mask.is_file()]
    if missing:
        message = "is listed in manifest.csv but missing; run the builder again"
        raise InputError(f"{missing[0]}: {message}")
    unlisted = sorted(names - set(manifest))
    if manifest and unlisted:
        message = "%s: %d images have no row in its manifest.csv, %s for one"
        logger.info(message, listed.base, len(unlisted), unlisted[0])

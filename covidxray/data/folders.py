"""List image files, and the class folders of a data set, which must fit classes and manifests."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from covidxray.data.image_file import ImageFile
from covidxray.data.manifest import ManifestRow, mask_of
from covidxray.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
DICOM_EXTENSIONS = (".dcm", ".dicom")
PNEUMONIA = re.compile(r"person\d+_(bacteria|virus)", re.IGNORECASE)  # names in data/kaggle.py

logger = logging.getLogger(__name__)


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """List image files by extension; a file with another extension is listed if it is DICOM.

    Hidden files and folders, `__MACOSX` and DICOMDIR (a table of contents) are ignored. Links to
    folders below `folder` are not followed, because they may form a loop.

    Returns:
        Sorted paths in `folder`, which may be a `UPath`; if `recursive`, also in all folders below.

    Raises:
        InputError: a folder cannot be listed.
    """
    found = []
    try:
        for path in folder.iterdir():
            if _is_ignored(path):
                continue
            if path.is_dir():
                if recursive and not path.is_symlink():
                    found += list_images(path, recursive)
            elif path.suffix.lower() in EXTENSIONS + DICOM_EXTENSIONS or _is_dicom(path):
                found.append(path)
    except OSError as error:
        reason = f"cannot be listed ({error.strerror or error}); change its permissions"
        raise InputError(f"{folder}: {reason}") from error
    return sorted(found)


def _is_ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name in ("__MACOSX", "DICOMDIR")


def _is_dicom(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a named pipe would block
            return False
        with path.open("rb") as file:
            return ImageFile(path, file.read(132)).is_dicom
    except OSError:
        return False


def find_class_folders(
    root: Path, classes: Sequence[str] | None, added: Sequence[tuple[str, Path]]
) -> tuple[tuple[str, ...], list[tuple[str, Path]]]:
    """The names of the classes, and pairs of a class and one of its folders; see `load_dataset`."""
    here = [path for path in root.iterdir() if path.is_dir() and not _is_ignored(path)]
    folders = [(folder.name, folder) for folder in sorted(here)]
    names = tuple(classes or (name for name, _ in folders))
    known = ", ".join(names)
    for name, folder in folders:
        if not name.isprintable():
            raise InputError(f"{folder}: cannot be a class's name; rename the folder")
        if name not in names:
            raise InputError(f"{folder}: is no class of the model; its classes are {known}")
    if classes is not None and not folders:
        raise InputError(f"{root}: holds no class folder; the model's classes are {known}")
    if classes is None and len(folders) < 2:
        raise InputError(
            f"{root}: needs two or more class folders, has {len(folders)}; "
            "build_covid_dataset.py and sample_kaggle_dataset.py make them"
        )
    for name, _ in added:
        if name not in names:
            raise InputError(f"{root}: no class {name} to add to; there are {known}")
    return names, [*folders, *added]


def list_class_images(folder: Path, manifest: Mapping[str, ManifestRow]) -> list[Path]:
    """Sorted images of a class folder, which must include all that its manifest lists."""
    paths = list_images(folder)
    if not paths:
        raise InputError(f"{folder}: holds no images; fill it or remove it")
    masks = [mask_of(folder / name) for name, row in manifest.items() if row.mask_sha256]
    missing = [folder / name for name in sorted(set(manifest) - {path.name for path in paths})]
    missing += [mask for mask in masks if not mask.is_file()]
    if missing:
        message = "is listed in manifest.csv but missing; run the builder again"
        raise InputError(f"{missing[0]}: {message}")
    unlisted = [path.name for path in paths if path.name not in manifest]
    if manifest and unlisted:
        message = "%s: %d images have no row in its manifest.csv, %s for one"
        logger.info(message, folder, len(unlisted), unlisted[0])
    return paths

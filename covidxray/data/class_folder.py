"""Fill a class folder with images and their manifest.

A folder is filled as a whole: it is written under a temporary name and then renamed. It replaces
what an earlier run wrote; a file that no run wrote is an error, and nothing changes.
"""

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import NamedTuple

from covidxray.data.folders import MASKS, mask_of
from covidxray.data.manifest import (
    EXCLUDED,
    EXCLUDED_FIELDS,
    FIELDS,
    NAME,
    ManifestRow,
    read_exclusions,
    read_manifest,
)
from covidxray.data.spreadsheet_cells import to_cell
from covidxray.errors import InputError
from covidxray.files import sha256_of, temporary_path


class Selection(NamedTuple):
    """The images of a source that go into a class folder, and those that are left out."""

    images: Sequence[tuple[ManifestRow, Path]]  # manifest row and file of each
    excluded: Sequence[tuple[str, str]]  # file name and reason of each

    def __str__(self) -> str:
        patients = {row.patient_id or row.filename for row, _ in self.images}
        return f"{len(self.images)} images of {len(patients)} patients"


def check_replaceable(folder: Path) -> None:
    """Check that a class folder can be filled without loss of a file that no earlier run wrote.

    Raises:
        InputError: `folder` is a file or a link, cannot be created, or holds a file that its
            manifest does not list or that has changed since.
    """
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise InputError(f"{folder}: is not a plain folder; choose another --output")
    parent = next(path for path in folder.absolute().parents if os.path.lexists(path))
    trial = parent / temporary_path(folder).name
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        reason = f"cannot be created in {parent} ({error.strerror})"
        raise InputError(f"{folder}: {reason}; choose another --output") from error
    if not folder.exists():
        return
    rows = read_manifest(folder)
    read_exclusions(folder)  # fails for a table of the same name that no run wrote
    digests = {folder / name: row.sha256 for name, row in rows.items()}
    digests |= {mask_of(folder / name): row.mask_sha256 for name, row in rows.items()}
    for path in folder.rglob("*"):
        ours = path.parent == folder and path.name in (NAME, EXCLUDED)
        masks = path == folder / MASKS and path.is_dir()
        if not ours and not masks and not (path.is_file() and sha256_of(path) == digests.get(path)):
            raise InputError(
                f"{path}: was not written by this program, or changed since; "
                "move it away or choose another --output"
            )


def fill_folder(
    folder: Path,
    images: Iterable[tuple[ManifestRow, Path | bytes]],
    excluded: Sequence[tuple[str, str]] = (),
    masks: Mapping[str, Path] | None = None,
) -> None:
    """Replace what an earlier run wrote to a class folder by these images and their manifest.

    Args:
        folder: class folder; it is created if it does not exist.
        images: manifest row of each image, without digests, and its file or its content.
        excluded: file name and reason of each image that was considered and left out.
        masks: PNG files of lung masks, by file name of the image.

    Raises:
        InputError: `folder` cannot be replaced (see `check_replaceable`) or written.
    """
    check_replaceable(folder)
    folder = folder.absolute()
    new, old = temporary_path(folder), temporary_path(folder)
    try:
        new.mkdir(parents=True)
        rows = [_add_image(new, row, image, masks or {}) for row, image in images]
        # File names need not be UTF-8. The manifest keeps their bytes, as images are found by them.
        _write_table(new / NAME, [FIELDS, *map(astuple, rows)], "surrogateescape")
        if excluded:
            _write_table(new / EXCLUDED, [EXCLUDED_FIELDS, *excluded], "replace")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another --output"
        ) from error
    finally:
        if old.exists() and not folder.exists():  # stopped between the two renames
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)


def _add_image(
    folder: Path, row: ManifestRow, image: Path | bytes, masks: Mapping[str, Path]
) -> ManifestRow:
    """Write an image, and its mask if there is one; the row with their digests."""
    path = folder / row.filename
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        shutil.copyfile(image, path)
    if row.filename in masks:
        mask_of(path).parent.mkdir(exist_ok=True)
        mask = shutil.copyfile(masks[row.filename], mask_of(path))
        row = replace(row, mask_sha256=sha256_of(mask))
    return replace(row, sha256=sha256_of(path))


def _write_table(path: Path, rows: Iterable[Sequence[str]], errors: str) -> None:
    with path.open("w", newline="", encoding="utf-8", errors=errors) as file:
        csv.writer(file).writerows([to_cell(text) for text in row] for row in rows)

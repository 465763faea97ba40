"""A class folder's manifest.csv: one row per image, where it came from.

Beside it, excluded.csv names the images that were considered and left out, and why, and the folder
masks holds a mask of the lungs for those images that came with one.

A folder is filled as a whole: beside its place first, then renamed into it. What an earlier run
wrote there goes; a file that no run wrote stops it.
"""

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from covidxray.errors import InputError
from covidxray.files import sha256_of, stand_in, sweep
from covidxray.tables import from_cell, to_cell

NAME = "manifest.csv"
EXCLUDED = "excluded.csv"
MASKS = "masks"


@dataclass(frozen=True)
class Row:
    """One image; every field is text, empty where the source says nothing.

    `source_id` is the image's path in its source; `synthetic` is "yes" for a drawing.
    """

    filename: str
    source: str
    source_id: str
    patient_id: str
    view: str = ""
    finding: str = ""
    age: str = ""
    sex: str = ""
    license: str = ""
    url: str = ""
    sha256: str = ""
    synthetic: str = "no"
    mask_sha256: str = ""


FIELDS = tuple(field.name for field in fields(Row))
LATER = "mask_sha256"  # a column that folders filled earlier, or by hand, need not have


def mask_of(image: Path) -> Path:
    """Where an image's mask of the lungs lies, if it has one."""
    return image.parent / MASKS / f"{image.name}.png"


def read_manifest(folder: Path) -> dict[str, Row]:
    """The rows of `folder`'s manifest by file name; empty if it has none.

    Raises:
        InputError: the manifest cannot be read, lacks a column, or has a damaged or repeated row.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    rows: dict[str, Row] = {}
    try:
        # A spreadsheet that saves the table puts a mark before it, which utf-8-sig passes over.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            missing = [name for name in FIELDS if name not in (*(reader.fieldnames or ()), LATER)]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}; build the folder again")
            for values in reader:
                cells = [values.get(name, "" if name == LATER else None) for name in FIELDS]
                if None in cells or None in values or not values["filename"]:
                    raise InputError(
                        f"{path}: line {reader.line_num} is damaged; build the folder again"
                    )
                row = Row(*map(from_cell, cells))
                if row.filename in rows:
                    raise InputError(f"{path}: {row.filename} stands in two rows; keep one")
                rows[row.filename] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); build the folder again") from error
    return rows


def read_exclusions(folder: Path) -> list[tuple[str, str]]:
    """File name and reason of each image that was left out of `folder`; empty if none is known.

    Raises:
        InputError: excluded.csv cannot be read, or is not such a table.
    """
    path = folder / EXCLUDED
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it") from error
    if header != ["filename", "reason"] or any(len(row) != 2 for row in rows):
        raise InputError(f"{path}: is not a table of filename and reason; remove it")
    return [(from_cell(name), from_cell(reason)) for name, reason in rows]


def check_ours(folder: Path) -> None:
    """Make sure that everything in `folder` was written by an earlier run, and that it can be
    replaced, or made.

    What runs that were killed left beside it is cleared away.

    Raises:
        InputError: `folder` is a file, or holds a file that its manifest does not name or that
            has changed since; or nothing can be made beside it.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or folder.is_symlink()):
        raise InputError(f"{folder}: is not a plain folder; choose another --output")
    sweep(folder.absolute().parent)
    place = folder.absolute().parent
    while not os.path.lexists(place):
        place = place.parent
    trial = place / stand_in(folder, ".new").name
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made in {place} ({error.strerror}); choose another --output"
        ) from error
    if not folder.exists():
        return
    rows = read_manifest(folder)
    read_exclusions(folder)
    known = {folder / name: row.sha256 for name, row in rows.items()}
    known |= {mask_of(folder / name): row.mask_sha256 for name, row in rows.items()}
    masks = folder / MASKS
    inside = [*folder.iterdir(), *(masks.iterdir() if masks.is_dir() else ())]
    for path in sorted(inside):
        if path in (folder / NAME, folder / EXCLUDED) or (path == masks and path.is_dir()):
            continue
        if not path.is_file() or sha256_of(path) != known.get(path):
            raise InputError(
                f"{path}: was not written by this program, or changed since; "
                "move it away or choose another --output"
            )


def fill_folder(
    folder: Path,
    images: Iterable[tuple[Row, Path | bytes]],
    excluded: Sequence[tuple[str, str]] = (),
    masks: Mapping[str, Path] | None = None,
) -> None:
    """Replace what an earlier run wrote to `folder` by these images and their manifest.

    Args:
        folder: a class folder; made if it is not there.
        images: each row with its image's bytes, or the file to copy. `sha256` is filled in.
        excluded: file name and reason of each image that was considered and left out.
        masks: of the lungs, by the name of the image; PNG files.

    Raises:
        InputError: `folder` holds files of others (see `check_ours`), or cannot be written.
    """
    check_ours(folder)
    folder = folder.absolute()
    new, old = stand_in(folder, ".new"), stand_in(folder, ".old")
    try:
        new.mkdir(parents=True)
        rows = []
        for row, image in images:
            path = new / row.filename
            if isinstance(image, bytes):
                path.write_bytes(image)
            else:
                shutil.copyfile(image, path)
            row = replace(row, sha256=sha256_of(path))
            if masks and row.filename in masks:
                (new / MASKS).mkdir(exist_ok=True)
                mask = shutil.copyfile(masks[row.filename], mask_of(path))
                row = replace(row, mask_sha256=sha256_of(mask))
            rows.append(row)
        # A file name need not be text, and must be found again by what stands here.
        manifest = new / NAME
        with manifest.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(FIELDS)
            writer.writerows(map(to_cell, astuple(row)) for row in rows)
        if excluded:
            # Names that are not UTF-8 need not stop it: nothing is looked up by them.
            with open(new / EXCLUDED, "w", newline="", encoding="utf-8", errors="replace") as file:
                table = [("filename", "reason"), *excluded]
                writer = csv.writer(file)
                writer.writerows(map(to_cell, row) for row in table)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)

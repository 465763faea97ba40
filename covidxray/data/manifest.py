"""Read the manifest.csv of a class folder: one row per image, with its origin.

Next to it, excluded.csv lists the images that were considered and left out, and the folder masks
has a lung mask for each image whose source provides one. `class_folder.fill_folder` writes them.
"""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from covidxray.data.spreadsheet_cells import from_cell
from covidxray.data.tables import encoding_of, separator_of
from covidxray.errors import InputError

NAME = "manifest.csv"
EXCLUDED = "excluded.csv"
EXCLUDED_FIELDS = ("filename", "reason")


@dataclass(frozen=True)
class ManifestRow:
    """One image. Every field is text, and empty if the source does not give it.

    `source_id` is the path of the image in its source; `synthetic` is "yes" for a drawing. `site`
    is the hospital or, marked so, the publication; `device` is a digest of the X-ray machine.
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
    site: str = ""
    device: str = ""


FIELDS = tuple(field.name for field in fields(ManifestRow))
OPTIONAL = ("mask_sha256", "site", "device")  # columns that earlier versions did not write


def read_manifest(folder: Path) -> dict[str, ManifestRow]:
    """The rows of a class folder's manifest by file name; empty if there is no manifest.

    Raises:
        InputError: the manifest cannot be read, lacks a column, or has a damaged or repeated row.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    rows: dict[str, ManifestRow] = {}
    try:
        encoding = encoding_of(path)
        # A file name may be any bytes.
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            table = csv.DictReader(file, delimiter=separator_of(path, file))
            header = (*(table.fieldnames or ()), *OPTIONAL)
            if missing := [name for name in FIELDS if name not in header]:
                raise InputError(f"{path}: has no column {missing[0]!r}; build the folder again")
            for values in table:  # None stands for a missing cell, and is the key of extra ones
                cells: list[Any] = [values.get(name, "") for name in FIELDS]
                if None in cells or None in values or not values["filename"]:
                    where = f"line {table.line_num}"
                    raise InputError(f"{path}: {where} is damaged; build the folder again")
                row = ManifestRow(*map(from_cell, cells))
                if row.filename in rows:
                    raise InputError(f"{path}: {row.filename} is in two rows; remove one of them")
                rows[row.filename] = row
    except (OSError, UnicodeError, csv.Error) as error:  # not every pair of bytes is UTF-16
        raise InputError(f"{path}: cannot be read ({error}); build the folder again") from error
    return rows


def read_exclusions(folder: Path) -> list[tuple[str, str]]:
    """File name and reason of each image left out of a class folder; empty without excluded.csv.

    Raises:
        InputError: excluded.csv cannot be read, or is another kind of table.
    """
    path = folder / EXCLUDED
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it") from error
    if tuple(header) != EXCLUDED_FIELDS or any(len(row) != 2 for row in rows):
        raise InputError(f"{path}: is not a table of filename and reason; remove it")
    return [(from_cell(name), from_cell(reason)) for name, reason in rows]

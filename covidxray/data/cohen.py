"""Read the COVID-19 Image Data Collection (Cohen, Morrison, Dao 2020, arXiv:2003.11597).

`metadata.csv` has one row per image. Its format changed over the history of the repository:

- Column names have leading spaces, capitals or blanks (`Patientid`, ` filename`).
- Some versions are encoded in Latin-1, not in UTF-8.
- `finding` is a word (`COVID-19`), a list (`COVID-19, ARDS`) or, in the last version, a path
  (`Pneumonia/Viral/COVID-19`).
- Versions before 2 March 2020 have no `view`, those before 30 March no `folder` (it was `images`).
- `modality` is `X-ray` or, in one version, `Radiograph`; early ones lack it. CT slices are `CT`.
- `location` is a hospital, a city or a country, and is missing from the earliest versions.
- Some rows name an image that the repository never had, or that another row names, too. In some
  versions a file name begins with its folder (`images/x.jpeg`).

Some images have lung masks (`annotations/lungVAE-masks`; Selvan et al. 2020, arXiv:2005.10052),
which include lung that an opacity hides.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from covidxray.data.choosing import DAMAGED, MISSING, REPEATED, ListedImage
from covidxray.data.images import read_image
from covidxray.data.manifest import ManifestRow
from covidxray.data.tables import read_table
from covidxray.errors import InputError

SOURCE = "cohen"
MASKS = "annotations/lungVAE-masks"
REQUIRED = ("filename", "finding", "patientid", "view")  # columns
COMMON = ("filename", "finding", "view", "age", "sex", "license", "url")  # with the manifest
UNKNOWN = {"", "todo", "unknown"}
NO_FINDING = "No Finding"  # read as normal; some of these patients have a disease
# Words of a `location` that names a hospital, and not a city or a country alone.
HOSPITAL = re.compile(r"hospital|ospedale|clinic|klinik|medical|m.dico|universit", re.IGNORECASE)
OUTSIDE = "outside the repository"
UNUSABLE = (MISSING, REPEATED, DAMAGED, OUTSIDE)

logger = logging.getLogger(__name__)


def read_metadata(path: Path) -> list[ManifestRow]:
    """Read the X-rays of any version of metadata.csv, without CT slices.

    A `source_id` is the path of the image in the repository, as the table gives it.

    Raises:
        InputError: the file cannot be read, or lacks a column that is needed.
    """
    remedy = "give the clone of the repository"
    return read_table(path, lambda table: list(_parse_rows(path, table)), remedy)


def _parse_rows(path: Path, table: Iterator[list[str]]) -> Iterator[ManifestRow]:
    header = [name.strip().lower() for name in next(table, ())]
    missing = [name for name in REQUIRED if name not in header]
    if {"filename", "finding"} <= set(missing):
        raise InputError(f"{path}: is not the table of Cohen's repository; give metadata.csv")
    if missing:
        remedy = "use a later version of the repository"
        raise InputError(f"{path}: has no {missing[0]} column; {remedy}")
    for row in table:
        cells = dict.fromkeys((*REQUIRED, *COMMON), "")
        cells |= zip(header, map(sys.intern, map(str.strip, row)), strict=False)
        if cells.get("modality", "").lower() != "ct":
            yield _manifest_row(cells)


def _manifest_row(cells: dict[str, str]) -> ManifestRow:
    """The row of an image. Some versions name its path in the repository instead of its file."""
    name = cells["filename"]
    path = PurePosixPath(name)
    is_path = "/" in name and not path.is_absolute() and ".." not in path.parts
    common = {column: cells[column] for column in COMMON if column != "filename"}
    return ManifestRow(
        filename=path.name if is_path else name,
        source=SOURCE,
        source_id=name if is_path else f"{cells.get('folder') or 'images'}/{name}",
        patient_id=cells["patientid"],
        site=_site(cells),
        **common,
    )


def _site(cells: dict[str, str]) -> str:
    """The hospital, or else the publication; "" if neither is known."""
    location, publication = cells.get("location", ""), cells.get("doi") or cells["url"]
    if HOSPITAL.search(location):
        return location
    return publication and f"publication {publication}"


def check_choice(rows: Sequence[ManifestRow], finding: str, views: Sequence[str]) -> None:
    """Raise InputError, with those that exist, for a finding or a view that no row has."""
    findings = set().union(*(_findings(row.finding) for row in rows)) - UNKNOWN
    if unknown := _findings(finding) - findings:
        names = ", ".join(sorted(findings))
        raise InputError(f"--finding {min(unknown)}: no image has it; choose among {names}")
    for view in views:
        if not list(_with_view(rows, [view])):
            names = ", ".join(sorted({row.view for row in rows if row.view}))
            raise InputError(f"--view {view}: no image has it; choose among {names}")


def select(
    rows: Iterable[ManifestRow], finding: str, views: Sequence[str], include_mixed: bool = False
) -> list[ManifestRow]:
    """Images whose only finding is `finding`, or if `include_mixed`, one of several."""
    wanted = _findings(finding)
    return [
        row
        for row in _with_view(rows, views)
        if (found := _findings(row.finding)) == wanted or (include_mixed and wanted <= found)
    ]


def select_controls(
    rows: Iterable[ManifestRow], finding: str, views: Sequence[str]
) -> list[ManifestRow]:
    """Images with known findings, none of which is `finding`.

    They include "No Finding" of patients who have `finding` in another row; a split by patient
    keeps the two on one side.
    """
    excluded = _findings(finding) | UNKNOWN
    return [row for row in _with_view(rows, views) if excluded.isdisjoint(_findings(row.finding))]


def _findings(cell: str) -> set[str]:
    """The findings in lower case, each as the last part of its path."""
    return {finding.split("/")[-1].strip().lower() for finding in cell.split(",")}


def _with_view(rows: Iterable[ManifestRow], views: Iterable[str]) -> Iterator[ManifestRow]:
    wanted = {view.lower() for view in views}
    return (row for row in rows if row.view.lower() in wanted)


def list_files(root: Path, rows: Iterable[ManifestRow]) -> Iterator[ListedImage]:
    """Each row with the file of its image; `OUTSIDE` or `MISSING` where it cannot be used."""
    for row in rows:
        try:
            path = locate(root, row)
        except InputError:
            yield row, OUTSIDE
        else:  # Path.is_file raises for a name that is too long
            yield row, path if os.path.isfile(path) else MISSING


def find_masks(root: Path, filenames: Iterable[str]) -> dict[str, Path]:
    """The lung masks of images, by file name of the image. A damaged one is logged and left out."""
    masks = {}
    for filename in filenames:
        path = root / MASKS / f"{Path(filename).stem}_mask.png"
        if os.path.isfile(path) and path.resolve().is_relative_to(root.resolve()):
            try:
                read_image(path)
                masks[filename] = path
            except InputError as error:
                logger.info(f"{error} (a lung mask, left out)")
    return masks


def locate(root: Path, row: ManifestRow) -> Path:
    """The path of a row's image, which need not exist. The folder `images` may be a link.

    Raises:
        InputError: the row leads out of the repository.
    """
    name = row.source_id
    if "\\" in name or "\0" in name:
        reason = "metadata.csv names a file outside the repository"
        raise InputError(f"{name!r}: {reason}; correct that row")
    path = root / name
    plain = Path(row.filename).name == row.filename and ".." not in Path(name).parts
    real = Path(os.path.realpath(path))  # Path.resolve raises for a link in a circle
    allowed = [root.resolve(), (root / "images").resolve()]
    if not plain or not any(real.is_relative_to(folder) for folder in allowed):
        raise InputError(f"{name}: leads out of {root}; correct metadata.csv")
    return path

"""COVID-19 Image Data Collection (Cohen, Morrison, Dao 2020, arXiv:2003.11597).

`metadata.csv` has one row per image, with quirks that changed over the repository's history:

- column names with leading spaces, capitals or blanks (`Patientid`, ` filename`, `clinical notes`);
- some versions are Latin-1, not UTF-8;
- `finding` is a word (`COVID-19`), a list (`COVID-19, ARDS`) or, in the last schema, a path
  (`Pneumonia/Viral/COVID-19`);
- before 2 March 2020 there is no `view`, before 30 March no `folder` (all lay in `images`);
- `modality` is `X-ray`, for a day `Radiograph`, or not there; CT slices say `CT`;
- masks of the lungs, of some images (`annotations/lungVAE-masks`; Selvan et al. 2020,
  arXiv:2005.10052), drawn as if no opacity were there;
- rows whose image was never in the repository, and file names that stand in two rows.
"""

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from covidxray.errors import InputError
from covidxray.manifest import Row

SOURCE = "cohen"
MASKS = "annotations/lungVAE-masks"
UNKNOWN = ("", "todo", "unknown")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the table; text as it stands there, without the blanks around it."""

    filename: str
    folder: str
    patient_id: str
    finding: str
    view: str
    modality: str
    age: str
    sex: str
    license: str
    url: str
    location: str

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings in lower case, each the last part of its path."""
        return tuple(part.split("/")[-1].strip().lower() for part in self.finding.split(","))

    def row(self) -> Row:
        """As a row of a manifest."""
        return Row(
            filename=self.filename,
            source=SOURCE,
            source_id=f"{self.folder}/{self.filename}",
            patient_id=self.patient_id,
            view=self.view,
            finding=self.finding,
            age=self.age,
            sex=self.sex,
            license=self.license,
            url=self.url,
        )


def read_metadata(path: Path) -> list[Record]:
    """Read any version of metadata.csv.

    Raises:
        InputError: the file cannot be read, or lacks a column that is needed.
    """
    try:
        try:
            return list(_records(path, "utf-8-sig"))
        except UnicodeDecodeError:
            return list(_records(path, "latin-1"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); is it the clone?") from error
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV table ({error}); fetch it again") from error


def _records(path: Path, encoding: str) -> Iterator[Record]:
    with path.open(newline="", encoding=encoding) as file:
        table = (row for row in csv.reader(file) if any(row))
        header = [name.strip().lower().replace(" ", "_") for name in next(table, ())]
        for name in ("filename", "finding", "patientid", "view"):
            if name not in header:
                mend = "use a later version of the repository"
                raise InputError(f"{path}: has no {name} column; {mend}")
        for row in table:
            yield _record({k: sys.intern(v.strip()) for k, v in zip(header, row, strict=False)})


def _record(cells: dict[str, str]) -> Record:
    def cell(name: str) -> str:
        return cells.get(name, "")

    return Record(
        filename=cell("filename"),
        folder=cell("folder") or "images",
        patient_id=cell("patientid"),
        finding=cell("finding"),
        view=cell("view"),
        modality=cell("modality"),
        age=cell("age"),
        sex=cell("sex"),
        license=cell("license"),
        url=cell("url"),
        location=cell("location"),
    )


def select(
    records: Sequence[Record], finding: str, views: Sequence[str], include_mixed: bool = False
) -> list[Record]:
    """X-rays of which `finding` is the whole finding (or, if mixed, one of several)."""
    wanted = finding.split("/")[-1].strip().lower()
    return [
        record
        for record in _with_view(records, views)
        if record.findings == (wanted,) or (include_mixed and wanted in record.findings)
    ]


def select_controls(records: Sequence[Record], finding: str, views: Sequence[str]) -> list[Record]:
    """X-rays with a known finding that does not name `finding`.

    Among them is "No Finding" of patients who have `finding` in another row; a split by patient
    keeps the two together.
    """
    wanted = finding.split("/")[-1].strip().lower()
    return [
        record
        for record in _with_view(records, views)
        if not any(name in UNKNOWN for name in record.findings) and wanted not in record.findings
    ]


def _with_view(records: Sequence[Record], views: Sequence[str]) -> list[Record]:
    wanted = {view.lower() for view in views}
    return [
        record
        for record in records
        if record.view.lower() in wanted and record.modality.lower() != "ct"
    ]


def locate(root: Path, record: Record) -> Path:
    """Where a record's image lies. The `images` folder itself may be a link of the user's.

    Raises:
        InputError: the table's name leads out of the repository.
    """
    for name in (record.folder, record.filename):
        strange = PureWindowsPath(name).drive or PurePosixPath(name).is_absolute()
        if strange or "\\" in name or "\0" in name:
            raise InputError(f"{name!r}: metadata.csv names a file outside the repository")
    path = root / record.folder / record.filename
    inside = [root.resolve(), (root / "images").resolve()]
    plain = Path(record.filename).name == record.filename and ".." not in Path(record.folder).parts
    real = Path(os.path.realpath(path))  # unlike resolve, it takes a link in a circle
    if not plain or not any(real.is_relative_to(place) for place in inside):
        raise InputError(
            f"{record.folder}/{record.filename}: leads out of {root}; correct metadata.csv"
        )
    return path


def locate_mask(root: Path, record: Record) -> Path | None:
    """Where the mask of a record's lungs lies, if the repository has one; for a record that
    `locate` has passed."""
    path = root / MASKS / f"{Path(record.filename).stem}_mask.png"
    inside = path.resolve().is_relative_to(root.resolve())
    return path if os.path.isfile(path) and inside else None

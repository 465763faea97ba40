"""Read the description of a data set: a TOML file that says where images and labels are.

Those of public data sets lie in `sources`; docs/sources.md explains the fields.
"""

import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin

from covidxray.errors import InputError

FOLDER = Path(__file__).parent / "sources"
CLASSES, OTHER = ("covid", "normal", "pneumonia"), "other"


@dataclass(frozen=True)
class Source:
    """A data set: its name, which is that of its TOML file, and the fields of that file.

    In a text, `{column}` stands for a cell of an image's row, and `{one|two}` for that of the first
    of these columns that the table has.
    """

    name: str
    title: str
    licence: str
    citation: str
    link: str
    file: str  # path of an image; the folders before the first column may be a pattern
    labels: dict[str, str]  # class of each label; any other label is `OTHER`
    label: str = ""
    findings: list[str] = field(default_factory=list)  # columns of one finding each, for `label`
    tables: list[str] = field(default_factory=list)  # patterns; without one, folders are read
    header: list[str] = field(default_factory=list)  # columns of a table without a header
    patient: str = ""
    patient_pattern: str = ""  # regular expression of the part of `patient` that counts
    site: str = ""
    view: str = ""
    age: str = ""
    sex: str = ""
    views: list[str] = field(default_factory=list)  # taken if no others are asked for
    quirks: list[str] = field(default_factory=list)

    def class_of(self, label: str) -> str:
        """The class of a label, in any case of letters: one of `CLASSES`, or `OTHER`."""
        classes = {name.lower(): class_ for name, class_ in self.labels.items()}
        return classes.get(label.lower(), OTHER)


def known_sources() -> list[str]:
    """The names of the sources that are described here."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_source(name: str) -> Source:
    """The source of a known name, or that of a TOML file.

    Raises:
        InputError: the source is unknown, or the file cannot be read or used; it names the field.
    """
    known = known_sources()
    path = FOLDER / f"{name}.toml" if name in known else Path(name)
    if path.suffix != ".toml":
        remedy = f"choose among {', '.join(known)}, or give a TOML file"
        raise InputError(f"--source {name}: is no known source; {remedy}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        re.compile(str(values.get("patient_pattern", "")))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a TOML file") from error
    except (ValueError, re.error) as error:  # of TOML, of UTF-8 or of the pattern
        raise InputError(f"{path}: is damaged ({error}); correct it") from error
    if problem := _problem_of(values):
        raise InputError(f"{path}: {problem}; see docs/sources.md")
    return Source(name=path.stem, **values)


def _problem_of(values: dict[str, Any]) -> str | None:
    """What is wrong with the fields of a TOML file."""
    known = {found.name: found for found in fields(Source) if found.name != "name"}
    for name, value in values.items():
        if name not in known:
            return f"unknown field {name}, which is none of {', '.join(known)}"
        kind: Any = get_origin(known[name].type) or known[name].type
        texts = value.values() if isinstance(value, dict) else value
        texts = [value] if isinstance(value, str) else texts
        if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
            words = {str: "a text", list: "a list of texts", dict: "a table of texts"}[kind]
            return f"{name} must be {words}"
    for name, found in known.items():
        needed = found.default is MISSING and found.default_factory is MISSING
        if needed and name not in values:
            return f"no field {name}"
    if wrong := set(values["labels"].values()) - set(CLASSES):
        return f"class {min(wrong)!r} in labels is none of {', '.join(CLASSES)}"
    if leads_out(values["file"]) or any(map(leads_out, values.get("tables", ()))):
        return "file or tables lead out of the folder of the data set"
    return None


def leads_out(path: str) -> bool:
    """Whether a path, with slashes, may lead out of the folder that it is relative to."""
    return path.startswith("/") or ".." in path.split("/") or not {"\\", "\0"}.isdisjoint(path)

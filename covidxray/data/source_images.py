"""List the images of a data set as its description says (`source.Source`), without reading them."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from glob import glob
from pathlib import Path

from covidxray.data.choosing import MISSING, ListedImage
from covidxray.data.folders import list_images
from covidxray.data.manifest import ManifestRow
from covidxray.data.source import Source, leads_out
from covidxray.data.tables import read_table
from covidxray.errors import InputError

OUTSIDE, ANOTHER_VIEW = "outside of the input folder", "another view"
COLUMN = re.compile(r"\{(.+?)\}")
ANY_SUFFIX = ".*"  # at the end of `Source.file`
ABSENT, PRESENT = ("", "0", "0.0"), ("1", "1.0")  # cells of a column of one finding
TEXTS = ("file", "label", "patient", "site", "view", "age", "sex")  # fields that name columns


def list_source(source: Source, root: Path, views: Sequence[str]) -> list[ListedImage]:
    """The images that the tables of a source list, or else those in its folders, in this order.

    `root` is the folder of the download. The reason of an image without a file is `MISSING` or
    `OUTSIDE`, and that of one with none of the `views`, if any is given, `ANOTHER_VIEW`. `finding`
    is the source's label, or the names of all `Source.findings` that are present, joined by "|",
    each with "?" if it is neither present nor absent.

    Raises:
        InputError: there is no table, or one cannot be read or lacks a column.
    """
    parse = partial(_parse_rows, source, FileIndex(source, root), {v.lower() for v in views})
    if not source.tables:
        return parse(root, iter([COLUMN.findall(source.file), *_split_paths(source, root)]))
    tables = [path for pattern in source.tables for path in sorted(glob(pattern, root_dir=root))]
    if not tables:
        reason = f"has no table {' or '.join(source.tables)}"
        raise InputError(f"{root}: {reason}; give the folder of {source.title} as downloaded")
    images: list[ListedImage] = []
    for path in (root / table for table in tables):
        images += read_table(path, partial(parse, path), "give another --input")
    return images


def _split_paths(source: Source, root: Path) -> Iterator[list[str]]:
    """The parts of each image's path that stand for the columns of `Source.file`."""
    texts = [re.escape(text) for text in COLUMN.split(source.file)]
    texts[1::2] = ["([^/]+)"] * (len(texts) // 2)
    folders = sorted(glob(COLUMN.sub("*", source.file).rpartition("/")[0] + "/", root_dir=root))
    for folder in folders:
        for path in list_images(root / folder):
            if match := re.fullmatch("".join(texts), path.relative_to(root).as_posix()):
                yield list(match.groups())


def _parse_rows(
    source: Source, files: "FileIndex", views: set[str], path: Path, rows: Iterator[list[str]]
) -> list[ListedImage]:
    header = source.header or [name.strip() for name in next(rows, ())]
    used = [names for text in TEXTS for names in COLUMN.findall(getattr(source, text))]
    for names in (*used, *source.findings):
        if set(header).isdisjoint(names.split("|")):
            reason = f"has no column {names}; its columns are {', '.join(header)}"
            raise InputError(f"{path}: {reason}")
    images: list[ListedImage] = []
    for cells in rows:
        if source.header and len(cells) != len(header):
            reason = f"a row has {len(cells)} cells and not {len(header)}: {', '.join(header)}"
            raise InputError(f"{path}: {reason}; choose another --source")
        by_name = dict(zip(header, map(str.strip, cells), strict=False))
        row, file = _listed_image(source, files, by_name)
        images.append((row, ANOTHER_VIEW if views and row.view.lower() not in views else file))
    return images


def _listed_image(source: Source, files: "FileIndex", cells: Mapping[str, str]) -> ListedImage:
    def fill(text: str) -> str:
        return COLUMN.sub(lambda match: _cell_of(cells, match[1]), text)

    marks = {name: cells[name] for name in source.findings if cells[name] not in ABSENT}
    findings = [name if mark in PRESENT else f"{name}?" for name, mark in marks.items()]
    path, patient = fill(source.file[len(files.pattern) :]), fill(source.patient)
    part = re.search(source.patient_pattern or "^.*$", patient)
    place, file = files.find(path)
    name = fill(source.file.rpartition("/")[2]).replace("/", "_")
    if isinstance(file, Path) and name.endswith(ANY_SUFFIX):
        name = name.removesuffix(ANY_SUFFIX) + file.suffix
    row = ManifestRow(
        filename=name,
        source=source.name,
        source_id=place,
        patient_id=part[0] if part else patient,
        view=fill(source.view),
        finding=fill(source.label) or "|".join(findings),
        age=fill(source.age),
        sex=fill(source.sex),
        license=source.licence,
        url=source.link,
        site=fill(source.site),
    )
    return row, file


def _cell_of(cells: Mapping[str, str], names: str) -> str:
    """The cell of the first of some columns, such as `one|two`, that the table has."""
    return next(cells[name] for name in names.split("|") if name in cells)


class FileIndex:
    """The files of a download; each folder is listed once."""

    def __init__(self, source: Source, root: Path) -> None:
        folder, slash, _ = source.file.partition("{")[0].rpartition("/")
        self.root, self.pattern = root, folder + slash
        self.folders = [found + slash for found in sorted(glob(folder, root_dir=root))] or [""]
        # A folder of images may be a link, but no path of a table leads out of it.
        places = [os.path.realpath(root / folder) for folder in ("", *self.folders)]
        self.allowed = tuple(os.path.join(place, "") for place in places)
        self.listed: dict[str, dict[str, tuple[str, Path | str]]] = {}
        self.resolved: dict[str, str] = {}

    def find(self, path: str) -> tuple[str, Path | str]:
        """The path below the root of what `path` names in a folder; the file or why there is none.

        A path that ends in `ANY_SUFFIX` names the first file with any suffix.
        """
        if leads_out(path):
            return path, OUTSIDE
        for folder in self.folders:
            directory, _, name = (folder + path).rpartition("/")
            if directory not in self.listed:
                self.listed[directory] = self._list(directory)
            if name in self.listed[directory]:
                return self.listed[directory][name]
        return path, MISSING

    def _list(self, directory: str) -> dict[str, tuple[str, Path | str]]:
        """What `find` gives for each file of a folder, by name with its suffix and without."""
        found: dict[str, tuple[str, Path | str]] = {}
        place = os.path.join(self.root, directory)
        inside = self._is_inside(place)
        with suppress(OSError), os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                if entry.is_file():
                    reached = self._is_inside(entry.path) if entry.is_symlink() else inside
                    file = Path(entry.path) if reached else OUTSIDE
                    stem = os.path.splitext(entry.name)[0]
                    path = f"{directory}/{entry.name}".removeprefix("/")
                    found[stem + ANY_SUFFIX] = found[entry.name] = path, file
        return found

    def _is_inside(self, path: str) -> bool:
        return os.path.join(self._resolve(path), "").startswith(self.allowed)

    def _resolve(self, path: str) -> str:
        """`os.path.realpath`, which asks about each folder above a path once and not every time."""
        if path not in self.resolved:
            parent, name = os.path.split(path)
            plain = name not in ("", ".", "..") and not os.path.islink(path)
            real = os.path.join(self._resolve(parent), name) if plain else os.path.realpath(path)
            self.resolved[path] = real
        return self.resolved[path]

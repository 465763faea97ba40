"""Tables that a spreadsheet may open, and that of predictions, as CSV and as JSON."""

import csv
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from textwrap import indent
from typing import TextIO

from covidxray.files import naming, whole_files

COLUMNS = ("image", "class", "probability", "distance", "warning")
COLUMNS += ("heat_in_lungs", "heat_in_centre", "heat_map")

# A spreadsheet calculates a cell that begins so (OWASP, "CSV Injection"); where the comma is the
# decimal sign, it takes a semicolon for the end of a cell and knows no quotes behind a comma.
FORMULA = "'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
START = "(^|[;\r\n])"


def to_cell(text: str) -> str:
    """Text as a cell that no spreadsheet calculates: an apostrophe goes before what would be."""
    return re.sub(f"{START}({FORMULA})", r"\1'\2", text)


def from_cell(cell: str) -> str:
    """The reverse of `to_cell`."""
    return re.sub(f"{START}'({FORMULA})", r"\1\2", cell)


def open_tables(
    stack: ExitStack, csv_path: Path | None, json_path: Path | None
) -> Callable[..., None]:
    """A function that writes a row to each table asked for; they are whole once `stack` closes.

    Rows are written as they come, so that memory does not grow with them.
    """
    begin = stack.enter_context(whole_files())
    table, document, rows = None, None, 0

    def begin_file(path: Path) -> TextIO:
        file = begin(path).open("w", newline="", encoding="utf-8")
        stack.callback(end_file, path, file)
        return file

    def end_file(path: Path, file: TextIO) -> None:
        with naming(path), file:
            if file is document:
                file.write("\n]\n" if rows else "]\n")

    def write(*cells) -> None:
        nonlocal rows
        if table:
            with naming(csv_path):
                table.writerow([to_cell(cell) if isinstance(cell, str) else cell for cell in cells])
        if document:
            row = json.dumps(dict(zip(COLUMNS, cells, strict=True)), indent=1)
            with naming(json_path):
                document.write(f"{',' if rows else ''}\n{indent(row, ' ')}")
        rows += 1

    if csv_path:
        table = csv.writer(begin_file(csv_path))
        table.writerow(COLUMNS)
    if json_path:
        document = begin_file(json_path)
        document.write("[")
    return write

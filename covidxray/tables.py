"""Tables that a spreadsheet may open, and that of predictions, as CSV and as JSON."""

import csv
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from covidxray.files import whole_file

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
    """A function that writes a row to each table asked for; they are whole once `stack` closes."""
    table, rows = None, []
    if csv_path:
        part = stack.enter_context(whole_file(csv_path))
        table = csv.writer(stack.enter_context(part.open("w", newline="", encoding="utf-8")))
        table.writerow(COLUMNS)
    if json_path:
        part = stack.enter_context(whole_file(json_path))
        document = stack.enter_context(part.open("w", encoding="utf-8"))
        stack.callback(json.dump, rows, document, indent=1)

    def write(*cells) -> None:
        if table:
            table.writerow([to_cell(cell) if isinstance(cell, str) else cell for cell in cells])
        if json_path:
            rows.append(dict(zip(COLUMNS, cells, strict=True)))

    return write

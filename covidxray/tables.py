"""The table of predictions, as CSV and as JSON."""

import csv
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from textwrap import indent

from covidxray.files import whole_files

COLUMNS = ("image", "class", "probability", "distance", "warning")
COLUMNS += ("heat_in_lungs", "heat_in_centre", "heat_map")


def open_tables(
    stack: ExitStack, csv_path: Path | None, json_path: Path | None
) -> Callable[..., None]:
    """A function that writes a row to each table asked for; they are whole once `stack` closes.

    Rows are written as they come, so that memory does not grow with them.
    """
    table, document, rows = None, None, 0
    csv_part, json_part = stack.enter_context(whole_files(csv_path, json_path))
    if csv_part:
        table = csv.writer(stack.enter_context(csv_part.open("w", newline="", encoding="utf-8")))
        table.writerow(COLUMNS)
    if json_part:
        document = stack.enter_context(json_part.open("w", encoding="utf-8"))
        document.write("[")
        stack.callback(lambda: document.write("\n]\n" if rows else "]\n"))

    def write(*cells) -> None:
        nonlocal rows
        if table:
            table.writerow(["" if cell is None else cell for cell in cells])
        if document:
            row = json.dumps(dict(zip(COLUMNS, cells, strict=True)), indent=1)
            document.write(f"{',' if rows else ''}\n{indent(row, ' ')}")
        rows += 1

    return write

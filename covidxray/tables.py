"""The table of predictions, as CSV and as JSON."""

import csv
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from covidxray.files import whole_file

COLUMNS = ("image", "class", "probability", "distance", "warning")
COLUMNS += ("heat_in_lungs", "heat_in_centre", "heat_map")


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
            table.writerow(["" if cell is None else cell for cell in cells])
        if json_path:
            rows.append(dict(zip(COLUMNS, cells, strict=True)))

    return write

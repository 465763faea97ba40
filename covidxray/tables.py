"""The table of predictions, as CSV and as JSON."""

import csv
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from textwrap import indent
from typing import TextIO

from covidxray.files import naming, whole_files

COLUMNS = ("image", "class", "probability", "distance", "warning")
COLUMNS += ("heat_in_lungs", "heat_in_centre", "heat_map")


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
                table.writerow(["" if cell is None else cell for cell in cells])
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

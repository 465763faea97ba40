"""Open tables as programs and spreadsheets write them, and read their rows."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from covidxray.errors import InputError

SEPARATORS = ",;\t"  # of cells; spreadsheets of some countries write semicolons

Parsed = TypeVar("Parsed")


def encoding_of(path: Path) -> str:
    """The encoding of a table by its byte order mark: UTF-16, or else UTF-8 with or without one.

    Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def separator_of(path: Path, file: TextIO) -> str:
    """The character that separates the cells of an open table, by its first line with any text.

    Raises InputError for a web page.
    """
    first = next((line for line in iter(file.readline, "") if line.strip()), "")
    if first.lstrip().startswith("<"):
        raise InputError(f"{path}: is a web page and not a table; download the file itself (Raw)")
    file.seek(0)
    separator = max(SEPARATORS, key=first.count)
    return separator if separator in first else " "  # as in the lists of COVIDx


def read_table(path: Path, parse: Callable[[Iterator[list[str]]], Parsed], remedy: str) -> Parsed:
    """What `parse` makes of the rows of a table, which is in UTF-16, UTF-8 or else Latin-1.

    Args:
        path: file of the table.
        parse: function of the rows that are not empty, the header first (see `read_rows`).
        remedy: what to do about a file that cannot be read.

    Raises:
        InputError: the table cannot be read, is damaged, or is no table.
    """

    def attempt(encoding: str) -> Parsed:
        with path.open(newline="", encoding=encoding) as file:
            return parse(read_rows(path, file))

    try:
        try:
            return attempt(encoding_of(path))
        except UnicodeDecodeError:
            return attempt("latin-1")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV table ({error}); download it again") from error


def read_rows(path: Path, file: TextIO) -> Iterator[list[str]]:
    """The rows of an open table that are not empty, the header first.

    Raises:
        InputError: it is a web page, or a row has fewer cells than the header.
        csv.Error: it is not a table.
    """
    reader, width = csv.reader(file, delimiter=separator_of(path, file)), 0
    for row in reader:
        if any(row):
            if len(row) < width:
                where = f"line {reader.line_num} has {len(row)} cells where the header has {width}"
                raise InputError(f"{path}: {where}; the table is damaged, get it again")
            width = width or len(row)
            yield row

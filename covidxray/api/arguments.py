"""Options of the scripts as keyword arguments."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from covidxray import cli
from covidxray.errors import InputError

OUTPUTS = ("plot", "model", "metrics", "json", "report")  # options of the scripts' files
Option = bool | int | float | str | Path | list | tuple | dict | None


def refuse_outputs(options: Iterable[str]) -> None:
    """Raise InputError if an option names a file to write, because functions write none."""
    for name in OUTPUTS:
        if name in options:
            raise InputError(f"{name}: is an option of the script; use `save` of the result")


def parse_options(parser: argparse.ArgumentParser, **options: Option) -> argparse.Namespace:
    """The command line that keyword arguments stand for.

    An option is named as on the command line with `_` for `-`; True stands for a switch, False and
    None for an option that is not given, a list for several values, and a dict for CLASS=DIR pairs.

    Raises:
        InputError: an option is unknown, or its value is not allowed.
    """

    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            for key, one in value.items():
                words += [flag, f"{key}={one}"]
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        else:
            words.append(f"{flag}={value}")
    return cli.raise_errors(parser).parse_args(words)

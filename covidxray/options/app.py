"""The command line of app_covid19.py, which stands after `--` behind `streamlit run`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from covidxray import cli


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of app_covid19.py."""
    parser = cli.make_parser(description)
    add = parser.add_argument
    model = "model file that train_covid19.py wrote"
    add("-m", "--model", default=Path("covid19.keras"), type=Path, help=model)
    numbers = "file of the training's numbers (default: metrics.json in the folder of the model)"
    add("--metrics", type=Path, metavar="FILE", help=numbers)
    folder = "folder of class folders whose images the model and the thumbnail guess"
    add("-d", "--dataset", default=Path("dataset"), type=Path, metavar="DIR", help=folder)
    cli.add_reference_options(parser)
    return parser


def read_options(words: Sequence[str]) -> argparse.Namespace:
    """The parsed words of the command line; InputError if an option is unknown or does not fit."""
    options = cli.raise_errors(make_parser(None)).parse_args(words)
    options.metrics = options.metrics or options.model.parent / "metrics.json"
    return options

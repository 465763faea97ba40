"""The command line of evaluate_covid19.py."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray import cli
from covidxray.files import check_outputs

if TYPE_CHECKING:
    from covidxray.pipeline.external_run import ExternalConfig


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of evaluate_covid19.py; all options but outputs are `ExternalConfig` fields."""
    parser = cli.make_parser(description)
    add = parser.add_argument
    add("-m", "--model", required=True, type=Path, help="model file that train_covid19.py wrote")
    folders = "folders of class folders, named as the model's classes; some may be missing. Of "
    folders += "several hospitals, each is evaluated for itself, and a table compares them"
    folder = cli.existing_folder
    add("-d", "--dataset", required=True, nargs="+", type=folder, metavar="DIR", help=folders)
    add("--json", type=Path, metavar="FILE", help="JSON file to write, with every number")
    add("--report", type=Path, metavar="FILE", help="HTML report to write, in one file")
    seed = cli.number(int, at_least=0)
    add("--seed", default=42, type=seed, help="seed of the resampled intervals and of the audit")
    cli.add_decision_options(parser)
    cli.add_evidence_options(parser)
    cli.add_reference_options(parser)
    exchanged = "number of normal images whose lungs and chests are exchanged with those of up to "
    exchanged += "500 images, 0 for none"
    add("--transplant", default=3, type=cli.number(int, 0), metavar="K", help=exchanged)
    cli.add_engine_options(parser)
    return parser


def read_config(arguments: argparse.Namespace) -> "ExternalConfig":
    """The parsed command line; InputError if an output cannot be written."""
    check_outputs(arguments.json, arguments.report, needed=[arguments.model])
    return make_config(arguments)


def make_config(arguments: argparse.Namespace) -> "ExternalConfig":
    """The parsed options but for the outputs."""
    from covidxray.pipeline.external_run import ExternalConfig  # imports NumPy and SciPy

    lists = {"dataset": tuple(arguments.dataset), "stratify": tuple(arguments.stratify)}
    return ExternalConfig(**{**cli.fields_of(ExternalConfig, arguments), **lists})

"""Command lines of the scripts: argument types, shared options, and lines about a data set."""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from covidxray import DISCLAIMER
from covidxray.errors import InputError, printable
from covidxray.files import cache_folder, check_writable
from covidxray.process import info

if TYPE_CHECKING:
    from covidxray.data.dataset import Dataset


NAMED = 10  # files left out for one reason that are named
LATERAL = ("L", "LL", "RL", "LAT", "LATERAL", "LLO", "RLO")  # views of DICOM and of Cohen's table


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show every default but those that say no more than that an option was not given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        trivial = action.nargs == 0 or action.default in (None, [])
        return action.help if trivial else super()._get_help_string(action)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows defaults, and the disclaimer at its end."""
    return argparse.ArgumentParser(
        description=description, epilog=DISCLAIMER, formatter_class=_HelpFormatter
    )


def raise_errors(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, which now raises InputError where it would end the program."""

    def fail(message: str) -> NoReturn:
        raise InputError(f"{message}; see docs/options.md")

    parser.error = fail  # type: ignore[method-assign]
    parser.exit = lambda *_: fail("--help: is for a terminal")  # type: ignore[method-assign]
    return parser


def fields_of(config: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that a class of configurations has a field for, by name."""
    given = vars(arguments)
    return {field.name: given[field.name] for field in fields(config) if field.name in given}


def number(
    kind: type[int] | type[float], at_least: float, below: float = math.inf, above: bool = False
) -> Callable[[str], float]:
    """An argparse type: a number of at least one bound (or `above` it) and below another."""

    def parse(text: str) -> float:
        value = kind(text)
        if not at_least <= value < below or (above and value == at_least):
            low = "more than" if above else "at least"
            high = "" if below == math.inf else f" and less than {below}"
            raise argparse.ArgumentTypeError(f"{text}: must be {low} {at_least}{high}")
        return value

    parse.__name__ = kind.__name__  # argparse names the type of a text that is not a number
    return parse


def any_path(text: str) -> Path:
    """An argparse type: a path, or a URI of object storage that fsspec can read (`UPath`)."""
    if "://" not in text:
        return Path(text)
    try:
        from upath import UPath

        path: Any = UPath(text)  # no subclass of Path, but used as one
        path.exists()  # loads the package for this kind of storage
    except ImportError as error:
        raise argparse.ArgumentTypeError(
            f"{text}: {error}; pip install -r requirements-cluster.txt and the package it names"
        ) from error
    except Exception as error:  # every kind of storage raises errors of its own
        raise argparse.ArgumentTypeError(f"{text}: cannot be read ({error})") from error
    return path


def existing_folder(text: str) -> Path:
    """An argparse type: a folder that exists."""
    path = any_path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{printable(text)}: no such folder")
    return path


def output_folder(text: str) -> Path:
    """An argparse type: a folder for outputs, which is created."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_writable(path / "picture.png")
    except (OSError, InputError) as error:
        raise argparse.ArgumentTypeError(
            f"{printable(text)}: cannot be filled ({error})"
        ) from error
    return path


def class_folder(text: str) -> tuple[str, Path]:
    """An argparse type: CLASS=DIR, the name of a class and a folder that exists."""
    name, separator, folder = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text}: must be CLASS=DIR, such as normal=our-normals")
    return name, existing_folder(folder)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add how and where VGG16 runs, and the cache; `cache` is None with --no-cache."""
    add, folder = parser.add_argument, cache_folder() / "features"
    formats = "number format of VGG16; auto: bfloat16 where the CPU computes with it, or float32"
    add("--precision", default="auto", choices=("auto", "float32", "bfloat16"), help=formats)
    cache = "folder that keeps features (at most 2 GB) for later runs; not used with --engine ray"
    add("--cache", default=folder, type=Path, metavar="DIR", help=cache)
    off = "switch for computing all features anew and keeping none"
    add("--no-cache", dest="cache", action="store_const", default=argparse.SUPPRESS, help=off)
    engine = "where VGG16 runs: on this machine, or on a Ray cluster (docs/scale.md)"
    add("--engine", default="local", choices=("local", "ray"), help=engine)
    address = "address of a running Ray cluster, or auto; without it, Ray starts on this machine"
    add("--ray-address", metavar="ADDR", help=address)


def add_decision_options(parser: argparse.ArgumentParser) -> None:
    """Add the threshold of the positive class and the prevalence that it is used at."""
    add, between = parser.add_argument, number(float, 0, below=1, above=True)
    limit = "probability of the positive class from which an image is classified as it (default: "
    limit += "the stored one of --sensitivity, else the most probable class is taken)"
    add("--threshold", type=between, metavar="T", help=limit)
    share = "share of patients who are positive where the model is used; adds "
    share += "what its results mean there"
    add("--prevalence", type=between, metavar="P", help=share)


def add_evidence_options(parser: argparse.ArgumentParser) -> None:
    """Add what the questions behind a good score need, and folders for pictures."""
    agree = "properties in which two images must agree to be compared in the stratified AUC"
    properties = ("site", "view", "device")
    parser.add_argument(
        "--stratify", default=list(properties), nargs="+", choices=properties, help=agree
    )
    folder = "folder for pictures of the transplant test, originals and transplants side by side"
    parser.add_argument("--transplant-pictures", type=output_folder, metavar="DIR", help=folder)
    plots = "folder for forest plot, ROC, regions, calibration and confusion matrix (PNG and SVG)"
    parser.add_argument("--plots", type=output_folder, metavar="DIR", help=plots)


def add_reference_options(parser: argparse.ArgumentParser) -> None:
    """Add normal images of the site, and the rate at which others like them are positive."""
    folder = "folder of normal images of the site, taken as the images to be classified; these are "
    folder += "then positive by --false-positives, and not by a threshold of their probability"
    parser.add_argument("--reference", type=existing_folder, metavar="DIR", help=folder)
    rate = "with --reference: share of normal images that are classified as positive on average"
    kind = number(float, 0, below=1, above=True)
    parser.add_argument("--false-positives", default=0.1, type=kind, metavar="RATE", help=rate)


def show_dataset(data: "Dataset", unread: Mapping[int, InputError] | None = None) -> None:
    """Print a data set's line, and on stderr what was left out and what has no manifest.

    With `unread`, the data set was shown before, and these images of it could not be read.
    """
    print(data)
    report_dataset(data, unread)


def report_dataset(data: "Dataset", unread: Mapping[int, InputError] | None = None) -> None:
    """The same on stderr alone, which functions write where the scripts print."""
    if unread is not None:
        name_left_out(unread.values())
        return
    name_left_out(data.left_out)
    lateral = [i for i, row in enumerate(data.rows) if row.view.upper() in LATERAL]
    if lateral:
        info(f"{len(lateral)} images are lateral views, {data.names(lateral[:1])[0]} for one")
    for name in data.without_manifest:
        info(f"{name} has no manifest.csv: each image counts as a patient of its own")


def name_left_out(errors: Iterable[InputError]) -> None:
    """Name files that are left out, and count those beyond `NAMED` with the same reason."""
    by_reason: dict[str, list[InputError]] = {}
    for error in errors:
        by_reason.setdefault(str(error).rpartition(": ")[2], []).append(error)
    for same in by_reason.values():
        for error in same[:NAMED]:
            info(f"left out: {error}")
        if len(same) > NAMED:
            info(f"left out: {len(same) - NAMED} more for the same reason")

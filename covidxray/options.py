"""The scripts' command lines: types and options that they share, and all of train_covid19.py."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray.cli import DISCLAIMER, printable
from covidxray.errors import InputError
from covidxray.files import cache_folder, is_remote

if TYPE_CHECKING:
    from covidxray.cache import Cache
    from covidxray.cluster import Cluster
    from covidxray.engine import Local


def make_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser that shows every default and the disclaimer."""
    return argparse.ArgumentParser(
        description=description,
        epilog=DISCLAIMER,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def number(
    kind: type, *, at_least: float, below: float | None = None, above: bool = False
) -> Callable[[str], float]:
    """A type for argparse: a number that is at least (or `above`) a bound, and below another."""

    def parse(text: str) -> float:
        value = kind(text)
        wrong = value <= at_least if above else value < at_least
        if wrong or value != value or (below is not None and value >= below):
            low = "more than" if above else "at least"
            high = f" and less than {below}" if below is not None else ""
            raise argparse.ArgumentTypeError(f"{text}: must be {low} {at_least}{high}")
        return value

    parse.__name__ = kind.__name__  # argparse names it when the text is no number at all
    return parse


def place(text: str) -> Path:
    """A type for argparse: a path, or the URI of one in storage that fsspec reads."""
    if "://" not in text:
        return Path(text)
    try:
        from upath import UPath

        path = UPath(text)
        path.exists()  # asks for the storage's own package
    except ImportError as error:
        mend = f"{error}; pip install -r requirements-cluster.txt and the package that it names"
        raise argparse.ArgumentTypeError(f"{text}: {mend}") from error
    except Exception as error:  # every kind of storage has errors of its own
        raise argparse.ArgumentTypeError(f"{text}: cannot be read ({error})") from error
    return path


def existing_folder(text: str) -> Path:
    """A type for argparse: a folder that is there."""
    path = place(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{printable(text)}: no such folder")
    return path


def class_folder(text: str) -> tuple[str, Path]:
    """A type for argparse: CLASS=DIR, a class's name and a folder that is there."""
    name, separator, folder = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text}: must be CLASS=DIR, such as normal=our-normals")
    return name, existing_folder(folder)


def add_engine(parser: argparse.ArgumentParser, features: bool = False) -> None:
    """The options of `open_engine`; `features` for a script that can keep them."""
    engine = "where VGG16 runs: here, or on a Ray cluster (docs/scale.md)"
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help=engine)
    address = "of a running cluster, or auto; None: a Ray of this machine alone, for this run"
    parser.add_argument("--ray-address", metavar="ADDR", help=address)
    if features:
        kept = "with ray: folder that keeps features as Parquet files; a run cut off goes on there"
        parser.add_argument("--features", type=Path, metavar="DIR", help=kept)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """The options --cache and --no-cache, which leaves None."""
    folder = cache_folder() / "features"
    keep = "folder to keep features in, 2 GB at most: a second run computes none; not with ray"
    parser.add_argument("--cache", default=folder, type=Path, metavar="DIR", help=keep)
    none = {"dest": "cache", "action": "store_const", "default": argparse.SUPPRESS}
    parser.add_argument("--no-cache", **none, help="compute everything, keep nothing")


def open_cache(args: argparse.Namespace) -> "Cache | None":
    """The cache of `add_cache`; None if there is to be none, or with Ray, which uses none."""
    if not args.cache or args.engine != "local":
        return None
    from covidxray.cache import Cache

    return Cache(args.cache)


def open_engine(args: argparse.Namespace, *places: Path) -> "Local | Cluster":
    """Where images are read, decoded and pushed through VGG16; `places` are what will be read.

    Raises:
        InputError: it is not to be had, or the options do not fit together.
    """
    folder = getattr(args, "features", None)
    if args.engine == "ray":
        from covidxray.cluster import Cluster

        return Cluster(args.ray_address, folder)
    for option, value in (("--ray-address", args.ray_address), ("--features", folder)):
        if value:
            raise InputError(f"{option}: only --engine ray uses it; add that")
    for path in filter(is_remote, places):
        raise InputError(f"{path}: only --engine ray reads from there; add that, or fetch it")
    from covidxray.engine import Local

    return Local()


def parse_training(description: str) -> argparse.Namespace:
    """The command line of train_covid19.py."""
    parser = make_parser(description)
    add = parser.add_argument
    add("-d", "--dataset", type=existing_folder, help="folder of class folders")
    more = "more images of a class, such as your own hospital's normals; may be given again"
    add("--add", action="append", default=[], type=class_folder, metavar="CLASS=DIR", help=more)
    add("-p", "--plot", default="plot.png", type=Path, help="training curves to write")
    add("-m", "--model", default="covid19.keras", type=Path, help="model to write")
    add("--metrics", default="metrics.json", type=Path, help="every number printed, as JSON")
    add("--report", type=Path, help="HTML report to write, one file; None: do not")
    add("--positive", default="covid", metavar="CLASS", help="the class that sensitivity is of")
    add("--weights", default="torchvision", help="ImageNet weights: torchvision, keras or a file")
    recipe = "features and head: portable (the best at other hospitals) or tutorial"
    add("--recipe", default="portable", choices=("portable", "tutorial"), help=recipe)
    pools = "what the saved model looks at: the whole picture, or the lungs alone"
    add("--pool", default="whole", choices=("whole", "lungs"), help=pools)
    add("--views", default=0, type=number(int, at_least=0), help="random rotations of each image")
    add("--rotation", default=15, type=number(float, at_least=0), help="largest angle, degrees")
    add("--epochs", default=25, type=number(int, at_least=1), help="passes over the images")
    size = "images per step; None: 8, and of more than 640 images an eightieth"
    add("--batch-size", type=number(int, at_least=1), help=size)
    rate = "Adam's rate; None: the recipe's"
    add("--lr", type=number(float, at_least=0, above=True), help=rate)
    units = "hidden units of the head, 0: none; None: the recipe's"
    add("--units", type=number(int, at_least=0), help=units)
    drop = "dropout of the hidden units; None: the recipe's"
    add("--dropout", type=number(float, at_least=0, below=1), help=drop)
    size = number(float, at_least=0, above=True, below=1)
    add("--test-size", default=0.2, type=size, help="share of each class held out")
    add("--folds", default=5, type=number(int, at_least=2), help="of the cross-validation")
    times = "of it, 0 skips it; None: 20, or as many as predict 10,000 times"
    add("--repeats", type=number(int, at_least=0), help=times)
    keep = "store the threshold that keeps this cross-validated sensitivity; None: 0.5"
    add("--sensitivity", type=size, help=keep)
    add("--fit-all", action="store_true", help="train the saved model on every image at the end")
    precision = ("auto", "float32", "bfloat16")
    add("--precision", default="auto", choices=precision, help="of VGG16 while training")
    add_cache(parser)
    add("--cache-info", action="store_true", help="show the cache's folder and size, and end")
    add("--seed", default=42, type=number(int, at_least=0), help="of everything random")
    add_engine(parser, features=True)
    args = parser.parse_args()
    if args.cache_info and not args.cache:
        parser.error("--cache-info: there is none with --no-cache; leave one out")
    if not (args.dataset or args.cache_info):
        parser.error("the following arguments are required: -d/--dataset")
    return args

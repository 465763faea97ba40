"""The command line of train_covid19.py."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray import cli
from covidxray.cli import number
from covidxray.errors import InputError
from covidxray.files import check_outputs

if TYPE_CHECKING:
    from covidxray.pipeline.runs import TrainConfig

PLOTS = (".png", ".pdf", ".svg", ".jpg")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of train_covid19.py; each option has the name of a `TrainConfig` field."""
    parser = cli.make_parser(description)
    add = parser.add_argument
    add("-d", "--dataset", required=True, type=cli.existing_folder, help="folder of class folders")
    more = "folder of more images of a class, such as normals of your own; may be repeated"
    pair = cli.class_folder
    add("--add", action="append", default=[], type=pair, metavar="CLASS=DIR", help=more)
    add("-p", "--plot", default="plot.png", type=Path, help="training curves to write")
    add("-m", "--model", default="covid19.keras", type=Path, help="model file to write")
    add("--metrics", default="metrics.json", type=Path, help="JSON file to write, with all numbers")
    add("--report", type=Path, help="HTML report to write; without it, none is written")
    add("--positive", default="covid", metavar="CLASS", help="class that sensitivity refers to")
    weights = "ImageNet weights of VGG16: torchvision, keras, or a file"
    add("--weights", default="torchvision", help=weights)
    recipe = "features and head: portable (the best at other hospitals) or the tutorial's"
    add("--recipe", default="portable", choices=("portable", "tutorial"), help=recipe)
    region = "region that the saved model uses (default: lungs; of recipe tutorial, whole)"
    add("--region", choices=("whole", "lungs"), help=region)
    copies = "number of randomly rotated copies per image"
    add("--augment", default=0, type=number(int, 0), help=copies)
    angle = "largest angle of a rotation, in degrees"
    add("--rotation", default=15, type=number(float, 0), help=angle)
    passes = "number of passes over the images; of recipe portable, for the plot alone"
    add("--epochs", default=25, type=number(int, 1), help=passes)
    batch = "images per training step of recipe tutorial (default: 8; above 640 images, an 80th)"
    add("--batch-size", type=number(int, 1), help=batch)
    rate = number(float, 0, above=True)
    speed = "learning rate (default: the recipe's); of recipe portable, for the plot alone"
    add("--lr", type=rate, help=speed)
    units = "hidden units of the head, or 0 (default: the recipe's)"
    add("--units", type=number(int, 0), help=units)
    dropout = "dropout rate of the hidden units (default: the recipe's)"
    add("--dropout", type=number(float, 0, below=1), help=dropout)
    fraction = number(float, 0, below=1, above=True)
    part = "fraction of each class that is held out, of a data set without a folder test"
    add("--test-size", default=0.2, type=fraction, help=part)
    add("--folds", default=5, type=number(int, 2), help="number of folds of the cross-validation")
    repeats = "number of cross-validation repeats, 0 for none (default: 20; fewer above 500 images)"
    add("--repeats", type=number(int, 0), help=repeats)
    target = "cross-validated sensitivity for which a threshold is chosen and stored"
    add("--sensitivity", type=fraction, help=target)
    cli.add_decision_options(parser)
    cli.add_evidence_options(parser)
    exchanged = (
        "number of reference images whose lungs and chests are exchanged with those of up to "
    )
    exchanged += "500 images, 0 for none (default: one reference's lungs, in up to 50 images)"
    add("--transplant", type=number(int, 0), metavar="K", help=exchanged)
    add("--fit-all", action="store_true", help="switch for training the saved model on all images")
    add("--seed", default=42, type=number(int, 0), help="seed of all random numbers")
    cli.add_engine_options(parser)
    features = "with --engine ray: folder that keeps features, so that an interrupted run goes on"
    add("--features", type=Path, metavar="DIR", help=features)
    return parser


def read_config(arguments: argparse.Namespace) -> "TrainConfig":
    """The parsed command line; InputError if options do not fit, or outputs cannot be written."""
    config = make_config(arguments)
    check_outputs(*config.outputs, needed=[Path(config.weights)])
    return config


def make_config(arguments: argparse.Namespace) -> "TrainConfig":
    """The parsed options; InputError if they do not fit together."""
    from covidxray.pipeline.runs import TrainConfig  # NumPy and SciPy are slow to import for --help

    lists = {"add": tuple(arguments.add), "stratify": tuple(arguments.stratify)}
    region = arguments.region or ("whole" if arguments.recipe == "tutorial" else "lungs")
    config = TrainConfig(**{**vars(arguments), **lists, "region": region})
    if config.model.suffix != ".keras":
        raise InputError(f"--model {config.model}: file name must end in .keras; rename it")
    if config.plot.suffix.lower() not in PLOTS:
        endings = " or ".join(PLOTS)
        raise InputError(f"--plot {config.plot}: file name must end in {endings}; rename it")
    if config.sensitivity and config.repeats == 0:
        raise InputError("--sensitivity: needs the cross-validation; leave out --repeats 0")
    if config.transplant and config.repeats == 0:
        raise InputError("--transplant: needs the cross-validation; leave out --repeats 0")
    return config

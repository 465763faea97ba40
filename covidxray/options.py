"""The options of train_covid19.py."""

import argparse
from pathlib import Path

from covidxray.cli import add_cache, add_engine, class_folder, existing_folder, make_parser, number


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

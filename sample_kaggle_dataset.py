"""Fill a class folder with normal X-rays sampled from Kaggle's Chest X-Ray Images (Pneumonia)."""

import argparse
from pathlib import Path

from covidxray import cli
from covidxray.errors import printable
from covidxray.process import run_script


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add(
        "-k", "--kaggle", required=True, type=cli.existing_folder, help="unzipped chest_xray folder"
    )
    add("-o", "--output", required=True, type=Path, help="class folder to fill")
    add("-s", "--sample", default=25, type=cli.number(int, at_least=1), help="images to sample")
    splits = ("train", "test", "val")
    add("--split", default=["train"], nargs="+", choices=splits, help="splits to sample from")
    add("--all-per-patient", action="store_true", help="permission for several images per patient")
    add("--seed", default=42, type=cli.number(int, at_least=0), help="seed of the sampling")
    return parser


def main() -> None:
    args = make_parser().parse_args()

    import numpy as np

    from covidxray.data import kaggle
    from covidxray.data.class_folder import check_replaceable, fill_folder

    check_replaceable(args.output)
    root = kaggle.find_root(args.kaggle)
    normal, pneumonia = kaggle.list_normal(root, args.split)
    if pneumonia:
        names = ", ".join(path.name for path in pneumonia)
        left_out = f"{len(pneumonia)} pneumonia images in the NORMAL folder, left out: {names}"
        print(printable(left_out))
    one_per_patient = not args.all_per_patient
    rng = np.random.default_rng(args.seed)
    drawn = kaggle.sample(normal, args.sample, rng, one_per_patient)
    for path in drawn.copies:
        name = printable(str(path.relative_to(root)))
        print(f"{name}: the same picture was taken already, left out")
    for error in drawn.damaged.values():
        print(printable(f"left out: {error}"))
    selection = kaggle.make_selection(root, normal, pneumonia, drawn, one_per_patient)
    fill_folder(args.output, selection.images, selection.excluded)
    print(f"{args.output}: {selection}, from {len(normal)} normal")


if __name__ == "__main__":
    run_script(main)

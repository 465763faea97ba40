"""Draw the demo set: chest radiographs of invented patients, so that a fresh clone can be tried."""

import argparse
from pathlib import Path

from covidxray import cli
from covidxray.process import run_script


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("-o", "--output", default="dataset", type=Path, help="folder for covid/ and normal/")
    add("-s", "--sample", default=25, type=cli.number(int, at_least=2), help="images per class")
    add("--size", default=256, type=cli.number(int, at_least=64), help="width in pixels")
    add("--seed", default=42, type=cli.number(int, at_least=0), help="seed of the drawings")
    return parser


def main() -> None:
    args = make_parser().parse_args()

    import numpy as np

    from covidxray.data.class_folder import check_replaceable, fill_folder
    from covidxray.demo.phantom import draw_class

    folders = [args.output / name for name in ("covid", "normal")]
    for folder in folders:
        check_replaceable(folder)
    streams = np.random.default_rng(args.seed).spawn(len(folders))
    for folder, rng in zip(folders, streams, strict=True):
        drawn = draw_class(rng, args.sample, args.size, diseased=folder.name == "covid")
        fill_folder(folder, drawn)
        patients = len({row.patient_id for row, _ in drawn})
        print(f"{folder}: {len(drawn)} drawings of {patients} invented patients")


if __name__ == "__main__":
    run_script(main)

"""Fill a class folder with normal X-rays sampled from Kaggle's Chest X-Ray Images (Pneumonia)."""

import argparse
from pathlib import Path

# First: quiet Ctrl-C.
from covidxray.cli import printable, run

# isort: split
import numpy as np

from covidxray.manifest import check_ours, fill_folder
from covidxray.options import existing_folder, make_parser, number
from covidxray.sources import kaggle


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-k", "--kaggle", required=True, type=existing_folder, help="the unzipped chest_xray")
    add("-o", "--output", required=True, type=Path, help="class folder to fill")
    add("-s", "--sample", default=25, type=number(int, at_least=1), help="images to sample")
    add("--split", default=["train"], nargs="+", choices=kaggle.SPLITS, help="where from")
    add("--all-per-patient", action="store_true", help="allow several images of one patient")
    add("--seed", default=42, type=number(int, at_least=0), help="of the sampling")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    check_ours(args.output)
    root = kaggle.find_root(args.kaggle)
    normal, pneumonia = kaggle.list_normal(root, args.split)
    if pneumonia:
        names = ", ".join(path.name for path in pneumonia)
        said = f"{len(pneumonia)} pneumonia images in the NORMAL folder, left out: {names}"
        print(printable(said))
    rng = np.random.default_rng(args.seed)
    taken, copies, damaged = kaggle.sample(normal, args.sample, rng, not args.all_per_patient)
    for path in copies:
        place = printable(str(path.relative_to(root)))
        print(f"{place}: the same picture was taken already, left out")
    for error in damaged.values():
        print(printable(f"left out: {error}"))
    reasons = dict.fromkeys(pneumonia, "pneumonia by its name")
    reasons |= dict.fromkeys(copies, "copy of another image") | dict.fromkeys(damaged, "damaged")
    patients = {kaggle.patient_of(path) for path in taken}
    for path in sorted(set(normal) - {*taken, *reasons}):
        seen = kaggle.patient_of(path) in patients and not args.all_per_patient
        reasons[path] = "another image of the patient" if seen else "not drawn"
    excluded = [(path.name, reason) for path, reason in reasons.items()]
    fill_folder(args.output, [(kaggle.row(root, path), path) for path in taken], excluded)
    counts = f"{len(taken)} images of {len(patients)} patients"
    print(f"{args.output}: {counts}, from {len(normal)} normal")


if __name__ == "__main__":
    run(main)

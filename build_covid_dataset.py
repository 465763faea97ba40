"""Fill a class folder with the COVID-19 X-rays of Cohen's covid-chestxray-dataset."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

# First: quiet Ctrl-C.
from covidxray.cli import info, printable, run

# isort: split
import numpy as np
from tqdm import tqdm

from covidxray.errors import InputError
from covidxray.images import read_image
from covidxray.manifest import check_ours, fill_folder
from covidxray.options import existing_folder, make_parser, number
from covidxray.sources import cohen


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-c", "--covid", required=True, type=existing_folder, help="clone of the repository")
    add("-o", "--output", required=True, type=Path, help="class folder to fill")
    add("--controls", type=Path, metavar="DIR", help="class folder to fill with other findings")
    add("--metadata", type=Path, help="another version of the table; None: the clone's own")
    add("--finding", default="COVID-19", help="finding to select")
    add("--include-mixed", action="store_true", help="take it beside other findings, too")
    add("--view", default=["PA"], nargs="+", help="views to select, such as PA AP 'AP Supine'")
    add("--one-per-patient", action="store_true", help="take each patient's first image only")
    add("--limit", type=number(int, at_least=1), metavar="N", help="a random N images per folder")
    add("--seed", default=42, type=number(int, at_least=0), help="of --limit")
    add("--strict", action="store_true", help="make a missing or damaged image an error")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    records = cohen.read_metadata(args.metadata or args.covid / "metadata.csv")
    jobs = [
        (args.output, cohen.select(records, args.finding, args.view, args.include_mixed)),
    ]
    if args.controls:
        if args.controls.resolve() == args.output.resolve():
            raise InputError(f"{args.controls}: --controls and --output must be two folders")
        jobs.append((args.controls, cohen.select_controls(records, args.finding, args.view)))
    for folder, _ in jobs:
        check_ours(folder)
    filled = []
    for folder, selected in jobs:
        if not selected:
            views = ", ".join(sorted({record.view for record in records if record.view}))
            raise InputError(
                f"{args.covid}: no row has this finding and view; the views there are {views}"
            )
        filled.append((folder, choose(args, folder, selected)))
    for folder, (chosen, excluded) in filled:
        masks = find_masks(args.covid, chosen)
        if masks:
            print(f"  {len(masks)} masks of lungs beside them")
        fill_folder(folder, [(record.row(), path) for record, path in chosen], excluded, masks)


def choose(
    args: argparse.Namespace, folder: Path, selected: Sequence[cohen.Record]
) -> tuple[list[tuple[cohen.Record, Path]], list[tuple[str, str]]]:
    """Images to take among the selected rows, and the others' names with the reason of each.

    A summary goes to stdout.

    Raises:
        InputError: with --strict, one is not usable; there are fewer than --limit; or none.
    """
    skipped: dict[str, list[str]] = {"missing": [], "repeated": [], "damaged": []}
    usable: list[tuple[cohen.Record, Path]] = []
    names: set[str] = set()
    for record in tqdm(selected, desc=folder.name, unit="image"):
        path = cohen.locate(args.covid, record)
        if record.filename.lower() in names:
            skipped["repeated"].append(record.filename)
        elif not os.path.isfile(path):  # unlike Path's, false of a name that is too long
            skipped["missing"].append(record.filename)
        else:
            try:
                read_image(path)
                usable.append((record, path))
            except InputError:
                skipped["damaged"].append(record.filename)
        names.add(record.filename.lower())
    candidates = usable
    if args.one_per_patient:
        first: dict[str, tuple[cohen.Record, Path]] = {}
        for record, path in usable:
            first.setdefault(record.patient_id or record.filename, (record, path))
        candidates = list(first.values())
    chosen, available = candidates, len(candidates)
    if args.limit and args.limit <= available:
        kept = np.random.default_rng(args.seed).permutation(available)[: args.limit]
        chosen = [candidates[i] for i in sorted(kept)]
    patients = len({record.patient_id or record.filename for record, _ in chosen})
    print(f"{folder}: {len(chosen)} images of {patients} patients, from {len(selected)} rows")
    for kind, files in skipped.items():
        if files:
            print(printable(f"  {len(files)} {kind}: {', '.join(files)}"))
    problems = skipped["missing"] + skipped["damaged"] + skipped["repeated"]
    if args.strict and problems:
        raise InputError(f"{problems[0]}: missing, damaged or repeated; leave out --strict")
    if not usable or (args.limit and args.limit > available):
        wanted = args.limit or "some"
        raise InputError(f"{args.covid}: {wanted} images asked for, but there are {available}")
    excluded = [(name, kind) for kind, files in skipped.items() for name in files]
    excluded += left_out(usable, candidates, "another image of the patient")
    excluded += left_out(candidates, chosen, "not drawn")
    return chosen, excluded


def find_masks(root: Path, chosen: Sequence[tuple[cohen.Record, Path]]) -> dict[str, Path]:
    """Masks of the chosen images' lungs, by the image's name; one that is damaged is left out."""
    masks = {}
    for record, _ in chosen:
        if path := cohen.locate_mask(root, record):
            try:
                read_image(path)
                masks[record.filename] = path
            except InputError as error:
                info(f"{error} (a mask, left out)")
    return masks


def left_out(
    before: Sequence[tuple[cohen.Record, Path]],
    after: Sequence[tuple[cohen.Record, Path]],
    reason: str,
) -> list[tuple[str, str]]:
    """The reason why the images of `before` that are not in `after` were left out, by name."""
    kept = {record.filename for record, _ in after}
    return [(record.filename, reason) for record, _ in before if record.filename not in kept]


if __name__ == "__main__":
    run(main)

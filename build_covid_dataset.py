"""Fill a class folder with the COVID-19 X-rays of Cohen's covid-chestxray-dataset."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray import cli
from covidxray.errors import InputError, printable
from covidxray.process import run_script

if TYPE_CHECKING:
    from covidxray.data.class_folder import Selection
    from covidxray.data.manifest import ManifestRow


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("-c", "--covid", required=True, type=cli.existing_folder, help="clone of the repository")
    add("-o", "--output", required=True, type=Path, help="class folder to fill")
    add("--controls", type=Path, metavar="DIR", help="class folder to fill with other findings")
    normals = "class folder to fill with the repository's own radiographs read as normal"
    add("--normals", type=Path, metavar="DIR", help=normals)
    add("--metadata", type=Path, help="version of metadata.csv to use (default: the clone's)")
    add("--finding", default="COVID-19", help="finding to select")
    add("--include-mixed", action="store_true", help="inclusion of images with further findings")
    add("--view", default=["PA"], nargs="+", help="views to select, such as PA AP 'AP Supine'")
    add("--one-per-patient", action="store_true", help="only the first image of each patient")
    limit = "number of images per folder, drawn at random"
    add("--limit", type=cli.number(int, at_least=1), metavar="N", help=limit)
    add("--seed", default=42, type=cli.number(int, at_least=0), help="seed of --limit")
    add("--strict", action="store_true", help="error for a missing, repeated or damaged image")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    folders = {"--output": args.output, "--controls": args.controls, "--normals": args.normals}
    used: dict[Path, str] = {}
    for option, folder in folders.items():
        if folder and (first := used.setdefault(folder.resolve(), option)) != option:
            raise InputError(f"{option} {folder}: is also the {first}; choose another folder")

    from covidxray.data import cohen
    from covidxray.data.class_folder import check_replaceable, fill_folder

    records = cohen.read_metadata(args.metadata or args.covid / "metadata.csv")
    cohen.check_choice(records, args.finding, args.view)
    selected = {args.output: cohen.select(records, args.finding, args.view, args.include_mixed)}
    if args.controls:
        selected[args.controls] = cohen.select_controls(records, args.finding, args.view)
    if args.normals:
        selected[args.normals] = cohen.select(records, cohen.NO_FINDING, args.view)
    for folder in selected:
        check_replaceable(folder)
    selections = {}
    for folder, rows in selected.items():
        if not rows:
            views = ", ".join(sorted({record.view for record in records if record.view}))
            reason = f"no X-ray of {folder.name} has this finding and view"
            raise InputError(f"{args.covid}: {reason}; choose a --view among {views}")
        selections[folder] = choose(args, folder, rows)
    for folder, selection in selections.items():
        masks = cohen.find_masks(args.covid, (row.filename for row, _ in selection.images))
        if masks:
            print(f"  {len(masks)} masks of lungs")
        fill_folder(folder, selection.images, selection.excluded, masks)
    if args.normals:
        print(describe_normals(selections[args.normals], selections[args.output], records))


def describe_normals(
    normals: "Selection", chosen: "Selection", records: "list[ManifestRow]"
) -> str:
    """What the normal images are, and how many are of patients with the selected finding."""
    finding = {row.finding for row, _ in chosen.images}
    ill = {record.patient_id for record in records if record.finding in finding}
    also = sum(row.patient_id in ill for row, _ in normals.images)
    return (
        f"The normal images are radiographs read as normal; {also} of {len(normals.images)} are of "
        "patients with\nthe selected finding. A model learns whether a radiograph looks abnormal."
    )


def choose(args: argparse.Namespace, folder: Path, rows: "list[ManifestRow]") -> "Selection":
    """Choose images among the selected rows of the table, and print a summary.

    Raises:
        InputError: there are too few images, or with --strict, one cannot be used.
    """
    from tqdm import tqdm

    from covidxray.data import choosing, cohen

    images = list(cohen.list_files(args.covid, rows))
    there = sum(isinstance(file, Path) for _, file in images)
    with tqdm(total=min(there, args.limit or there), desc=folder.name, unit="image") as bar:
        selection = choosing.choose(images, args.one_per_patient, args.limit, args.seed, bar.update)
    print(f"{folder}: {selection}, from {len(rows)} rows")
    unusable = [(reason, name) for name, reason in selection.excluded if reason in cohen.UNUSABLE]
    for kind in cohen.UNUSABLE:
        if names := [name for reason, name in unusable if reason == kind]:
            print(printable(f"  {len(names)} {kind}: {', '.join(names)}"))
    if args.strict and unusable:
        reason, name = unusable[0]
        raise InputError(f"{name}: is {reason}; restore the image or leave out --strict")
    if len(selection.images) < (args.limit or 1):
        wanted, found = args.limit or "some", len(selection.images)
        reason = f"{wanted} images asked for, but there are {found}"
        raise InputError(f"{args.covid}: {reason}; choose another --limit, --finding or --view")
    return selection


if __name__ == "__main__":
    run_script(main)

"""Fill class folders with the images of a public data set as it was downloaded, or of your own."""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray import cli
from covidxray.data.source import CLASSES, OTHER, Source, known_sources, read_source
from covidxray.errors import InputError, printable
from covidxray.process import run_script

if TYPE_CHECKING:
    from covidxray.data.choosing import ListedImage
    from covidxray.data.class_folder import Selection

NAMED = 3  # other labels that are named


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    parser.epilog = f"{parser.epilog} Known sources: {', '.join(known_sources())}."
    add = parser.add_argument
    source = "known source, or TOML file that describes one (docs/sources.md)"
    add("--source", required=True, metavar="NAME", help=source)
    folder = "folder of the data set as it was downloaded"
    add("--input", required=True, type=cli.existing_folder, metavar="DIR", help=folder)
    output = "folder in which a folder of each class is filled"
    add("-o", "--output", required=True, type=Path, metavar="DIR", help=output)
    classes = "classes to fill; an evaluation refuses classes that its model does not know"
    add("--classes", default=["covid", "normal"], nargs="+", choices=CLASSES, help=classes)
    views = "views to select, such as PA AP (default: those that the source names, or all)"
    add("--view", default=[], nargs="+", help=views)
    only = "only the first image of each patient in each class"
    add("--one-per-patient", action="store_true", help=only)
    limit = "number of images per class, drawn at random"
    add("--limit", type=cli.number(int, at_least=1), metavar="N", help=limit)
    add("--seed", default=42, type=cli.number(int, at_least=0), help="seed of --limit")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    source = read_source(args.source)

    from tqdm import tqdm

    from covidxray.data.class_folder import fill_folder
    from covidxray.data.source_images import list_source

    check_output(args.output, source)
    listed: dict[str, list[ListedImage]] = {name: [] for name in (*args.classes, OTHER)}
    for row, file in list_source(source, args.input, args.view or source.views):
        label = source.class_of(row.finding)
        listed[label if label in listed else OTHER].append((row, file))
    labels = Counter(row.finding or "no label" for row, _ in listed[OTHER])
    others = [(row.filename, "another label") for row, _ in listed.pop(OTHER)]
    selections = {name: choose(args, name, images) for name, images in listed.items()}
    if not any(selection.images for selection in selections.values()):
        left_out = [pair for selection in selections.values() for pair in selection.excluded]
        reason = f"no image can be used ({count_reasons([*left_out, *others])})"
        raise InputError(f"{args.input}: {reason}; {source.title} has {source.file}")
    for name, selection in selections.items():
        if selection.images or (args.output / name).exists():
            bar = tqdm(selection.images, desc=f"{name}: copying", unit="image")
            fill_folder(args.output / name, bar, [*selection.excluded, *others])
        if listed[name]:
            print(f"{name}: {selection}")
            print(f"  left out: {count_reasons(selection.excluded)}")
    print_source(source, labels)


def check_output(output: Path, source: Source) -> None:
    """Raise InputError if a class folder cannot be filled, or has images of another source."""
    from covidxray.data.class_folder import check_replaceable
    from covidxray.data.manifest import read_manifest

    for folder in (output / name for name in CLASSES):
        check_replaceable(folder)
        if others := {row.source for row in read_manifest(folder).values()} - {source.name}:
            reason = f"has images of the source {min(others)}; choose another --output"
            raise InputError(f"{folder}: {reason}")


def choose(args: argparse.Namespace, name: str, images: "list[ListedImage]") -> "Selection":
    """Choose images of a class, with a progress bar."""
    from tqdm import tqdm

    from covidxray.data import choosing

    n = sum(isinstance(file, Path) for _, file in images)
    with tqdm(total=min(n, args.limit or n), desc=name, unit="image", disable=not n) as bar:
        return choosing.choose(images, args.one_per_patient, args.limit, args.seed, bar.update)


def count_reasons(excluded: Iterable[tuple[str, str]]) -> str:
    """How many images are left out for each reason, the most common first."""
    reasons = Counter(reason for _, reason in excluded).most_common()
    return ", ".join(f"{n} {reason}" for reason, n in reasons) or "none"


def print_source(source: Source, labels: Counter[str]) -> None:
    """Print which labels were left out, and whose images these are."""
    print(f"another label: {labels.total()}")
    for label, n in labels.most_common(NAMED):
        print(printable(f"  {n} {label}"))
    lines = [f"licence: {source.licence}", f"cite: {source.citation}", source.link]
    for line in (source.title, *lines, *(f"note: {quirk}" for quirk in source.quirks)):
        print(printable(line))


if __name__ == "__main__":
    run_script(main)

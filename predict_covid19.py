"""Say what a saved model makes of images: files, folders, DICOM. Reads them one after another.

A warning stands where an image is in colour or blank, where no pair of lungs is found, or where it
is farther from the training images than 95 % of them are from other patients'. Measured, that
caught 8 of 8 CT slices, 2 of 2 photographs and 7 of 7 lateral views, one in five X-rays of healthy
children (their lungs are often joined), and of another hospital's as few as of their own (0.05 and
0.07): no warning is no promise (docs/measurements.md).
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from covidxray import cli
from covidxray.cli import DISCLAIMER, info, printable, quiet_backend
from covidxray.errors import InputError
from covidxray.files import check_outputs, check_writable, is_remote
from covidxray.options import add_cache, add_engine, make_parser, open_cache, open_engine, place
from covidxray.tables import open_tables


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-m", "--model", required=True, type=Path, help="model that train_covid19.py wrote")
    add("images", nargs="+", type=place, metavar="IMAGE", help="files, or folders to search")
    add("--csv", type=Path, metavar="FILE", help="the table as CSV; None: do not write it")
    add("--json", type=Path, metavar="FILE", help="the table as JSON; None: do not write it")
    explain = "folder for heat maps (Grad-CAM) of what speaks for the class; None: do not write"
    add("--explain", type=Path, metavar="DIR", help=explain)
    add_cache(parser)
    add_engine(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    from tqdm import tqdm

    from covidxray.images import save_png

    paths = find_images(args.images)
    check_outputs(args.csv, args.json, needed=[args.model, *paths])
    if args.explain:
        try:
            args.explain.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{args.explain}: cannot be made ({error.strerror}); choose another folder"
            ) from error
        check_writable(args.explain / "heat.png")

    engine = open_engine(args, *args.images)
    info("loading model...")
    with quiet_backend():
        from covidxray.classifier import Classifier
        from covidxray.gradcam import central_share
        from covidxray.masks import share_inside

        if args.explain:
            from covidxray.plots import outline, overlay
        classifier = Classifier(args.model, open_cache(args))
    about = classifier.about

    good = 0
    with ExitStack() as stack, tqdm(total=len(paths), unit="image") as bar:
        write = open_tables(stack, args.csv, args.json)

        def show(line: str, file=sys.stdout) -> None:
            bar.write(printable(line), file=file)

        show(f"{'image':<30}{'class':<12}P({about.positive})  warning")
        for path, prediction in zip(paths, engine.judge(classifier, paths), strict=True):
            bar.update()
            if isinstance(prediction, InputError):
                show(f"error: {prediction}", sys.stderr)
                continue
            good += 1
            probability = prediction.probabilities[classifier.positive]
            full = printable(str(path))
            name = full if len(full) < 30 else f"...{full[-26:]}"
            label = about.classes[prediction.label]
            place = f"{probability:>{len(about.positive) + 3}.3f}"
            show(f"{name:<30}{label:<12}{place}  {prediction.warning}".rstrip())
            picture = None
            if args.explain:
                picture = args.explain / f"{good:05d}-{printable(path.stem)[:40]}.png"
                drawn = overlay(prediction.image, prediction.heat)
                save_png(picture, outline(drawn, prediction.lungs))
            numbers = round(float(probability), 6), round(prediction.distance, 4)
            shares = share_inside(prediction.heat, prediction.lungs), central_share(prediction.heat)
            heat = [round(share, 4) if share == share else None for share in shares]
            cell = f"./{full}" if full[0] in "=+-@" else full  # a spreadsheet would calculate it
            write(cell, label, *numbers, prediction.warning, *heat, picture and str(picture))
    print(f"\nclass at the stored threshold, {about.threshold:.3f}\n{DISCLAIMER}")
    if bad := len(paths) - good:
        raise InputError(f"{bad} of {len(paths)} files could not be read; see the lines above")


def find_images(given: list[Path]) -> list[Path]:
    """The files among `given` and the images in its folders, in that order."""
    from covidxray.images import list_images

    paths = []
    for path in given:
        if not (path.exists() if is_remote(path) else os.path.exists(path)):
            raise InputError(f"{printable(str(path))}: no such file or folder; check the name")
        paths += list_images(path, recursive=True) if path.is_dir() else [path]
    if not paths:
        raise InputError(f"{given[0]}: holds no images; give files or another folder")
    return paths


if __name__ == "__main__":
    cli.run(main)

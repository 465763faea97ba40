"""Predict images with a saved model: files, folders, DICOM; one after another.

A warning is printed where an image is in colour or blank, where no pair of lungs is found, or where
an image is farther from the training images than 95 % of those are from other patients' images.
Measured, that caught 8 of 8 CT slices, 2 of 2 photographs and 7 of 7 lateral views. It also warned
of one in five X-rays of healthy children, whose lungs are often joined, and it does not notice
another hospital: a prediction without a warning can still be wrong (docs/measurements.md).
"""

import argparse
import os
import sys
from pathlib import Path

from covidxray import DISCLAIMER, cli
from covidxray.errors import InputError, printable
from covidxray.files import check_outputs, check_writable, is_remote
from covidxray.process import run_script


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("-m", "--model", required=True, type=Path, help="model file that train_covid19.py wrote")
    add("images", nargs="+", type=cli.any_path, metavar="IMAGE", help="files, or folders to search")
    add("--csv", type=Path, metavar="FILE", help="CSV file to write, with a row for each image")
    add("--json", type=Path, metavar="FILE", help="JSON file to write, with the same rows")
    explain = "folder for heat maps (Grad-CAM) that show what speaks for a class"
    add("--explain", type=Path, metavar="DIR", help=explain)
    add("--explain-class", metavar="CLASS", help="class of the heat maps (default: the predicted)")
    cli.add_decision_options(parser)
    cli.add_reference_options(parser)
    cli.add_engine_options(parser)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    paths = find_images(args.images)
    check_outputs(args.csv, args.json, needed=[args.model, *paths])
    if args.explain:
        args.explain.mkdir(parents=True, exist_ok=True)
        check_writable(args.explain / "heat.png")

    from tqdm import tqdm

    from covidxray.data.images import save_png
    from covidxray.pipeline.external_run import PredictorConfig
    from covidxray.pipeline.open_predictor import open_predictor
    from covidxray.report import prediction_table

    config = PredictorConfig(**cli.fields_of(PredictorConfig, args))
    opened = open_predictor(config, args.images)
    if args.explain:
        from covidxray.report.plots import outline, overlay
    predictor = opened.predictor
    known = opened.reference.reference if opened.reference else None
    table = prediction_table.PredictionTable(predictor.metadata, args.prevalence, known)
    predictions = opened.predict_files(paths)
    rows: list[prediction_table.Row] = []
    with tqdm(total=len(paths), unit="image") as bar:
        bar.write(table.header)
        for path, found in zip(paths, predictions, strict=True):
            bar.update()
            if isinstance(found, InputError):
                bar.write(printable(f"error: {found}"), file=sys.stderr)
                continue
            bar.write(table.format(path, found))
            heat_map = None
            if args.explain:
                heat_map = args.explain / f"{len(rows) + 1:05d}-{printable(path.stem)[:40]}.png"
                save_png(heat_map, outline(overlay(found.image, found.heat), found.lungs))
            rows.append(table.make_row(path, found, heat_map))
    prediction_table.write_prediction_tables(rows, args.csv, args.json)
    print(table.footer)
    if blind := sum(not row["class"] for row in rows):
        print(f"{blind} of {len(rows)} images get no class: no pair of lungs was found in them")
    print(DISCLAIMER)
    if unread := len(paths) - len(rows):
        raise InputError(f"{unread} of {len(paths)} files could not be read; see the lines above")


def find_images(given: list[Path]) -> list[Path]:
    """The files among `given` and the images in its folders, in that order.

    Raises:
        InputError: a path does not exist, or there is no image.
    """
    from covidxray.data.folders import list_tree

    paths = []
    for path in given:
        if not (path.exists() if is_remote(path) else os.path.exists(path)):
            raise InputError(f"{printable(str(path))}: no such file or folder; check the name")
        if path.is_dir():
            found, left_out = list_tree(path)
            paths += found
            cli.name_left_out(left_out)
        else:
            paths.append(path)
    if not paths:
        raise InputError(f"{given[0]}: holds no images; give files or another folder")
    return paths


if __name__ == "__main__":
    run_script(main)

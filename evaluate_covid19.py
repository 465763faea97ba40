"""Score a saved model on labelled images from elsewhere; images of one class are enough."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray import DISCLAIMER, cli
from covidxray.files import atomic_writes, check_outputs
from covidxray.process import info, quiet_backend, run_script

if TYPE_CHECKING:
    from covidxray.pipeline.external_run import ExternalRun


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("-m", "--model", required=True, type=Path, help="model file that train_covid19.py wrote")
    add(
        "-d",
        "--dataset",
        required=True,
        type=cli.existing_folder,
        help="folder of class folders, named as the model's classes; some may be missing",
    )
    add("--json", type=Path, metavar="FILE", help="JSON file to write, with every number")
    add("--report", type=Path, metavar="FILE", help="HTML report to write, in one file")
    seed = cli.number(int, at_least=0)
    add("--seed", default=42, type=seed, help="seed of the resampled intervals and of the audit")
    cli.add_decision_options(parser)
    cli.add_evidence_options(parser)
    cli.add_reference_options(parser)
    exchanged = "number of normal images whose lungs and chests are exchanged with those of up to "
    exchanged += "500 images, 0 for none"
    add("--transplant", default=3, type=cli.number(int, 0), metavar="K", help=exchanged)
    cli.add_engine_options(parser)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    check_outputs(args.json, args.report, needed=[args.model])

    from tqdm import tqdm

    from covidxray.data.loading import load_dataset
    from covidxray.pipeline.engines import open_engine
    from covidxray.report import external as external_report

    engine = open_engine(args.engine, args.ray_address, [args.dataset])
    info("loading model...")
    with quiet_backend():
        from covidxray.model.cache import open_cache
        from covidxray.model.predictor import Predictor
        from covidxray.pipeline import external, reference
        from covidxray.pipeline.external_run import ExternalConfig

        predictor = Predictor(args.model, open_cache(args.cache, args.engine), args.threshold)
    metadata = predictor.metadata
    data = load_dataset(
        args.dataset,
        bytes.fromhex(metadata.salt),
        classes=metadata.classes,
        inspect_files=engine.inspect_files,
    )
    cli.show_dataset(data)
    print(f"model: {args.model}, {metadata.card['data set']}")
    if data.synthetic != metadata.synthetic:
        print("A model of drawings on real images, or the reverse: the numbers say nothing.")

    normals = None
    if args.reference:
        normals = reference.read_reference(args.reference, args.false_positives, predictor, engine)
        normals.check(data.rows, data.patients)
        predictor.set_threshold(normals.reference.threshold)
    found = engine.predict_files(predictor, data.paths, with_statistics=True)
    found = tqdm(found, total=len(data), desc="VGG16", unit="image")
    predictions, gallery, unread = external.collect_predictions(found, data, predictor.positive)
    data = cli.leave_out_unread(data, unread)
    options = (args.seed, args.prevalence, tuple(args.stratify), args.transplant)
    config = ExternalConfig(*options, args.transplant_pictures)
    run = external.evaluate_predictions(predictor, data, predictions, gallery, config, normals)
    print(external_report.format_text(run))
    save_outputs(run, args.json, args.report)
    print(f"\n{DISCLAIMER}")


def save_outputs(run: "ExternalRun", json: Path | None, report: Path | None) -> None:
    """Write the outputs that are asked for: all of them, or none if one cannot be written."""
    from covidxray.report import evidence, html, results
    from covidxray.report import external as external_report

    with atomic_writes() as output:
        if json:
            with output(json) as path:
                results.write_json(path, external_report.json_results(run))
        if report:
            with output(report) as path:
                html.write_report(path, external_report.report_content(run))
        exchanged = run.evidence.transplants if run.evidence else None
        evidence.save_pictures(run.config.transplant_pictures, exchanged)


if __name__ == "__main__":
    run_script(main)

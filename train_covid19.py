"""Train a COVID-19 X-ray classifier on class folders and say how far it can be believed."""

import argparse
import json
import platform
import secrets
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from covidxray.cli import DISCLAIMER, existing_folder, info, make_parser, number, quiet_backend, run
from covidxray.errors import InputError
from covidxray.files import check_writable, whole_file

DRAWINGS = "These images are drawings: the numbers say nothing about COVID-19."
PACKAGES = ("keras", "tensorflow", "numpy", "opencv-python", "pillow", "scikit-learn")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-d", "--dataset", required=True, type=existing_folder, help="folder of class folders")
    add("-p", "--plot", default="plot.png", type=Path, help="training curves to write")
    add("-m", "--model", default="covid19.keras", type=Path, help="model to write")
    add("--metrics", default="metrics.json", type=Path, help="every number printed, as JSON")
    add("--positive", default="covid", metavar="CLASS", help="the class that sensitivity is of")
    add("--weights", default="torchvision", help="ImageNet weights: torchvision, keras or a file")
    add("--views", default=1, type=number(int, at_least=0), help="random rotations of each image")
    add("--rotation", default=15, type=number(float, at_least=0), help="largest angle, degrees")
    add("--epochs", default=25, type=number(int, at_least=1), help="passes over the images")
    add("--batch-size", default=8, type=number(int, at_least=1), help="images per step")
    add("--lr", default=1e-3, type=number(float, at_least=0, above=True), help="Adam's rate")
    add("--units", default=64, type=number(int, at_least=1), help="hidden units of the head")
    add("--dropout", default=0.5, type=number(float, at_least=0, below=1), help="of the head")
    size = number(float, at_least=0, above=True, below=1)
    add("--test-size", default=0.2, type=size, help="share of each class held out")
    add("--folds", default=5, type=number(int, at_least=2), help="of the cross-validation")
    add("--repeats", default=20, type=number(int, at_least=0), help="of it; 0 skips it")
    add("--fit-all", action="store_true", help="train the saved model on every image at the end")
    precision = ("auto", "float32", "bfloat16")
    add("--precision", default="auto", choices=precision, help="of VGG16 while training")
    add("--seed", default=42, type=number(int, at_least=0), help="of everything random")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    for path in (args.plot, args.model, args.metrics):
        check_writable(path)
    if args.model.suffix != ".keras":
        raise InputError(f"{args.model}: a model's name must end in .keras")

    info("loading images...")
    import numpy as np

    from covidxray import metrics, splits
    from covidxray.dataset import load_dataset
    from covidxray.weights import load_weights

    data = load_dataset(args.dataset, secrets.token_bytes(16))
    labels, groups = data.labels, data.groups
    if args.positive not in data.classes:
        found = ", ".join(data.classes)
        raise InputError(f"{args.dataset}: no class {args.positive}; --positive takes {found}")
    positive = data.classes.index(args.positive)
    print(data)
    if data.synthetic:
        print(DRAWINGS)
    for name in data.without_manifest:
        info(f"{name} has no manifest.csv: each image is taken for a patient of its own")
    needed = args.folds if args.repeats else 2
    splits.check_patients(labels, groups, data.classes, needed)

    info("loading VGG16...")
    weights = load_weights(args.weights)
    with quiet_backend():
        from covidxray import head, plots
        from covidxray.backbone import build_backbone, resolve_precision
        from covidxray.features import extract

        precision = resolve_precision(args.precision)
        backbone = build_backbone(weights, precision)

    # One stream for each purpose: changing one option leaves the others' random numbers alone.
    view_rng, split_rng, head_rng, cv_rng, all_rng = np.random.default_rng(args.seed).spawn(5)
    features = extract(backbone, data.paths, views=args.views, rotation=args.rotation, rng=view_rng)
    groups, copies = splits.merge_duplicates(groups, features.hashes)
    if copies:
        info(f"{copies} images are copies across patients: each is kept on one side of a split")
    splits.check_patients(labels, groups, data.classes, needed)
    train, test = splits.holdout(labels, groups, args.test_size, split_rng)

    info(f"training head on {len(train)} images...")
    options = head.HeadOptions(args.units, args.dropout, args.epochs, args.batch_size, args.lr)
    heads = head.fit_heads(features.views, labels, [train], options, head_rng, validation=test)

    info("evaluating network...")
    probabilities = heads.predict(features.views[test, 0], 0)
    single = metrics.evaluate(labels[test], probabilities.argmax(axis=1), data.classes, positive)
    print(f"\nheld-out {len(test)} images, the tutorial's measure:\n")
    print(metrics.format_evaluation(single, data.classes))

    repeated = None
    if args.repeats:
        info(f"cross-validating: {args.folds} folds, {args.repeats} times...")
        folds = list(splits.repeated_folds(labels, groups, args.folds, args.repeats, cv_rng))
        probabilities, fit = head.cross_validate(features.views, labels, folds, options, cv_rng)
        repeated = metrics.score_repeats(labels, probabilities, fit, groups, positive)
        print(
            f"\n{args.repeats} x {args.folds}-fold cross-validation by patient, the one to quote:\n"
        )
        print(metrics.format_repeats(repeated))

    info("saving plot, model and metrics...")
    with whole_file(args.plot) as part:
        note = DRAWINGS if data.synthetic else f"Validation: the {len(test)} held-out images."
        plots.plot_history(heads.history, str(data), note, part)
    if args.fit_all:
        heads = head.fit_heads(features.views, labels, [np.arange(len(data))], options, all_rng)
    about = {
        "classes": data.classes,
        "positive": args.positive,
        "threshold": 0.5,
        "synthetic": data.synthetic,
        "trained_on": [data.rows[i].sha256 for i in (range(len(data)) if args.fit_all else train)],
    }
    if precision != "float32":
        backbone = build_backbone(weights)
    with whole_file(args.model) as part:
        head.save_model(head.build_model(backbone, heads, args.dropout), part, about)
    results = {
        "dataset": {"name": data.name, "classes": data.classes, "sha256": data.sha256}
        | {"images": np.bincount(labels), "patients": len(np.unique(groups))}
        | {"synthetic": data.synthetic, "copies_across_patients": copies},
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "weights": {"name": weights.name, "sha256": weights.sha256},
        "precision": precision,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "split": {"train": data.names(train), "test": data.names(test)},
        "held_out": asdict(single),
        "cross_validation": asdict(repeated) if repeated else None,
    }
    with whole_file(args.metrics) as part:
        part.write_text(json.dumps(results, indent=1, default=lambda array: array.tolist()))
    print(f"\n{DISCLAIMER}")


if __name__ == "__main__":
    run(main)

"""Train a COVID-19 X-ray classifier on class folders and say how far it can be believed."""

import argparse
import secrets
from pathlib import Path

from covidxray import cli
from covidxray.cli import DISCLAIMER, existing_folder, info, make_parser, number, quiet_backend
from covidxray.errors import InputError
from covidxray.files import check_writable, whole_file


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-d", "--dataset", required=True, type=existing_folder, help="folder of class folders")
    more = "more images of a class, such as your own hospital's normals; may be given again"
    add("--add", action="append", default=[], type=cli.class_folder, metavar="CLASS=DIR", help=more)
    add("-p", "--plot", default="plot.png", type=Path, help="training curves to write")
    add("-m", "--model", default="covid19.keras", type=Path, help="model to write")
    add("--metrics", default="metrics.json", type=Path, help="every number printed, as JSON")
    add("--report", type=Path, help="HTML report to write, one file; None: do not")
    add("--positive", default="covid", metavar="CLASS", help="the class that sensitivity is of")
    add("--weights", default="torchvision", help="ImageNet weights: torchvision, keras or a file")
    recipe = "features and head: portable (the best at other hospitals) or tutorial"
    add("--recipe", default="portable", choices=("portable", "tutorial"), help=recipe)
    pools = "what the saved model looks at: the whole picture, or the lungs alone"
    add("--pool", default="whole", choices=("whole", "lungs"), help=pools)
    add("--views", default=0, type=number(int, at_least=0), help="random rotations of each image")
    add("--rotation", default=15, type=number(float, at_least=0), help="largest angle, degrees")
    add("--epochs", default=25, type=number(int, at_least=1), help="passes over the images")
    add("--batch-size", default=8, type=number(int, at_least=1), help="images per step")
    rate = "Adam's rate; None: the recipe's"
    add("--lr", type=number(float, at_least=0, above=True), help=rate)
    units = "hidden units of the head, 0: none; None: the recipe's"
    add("--units", type=number(int, at_least=0), help=units)
    drop = "dropout of the hidden units; None: the recipe's"
    add("--dropout", type=number(float, at_least=0, below=1), help=drop)
    size = number(float, at_least=0, above=True, below=1)
    add("--test-size", default=0.2, type=size, help="share of each class held out")
    add("--folds", default=5, type=number(int, at_least=2), help="of the cross-validation")
    add("--repeats", default=20, type=number(int, at_least=0), help="of it; 0 skips it")
    keep = "store the threshold that keeps this cross-validated sensitivity; None: 0.5"
    add("--sensitivity", type=size, help=keep)
    add("--fit-all", action="store_true", help="train the saved model on every image at the end")
    precision = ("auto", "float32", "bfloat16")
    add("--precision", default="auto", choices=precision, help="of VGG16 while training")
    add("--seed", default=42, type=number(int, at_least=0), help="of everything random")
    cli.add_engine(parser, features=True)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    for path in filter(None, (args.plot, args.model, args.metrics, args.report)):
        check_writable(path)
    if args.model.suffix != ".keras":
        raise InputError(f"{args.model}: a model's name must end in .keras")
    if args.sensitivity and not args.repeats:
        raise InputError("--sensitivity: comes from the cross-validation; leave out --repeats 0")

    engine = cli.open_engine(args, args.dataset, *(folder for _, folder in args.add))
    info("loading images...")
    import numpy as np

    from covidxray import splits
    from covidxray.audit import audit
    from covidxray.dataset import load_dataset
    from covidxray.weights import load_weights

    salt = secrets.token_bytes(16)
    data = load_dataset(args.dataset, salt, added=args.add, look_at=engine.look_at)
    positive = data.index(args.positive)
    print(data)
    for name in data.without_manifest:
        info(f"{name} has no manifest.csv: each image is taken for a patient of its own")
    needed = args.folds if args.repeats else 2
    splits.check_patients(data.labels, data.groups, data.classes, needed)

    info("loading VGG16...")
    weights = load_weights(args.weights)
    with quiet_backend():
        from covidxray import head, plots, summary, training
        from covidxray.backbone import RECIPES, build_backbone, resolve_precision
        from covidxray.lungs import load_segmenter

        recipe, precision = RECIPES[args.recipe], resolve_precision(args.precision)
        backbone = build_backbone(weights, recipe, precision)
    if data.synthetic:
        print(summary.DRAWINGS)

    # One stream for each purpose: changing one option leaves the others' random numbers alone.
    view_rng, fit_rng, all_rng, familiar_rng = np.random.default_rng(args.seed).spawn(4)
    turned = {"views": args.views, "rotation": args.rotation, "rng": view_rng}
    segmenter = load_segmenter()
    features = engine.extract(backbone, recipe, segmenter, data, **turned)
    views = features.views[args.pool]
    if dice := training.check_lungs(data, features):
        print(f"lungs found, against masks that came with the images: Dice {dice}")
    loaded, (data, copies) = data, data.merge(features.hashes)
    if copies:
        info(f"{copies} images are copies across patients: each is kept on one side of a split")
    splits.check_patients(data.labels, data.groups, data.classes, needed)

    info("training head...")
    options = head.options_for(
        recipe, args.units, args.dropout, args.epochs, args.batch_size, args.lr
    )
    once = training.fit_once(data, views, positive, options, args.test_size, fit_rng)
    print(training.format_once(once))
    repeated = None
    if args.repeats:
        info(f"cross-validating: {args.folds} folds, {args.repeats} times...")
        folds = args.folds, args.repeats
        scoring = args.pool, positive, options, *folds, fit_rng
        repeated = training.fit_repeatedly(data, features, *scoring)
        print(training.format_repeated(repeated))
    threshold = 0.5
    if repeated and args.sensitivity:
        threshold, specificity = repeated.threshold_for(args.sensitivity)
        print(f"stored threshold: {threshold:.4f}, where cv specificity is {specificity:.4f}")

    info("looking for shortcuts...")
    audit_rng, where = np.random.default_rng(args.seed), repeated and repeated.where
    shortcuts = audit(loaded, features.clues, positive, audit_rng, where)
    sentence = summary.compare("cross-validated ", repeated and repeated.scores.auc, shortcuts)
    print(summary.format_shortcut(shortcuts, sentence))

    info("saving plot, model and metrics...")
    with whole_file(args.plot) as part:
        note = summary.DRAWINGS if data.synthetic else "Validation: the held-out images."
        plots.plot_history(once.heads.history, str(data), note, part)
    found = training.Run(
        data, copies, positive, once, repeated, threshold, shortcuts, sentence, dice
    )
    if precision != "float32":
        backbone = build_backbone(weights, recipe)
    made_of = training.Made(
        args.recipe, args.pool, weights.name, segmenter, options, args.fit_all, salt
    )
    training.save(found, made_of, args.model, backbone, features, all_rng, familiar_rng)
    depends = {"weights": {"name": weights.name, "sha256": weights.sha256}, "precision": precision}
    summary.write_json(args.metrics, training.results(found, vars(args), depends))
    if args.report:
        training.write_report(args.report, found, args.model, engine)
    print(f"\n{DISCLAIMER}")


if __name__ == "__main__":
    cli.run(main)

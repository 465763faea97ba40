"""Train a COVID-19 X-ray classifier on class folders and say how far it can be believed."""

import secrets
from pathlib import Path

from covidxray import cli
from covidxray.cli import DISCLAIMER, info, quiet_backend
from covidxray.errors import InputError
from covidxray.files import check_outputs, naming, whole_files
from covidxray.options import open_cache, open_engine, parse_training

PLOTS = (".png", ".pdf", ".svg", ".jpg")


def main() -> None:
    args = parse_training(__doc__)
    if args.cache_info:
        from covidxray.cache import Cache

        print(Cache(args.cache))
        return
    outputs = args.plot, args.model, args.metrics, args.report
    check_outputs(*outputs, needed=[Path(args.weights)])
    if args.model.suffix != ".keras":
        raise InputError(f"{args.model}: is no name of a model; it must end in .keras")
    if args.plot.suffix.lower() not in PLOTS:
        raise InputError(f"{args.plot}: is no name of a plot; it must end in {' or '.join(PLOTS)}")
    if args.sensitivity and args.repeats == 0:
        raise InputError("--sensitivity: comes from the cross-validation; leave out --repeats 0")

    engine = open_engine(args, args.dataset, *(folder for _, folder in args.add))
    info("loading images...")
    import numpy as np

    from covidxray import splits
    from covidxray.audit import audit
    from covidxray.dataset import load_dataset
    from covidxray.weights import load_weights

    salt = secrets.token_bytes(16)
    data = load_dataset(args.dataset, salt, added=args.add, look_at=engine.look_at)
    positive = data.index(args.positive)
    cli.show(data)
    for name in data.without_manifest:
        info(f"{name} has no manifest.csv: each image is taken for a patient of its own")
    if args.repeats is None:
        args.repeats = splits.usual_repeats(len(data))
    needed = args.folds if args.repeats else 2
    splits.check_patients(data.labels, data.groups, data.classes, needed)

    info("loading VGG16...")
    weights = load_weights(args.weights)
    with quiet_backend():
        from covidxray import head, plots, summary, training
        from covidxray.backbone import RECIPES, build_backbone, resolve_precision
        from covidxray.features import Kept, depends_on
        from covidxray.lungs import load_segmenter

        recipe, precision = RECIPES[args.recipe], resolve_precision(args.precision)
        backbone = build_backbone(weights, recipe, precision)
    if data.synthetic:
        print(summary.DRAWINGS)

    # One stream for each purpose: changing one option leaves the others' random numbers alone.
    view_rng, fit_rng, all_rng, familiar_rng = np.random.default_rng(args.seed).spawn(4)
    turned = {"views": args.views, "rotation": args.rotation, "rng": view_rng}
    segmenter = load_segmenter()
    if cache := open_cache(args):
        depends = depends_on(weights, recipe, segmenter, precision)
        turned["kept"] = Kept(cache, [row.sha256 for row in data.rows], depends)
    features = engine.extract(backbone, recipe, segmenter, data, **turned)
    data = cli.leave_out(data, features.unread)
    views = features.views[args.pool]
    if dice := training.check_lungs(data, features):
        print(f"lungs found, against masks that came with the images: Dice {dice}")
    loaded, (data, copies) = data, data.merge(features.hashes)
    if copies:
        info(f"{copies} images are copies across patients: each is kept on one side of a split")
    splits.check_patients(data.labels, data.groups, data.classes, needed)

    info("training head...")
    args.batch_size = args.batch_size or head.usual_batch(len(data))
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
    found = training.Run(
        data, copies, positive, once, repeated, threshold, shortcuts, sentence, dice
    )
    if precision != "float32":
        backbone = build_backbone(weights, recipe)
    made_of = training.Made(
        args.recipe, args.pool, weights.name, segmenter, options, args.fit_all, salt
    )
    depends = {"weights": {"name": weights.name, "sha256": weights.sha256}, "precision": precision}
    with whole_files() as begin:
        note = summary.DRAWINGS if data.synthetic else "Validation: the held-out images."
        with naming(args.plot):
            plots.plot_history(once.heads.history, str(data), note, begin(args.plot))
        with naming(args.model):
            model = begin(args.model)
            training.save(found, made_of, model, backbone, features, all_rng, familiar_rng)
        numbers = training.results(found, vars(args), depends)
        with naming(args.metrics):
            summary.write_json(begin(args.metrics), numbers)
        if args.report:
            with naming(args.report):
                training.write_report(begin(args.report), found, model, engine)
    print(f"\n{DISCLAIMER}")


if __name__ == "__main__":
    cli.run(main)

"""Score a saved model on labelled images from elsewhere; one class alone will do."""

import argparse
from dataclasses import asdict
from pathlib import Path

from covidxray import cli
from covidxray.cli import DISCLAIMER, info, quiet_backend
from covidxray.errors import InputError
from covidxray.files import check_outputs, naming, whole_files
from covidxray.options import (
    add_cache,
    add_engine,
    existing_folder,
    make_parser,
    number,
    open_cache,
    open_engine,
)


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-m", "--model", required=True, type=Path, help="model that train_covid19.py wrote")
    folder = "folder of class folders, named as the model's classes; not all need be there"
    add("-d", "--dataset", required=True, type=existing_folder, help=folder)
    add("--json", type=Path, metavar="FILE", help="every number, as JSON; None: do not write it")
    add("--report", type=Path, help="HTML report to write, one file; None: do not")
    add("--seed", default=42, type=number(int, at_least=0), help="of the resampled intervals")
    add_cache(parser)
    add_engine(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    check_outputs(args.json, args.report, needed=[args.model])

    engine = open_engine(args, args.dataset)
    info("loading model...")
    import numpy as np
    from tqdm import tqdm

    from covidxray.audit import audit
    from covidxray.dataset import load_dataset
    from covidxray.validation import describe, format_validation, validate
    from covidxray.where import NAMES, compare_pools, format_where

    with quiet_backend():
        from covidxray import summary
        from covidxray.classifier import Classifier

        classifier = Classifier(args.model, open_cache(args))
    about, positive = classifier.about, classifier.positive
    salt, known = bytes.fromhex(about.salt), about.classes
    data = load_dataset(args.dataset, salt, classes=known, look_at=engine.look_at)
    cli.show(data)
    print(f"model: {args.model}, {about.card['data set']}")
    for name in data.without_manifest:
        info(f"{name} has no manifest.csv: each image is taken for a patient of its own")
    if data.synthetic != about.synthetic:
        print("A model of drawings on real images, or the reverse: the numbers say nothing.")

    clues = []
    judged = engine.judge(classifier, data.paths, clues)
    judged = tqdm(judged, total=len(data), desc="VGG16", unit="image")
    probabilities, pairs, warnings, unread = [], [], [], {}
    scores = {pool: [] for pool in NAMES}
    gallery = summary.Gallery(about.classes, positive)
    for i, prediction in enumerate(judged):
        if isinstance(prediction, InputError):
            unread[i] = prediction
            continue
        probabilities.append(prediction.probabilities)
        warnings.append(prediction.warning)
        pairs.append(prediction.found)
        for pool, score in prediction.scores.items():
            scores[pool].append(score)
        gallery.add(data.names([i])[0], data.labels[i], prediction)
    data = cli.leave_out(data, unread)
    probabilities, pairs = np.array(probabilities), np.array(pairs)
    scores = {pool: np.array(score) for pool, score in scores.items()}

    hashes = np.array([clue.hash for clue in clues])
    seen = about.trained_images(data, hashes)
    known = about.trained_patients(data)
    if seen.any() or known.any():
        others = int((known & ~seen).sum())
        print(
            f"TRAINED ON: {seen.sum()} of these images were trained on, and {others} more are of\n"
            "patients trained on. The numbers are too good by them; see the subgroups."
        )
    loaded = data
    data, copies = loaded.merge(hashes)
    flagged = sum(map(bool, warnings))
    print(f"unlike the training images: {flagged} of {len(data)}")

    rng = np.random.default_rng(args.seed)
    parts = describe(data.rows, seen | known)
    scoring = data.classes, positive, about.threshold, data.groups, parts, rng
    result = validate(data.labels, probabilities, *scoring)
    print(f"\nat the stored threshold, {about.threshold:.3f}:\n")
    print(format_validation(result, data.classes))
    shortcuts, sentence, where, pools = None, "", None, []
    if result.auc:
        is_positive = data.labels == positive
        where = compare_pools(is_positive, scores, data.groups, pairs)
        pools = [summary.Scored(name, is_positive, scores[pool]) for pool, name in NAMES.items()]
        print(f"\n{format_where(where)}\n")
        try:
            audit_rng = np.random.default_rng(args.seed)
            shortcuts = audit(loaded, clues, positive, audit_rng, where)
            sentence = summary.compare("", result.auc, shortcuts)
            print(summary.format_shortcut(shortcuts, sentence))
        except InputError as error:
            print(where.sentence)
            info(f"shortcuts are not looked for: {error}")

    results = {
        "dataset": summary.describe_data(data) | {"copies_across_patients": copies},
        "model": {"file": args.model.name, **summary.model_card(about)},
        "trained_on": {"images": seen.sum(), "of_patients": known.sum()},
        "unlike_the_training_images": flagged,
        "heat_in_centre": gallery.centre,
        "heat_in_lungs": gallery.inside,
        "pairs_of_lungs": pairs.sum(),
        "where": where and asdict(where),
        **asdict(result),
        "shortcuts": shortcuts and asdict(shortcuts),
        "versions": summary.versions(),
    }
    with whole_files() as begin:
        if args.json:
            with naming(args.json):
                summary.write_json(begin(args.json), results)
        if args.report:
            from covidxray import report

            content = summary.validation_report(
                data, positive, probabilities, result, gallery, about, shortcuts, sentence, pools
            )
            with naming(args.report):
                report.write_report(begin(args.report), content)
    print(f"\n{DISCLAIMER}")


if __name__ == "__main__":
    cli.run(main)

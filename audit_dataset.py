"""Test whether the labels of a data set can be predicted without any anatomy."""

import argparse
import secrets
import sys
from pathlib import Path

from covidxray import DISCLAIMER, cli
from covidxray.errors import InputError
from covidxray.files import atomic_write, check_outputs
from covidxray.process import info, run_script

SHORTCUT = 3  # exit code


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("-d", "--dataset", required=True, type=cli.existing_folder, help="folder of class folders")
    add("--positive", default="covid", metavar="CLASS", help="class to tell from all others")
    add("--json", type=Path, metavar="FILE", help="JSON file to write with every result")
    failing = f"exit with code {SHORTCUT} if a shortcut predicts the label"
    add("--fail-on-shortcut", action="store_true", help=failing)
    add("--seed", default=42, type=cli.number(int, at_least=0), help="seed of all random numbers")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    check_outputs(args.json)

    import numpy as np
    from tqdm import tqdm

    from covidxray.audit.audit import run_audit
    from covidxray.data.images import read_with_statistics
    from covidxray.data.loading import load_dataset
    from covidxray.data.prefetch import attempt, ordered_map
    from covidxray.report import results, text

    data = load_dataset(args.dataset, secrets.token_bytes(16))
    positive = data.index(args.positive)
    cli.show_dataset(data)
    measured = ordered_map(attempt(lambda path: read_with_statistics(path)[1]), data.paths)
    found = list(tqdm(measured, desc="reading", unit="image", total=len(data)))
    unread = {i: error for i, error in enumerate(found) if isinstance(error, InputError)}
    image_statistics = [measured for measured in found if not isinstance(measured, InputError)]
    if unread:
        data = data.without(unread)
        cli.show_dataset(data, unread)

    info("fitting baselines...")
    audit = run_audit(data, image_statistics, positive, np.random.default_rng(args.seed))
    print(f"\n{text.format_audit(audit)}")
    if args.json:
        described = {"name": data.name, "classes": data.classes, "sha256": data.sha256}
        numbers = {"dataset": described, "seed": args.seed, **results.audit_results(audit)}
        with atomic_write(args.json) as unfinished:
            results.write_json(unfinished, numbers)
    print(f"\n{DISCLAIMER}")
    if audit.alarm and args.fail_on_shortcut:
        sys.exit(SHORTCUT)


if __name__ == "__main__":
    run_script(main)

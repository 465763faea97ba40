"""Ask whether a data set's label can be read without looking at any anatomy."""

import argparse
import json
import secrets
import sys
from dataclasses import asdict
from pathlib import Path

from covidxray.cli import DISCLAIMER, info, leave_out, run, show
from covidxray.errors import InputError
from covidxray.files import check_outputs, whole_file
from covidxray.options import existing_folder, make_parser, number

SHORTCUT = 3  # exit code


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-d", "--dataset", required=True, type=existing_folder, help="folder of class folders")
    add("--positive", default="covid", metavar="CLASS", help="the class told from the rest")
    add("--json", type=Path, metavar="FILE", help="write everything found; None: do not")
    failing = f"exit with {SHORTCUT} if the label can be read from a shortcut"
    add("--fail-on-shortcut", action="store_true", help=failing)
    add("--seed", default=42, type=number(int, at_least=0), help="of everything random")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    check_outputs(args.json)

    import numpy as np
    from tqdm import tqdm

    from covidxray.audit import audit, format_audit
    from covidxray.clues import look
    from covidxray.dataset import load_dataset
    from covidxray.pipeline import attempt, ordered_map

    data = load_dataset(args.dataset, secrets.token_bytes(16))
    positive = data.index(args.positive)
    show(data)
    found = ordered_map(attempt(lambda path: look(path)[1]), data.paths)
    clues = list(tqdm(found, desc="reading", unit="image", total=len(data)))
    data = leave_out(data, {i: c for i, c in enumerate(clues) if isinstance(c, InputError)})
    clues = [clue for clue in clues if not isinstance(clue, InputError)]
    info("fitting baselines...")
    rng = np.random.default_rng(args.seed)
    result = audit(data, clues, positive, rng)
    print(f"\n{format_audit(result)}")
    if args.json:
        about = {"dataset": {"name": data.name, "classes": data.classes, "sha256": data.sha256}}
        with whole_file(args.json) as part:
            part.write_text(json.dumps(about | {"seed": args.seed} | asdict(result), indent=1))
    print(f"\n{DISCLAIMER}")
    if result.alarm and args.fail_on_shortcut:
        sys.exit(SHORTCUT)


if __name__ == "__main__":
    run(main)

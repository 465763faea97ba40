"""How many small faults in the modules of numbers and data the tests notice, by a random sample.

    python benchmarks/mutation.py [--each 20]      # from the root of a clone, with mutmut 3.8.1

mutmut makes the mutants, copies of the code with one small fault each, of the modules that
pyproject.toml names, and runs the tests on those that are drawn. Its folder `mutants/` keeps the
results: another call runs again what no test has noticed, with the tests as they are then.
"""

import argparse
import random
import subprocess
import sys
from collections import defaultdict
from math import sqrt

NOTICED = ("killed", "timeout", "segfault")
ONE_MODULE = "covidxray.data.spreadsheet_cells.*"  # mutmut makes all mutants before it runs some


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", default=20, type=int, help="number of mutants of each module")
    parser.add_argument("--seed", default=0, type=int, help="seed of the draw")
    options = parser.parse_args()
    run_mutants([ONE_MODULE])
    results = read_results()
    mutants = defaultdict(list)
    for name in sorted(results):
        mutants[name.rpartition(".")[0]].append(name)
    sample = {
        module: random.Random(f"{options.seed} {module}").sample(
            names, min(options.each, len(names))
        )
        for module, names in sorted(mutants.items())
    }
    drawn = [name for names in sample.values() for name in names]
    if left := [name for name in drawn if results[name] not in NOTICED]:
        run_mutants(left)
        results = read_results()
    counts = []
    print("| module | mutants | sampled | noticed | share |\n| --- | --- | --- | --- | --- |")
    for module, names in sample.items():
        noticed = sum(results[name] in NOTICED for name in names)
        counts.append((len(mutants[module]), len(names), noticed))
        share = f"{noticed / len(names):.2f}"
        print("|", " | ".join(map(str, (module.partition(".")[2], *counts[-1], share))), "|")
    share, margin = weighted_share(counts)
    ends = f"{share:.2f} ({share - margin:.2f} to {min(share + margin, 1):.2f})"
    print("|", " | ".join(map(str, ("all", *map(sum, zip(*counts, strict=True)), ends))), "|\n")
    print(*(f"{results[name]}: {name}" for name in drawn if results[name] not in NOTICED), sep="\n")


def run_mutants(names: list[str]) -> None:
    """Run mutants, given by name or pattern, one at a time."""
    command = ["mutmut", "run", "--max-children", "1", *names]
    subprocess.run(command, check=True, stdout=sys.stderr)


def read_results() -> dict[str, str]:
    """The status of every mutant by its name."""
    command = ["mutmut", "results", "--all", "true"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.strip().split(": ") for line in lines.splitlines())


def weighted_share(counts: list[tuple[int, int, int]]) -> tuple[float, float]:
    """The share noticed in all, and the margin of its 95 % interval.

    `counts` are mutants, sampled and noticed of each module. The interval is that of a stratified
    sample without replacement; a module's variance is that of (noticed + 1) / (sampled + 2).
    """
    total, share, variance = sum(n for n, _, _ in counts), 0.0, 0.0
    for n, drawn, noticed in counts:
        share += n / total * noticed / drawn
        likely = (noticed + 1) / (drawn + 2)
        variance += (n / total) ** 2 * (1 - drawn / n) * likely * (1 - likely) / drawn
    return share, 1.96 * sqrt(variance)


if __name__ == "__main__":
    main()

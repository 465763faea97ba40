"""How often the audit finds a shortcut with an AUC of 0.80, and how often it says that it would.

    PYTHONPATH=. python benchmarks/audit_power.py [--repetitions 100]

The shortcut is one of two numbers of each image. Three other baselines of noise are tried as well.
"""

import argparse

import numpy as np
from scipy.special import ndtri

from covidxray.audit.audit import LEVEL, estimate_power
from covidxray.audit.baselines import fit_baselines

SHIFT = 2**0.5 * ndtri(0.8)  # of the means, which gives the AUC
NOISE = {"frame": 16, "histogram": 16, "file": 8}  # columns of the other baselines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", default=100, type=int)
    repetitions = parser.parse_args().repetitions
    print("| images | found | said | mean cross-validated AUC |\n| --- | --- | --- | --- |")
    for positives, negatives in ((15, 15), (25, 25), (50, 50), (15, 60)):
        found, said, areas = [], [], []
        for seed in range(repetitions):
            rng = np.random.default_rng(seed)
            groups = np.arange(positives + negatives)
            y_true = groups < positives
            tables = {name: rng.normal(size=(len(groups), n)) for name, n in NOISE.items()}
            tables["thumbnail"] = rng.normal(size=(len(groups), 2))
            tables["thumbnail"][y_true, 0] += SHIFT
            tables = {name: table.astype(np.float32) for name, table in tables.items()}
            shortcut = fit_baselines(tables, y_true, groups, rng)[-1]
            found.append(shortcut.p_value <= LEVEL)
            said.append(estimate_power(shortcut.critical, y_true, groups))
            areas.append(shortcut.auc.value)
        cells = f"{np.mean(found):.2f} | {np.mean(said):.2f} | {np.mean(areas):.3f}"
        print(f"| {positives} + {negatives} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

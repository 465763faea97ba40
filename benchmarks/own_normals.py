"""Measure how normal images of a new hospital in training change false positives and sensitivity.

    PYTHONPATH=. python benchmarks/own_normals.py --covid covid-chestxray-dataset \\
        --kaggle chest_xray --nih nih-normal

100 COVID-19 images, 50 controls and 50 normals of another source train. Then 0 to 50 normals of the
new source are added, as `train_covid19.py --add normal=DIR` does. The threshold is 0.5. The test
images are not in training. Brackets show the middle 95 % of draws.
"""

import argparse

import numpy as np
from pool import Pool, add_sources, draw_patients, features, read_pool, spread
from recipes import log_odds
from sklearn.metrics import roc_auc_score

from covidxray.model.heads import fit_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import RECIPES

ADDED = (0, 5, 10, 25, 50)


def curve(pool: Pool, views: np.ndarray, new: str, known: str, draws: int, seed: int):
    """For each number of added images (draws, 3): false-positive rate, sensitivity, AUC.

    The false-positive rate is that of the new source. The AUC is that of COVID-19 against controls.
    """
    labels = (pool.kind == "covid").astype(int)
    jobs = []
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        kinds = (("covid", 100), ("control", 50), (known, 50))
        base = np.concatenate([draw_patients(pool, kind, n, rng) for kind, n in kinds])
        own = draw_patients(pool, new, max(ADDED), rng)
        jobs += [np.concatenate([base, own[:n]]) for n in ADDED]
    options = RECIPES["portable"].head
    data = LabelledFeatures.of(views, labels)
    heads = fit_heads(data, jobs, options, np.random.default_rng(seed))
    found = {n: [] for n in ADDED}
    for fit in range(len(jobs)):
        # Every step of a draw is tested on the same images, which no step trains on.
        used = jobs[fit // len(ADDED) * len(ADDED) + len(ADDED) - 1]
        unseen = {
            kind: pool.of(kind)[~np.isin(pool.groups[pool.of(kind)], pool.groups[used])]
            for kind in (new, "covid", "control")
        }
        scores = {k: log_odds(heads.predict(views[i, 0], fit)) for k, i in unseen.items()}
        truth = np.repeat([1, 0], [len(scores["covid"]), len(scores["control"])])
        area = roc_auc_score(truth, np.r_[scores["covid"], scores["control"]])
        rates = (scores[new] >= 0).mean(), (scores["covid"] >= 0).mean()
        found[ADDED[fit % len(ADDED)]].append((*rates, area))
    return {n: np.array(values) for n, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sources(parser)
    args = parser.parse_args()
    pool = read_pool(args)
    views = features(args, pool, "clean")["block4_conv3", 3][:, None]
    print("| new source | own normals added | false positives there | sensitivity "
          "| AUC against controls |")  # fmt: skip
    print("|" + " --- |" * 5)
    for new, known in (("nih", "normal"), ("normal", "nih")):
        for n, values in curve(pool, views, new, known, args.draws, args.seed).items():
            print(f"| {new} | {n} | " + " | ".join(map(spread, values.T)) + " |", flush=True)


if __name__ == "__main__":
    main()

"""Compare recipes by AUC and false positives at a source that is not in training.

    PYTHONPATH=. python benchmarks/recipes.py --covid covid-chestxray-dataset --kaggle chest_xray \\
        --nih nih-normal

In each draw, 100 COVID-19 images and 50 images of every source of negatives but one train (of
Kaggle's, 25 are normal and 25 show pneumonia). The source left out is the test, with COVID-19 of
other patients. The threshold keeps 90 % sensitivity on patients who are held out within the
training set. The last column is the AUC with one place at a time left out of Cohen's own images.
"""

import argparse
from dataclasses import replace

import numpy as np
from pool import Pool, add_sources, draw_patients, features, read_pool, spread, turned
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from covidxray.model.heads import fit_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import HeadOptions

LOGISTIC, HIDDEN = HeadOptions(units=0, l2=10.0), HeadOptions()
SOURCES = {"control": ("control",), "kaggle": ("normal", "pneumonia"), "nih": ("nih",)}
TESTS = ("control", "normal", "pneumonia", "nih")
FOLDS = 3
LAST4, LAST5 = "block4_conv3", "block5_pool"
BLOCKS = ("block3_pool", "block4_pool", "block5_pool")
RECIPES = {
    "portable: block 4, GeM 3, logistic": ((LAST4,), 3, LOGISTIC),
    "tutorial: block 5, mean, hidden 64": ((LAST5,), 1, HIDDEN),
    "block 5, mean, logistic": ((LAST5,), 1, LOGISTIC),
    "blocks 3+4+5, mean, logistic": (BLOCKS, 1, LOGISTIC),
    "blocks 3+4+5, GeM 3, logistic": (BLOCKS, 3, LOGISTIC),
    "block 5, GeM 3, logistic": ((LAST5,), 3, LOGISTIC),
    "block 4, mean, logistic": ((LAST4,), 1, LOGISTIC),
    "block 4, GeM 2, logistic": ((LAST4,), 2, LOGISTIC),
    "block 4, GeM 6, logistic": ((LAST4,), 6, LOGISTIC),
    "block 4, maximum, logistic": ((LAST4,), "max", LOGISTIC),
    "block 4, spread, logistic": ((LAST4,), "std", LOGISTIC),
    "block 4, GeM 3, hidden 64": ((LAST4,), 3, HIDDEN),
    "block 4, GeM 3, l2 0": ((LAST4,), 3, replace(LOGISTIC, l2=0.0)),
    "block 4, GeM 3, l2 1": ((LAST4,), 3, replace(LOGISTIC, l2=1.0)),
    "block 4, GeM 3, l2 30": ((LAST4,), 3, replace(LOGISTIC, l2=30.0)),
}


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Log odds of the positive class, label 1. They differ where probabilities round to 1."""
    return np.log(probabilities[:, 1] + 1e-12) - np.log(probabilities[:, 0] + 1e-12)


def parts(pool: Pool, draws: int, seed: int):
    """For every draw and source: indices of training and of COVID-19 tests, source left out."""
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        covid = draw_patients(pool, "covid", 100, rng)
        tests = np.setdiff1d(pool.of("covid"), covid)
        tests = tests[~np.isin(pool.groups[tests], pool.groups[covid])]
        banned = pool.groups[tests]
        for left_out in SOURCES:
            negatives = [
                draw_patients(pool, kind, 50 // len(kinds), rng, banned)
                for source, kinds in SOURCES.items()
                if source != left_out
                for kind in kinds
            ]
            yield np.concatenate([covid, *negatives]), tests, left_out


def leave_a_source_out(
    pool: Pool, views: np.ndarray, options: HeadOptions, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """For each kind of test image (draws, 3): AUC, false-positive rate, and sensitivity."""
    labels = (pool.kind == "covid").astype(int)
    jobs, meta = [], []
    for train, tests, left_out in parts(pool, draws, seed):
        split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=len(jobs))
        folds = list(split.split(train, labels[train], pool.groups[train]))
        meta.append((len(jobs), train, tests, left_out, [test for _, test in folds]))
        jobs += [train[inner] for inner, _ in folds] + [train]
    data = LabelledFeatures.of(views, labels)
    heads = fit_heads(data, jobs, options, np.random.default_rng(seed))
    found: dict[str, list] = {kind: [] for kind in TESTS}
    for first, train, tests, left_out, folds in meta:
        inner = np.empty(len(train))
        for k, fold in enumerate(folds):
            inner[fold] = log_odds(heads.predict(views[train[fold], 0], first + k))
        threshold = np.quantile(inner[labels[train] == 1], 0.1)
        sick = log_odds(heads.predict(views[tests, 0], first + FOLDS))
        for kind in SOURCES[left_out]:
            healthy = pool.of(kind)
            healthy = healthy[~np.isin(pool.groups[healthy], pool.groups[train])]
            scores = log_odds(heads.predict(views[healthy, 0], first + FOLDS))
            truth = np.repeat([1, 0], [len(sick), len(scores)])
            area = roc_auc_score(truth, np.r_[sick, scores])
            kept = (sick >= threshold).mean()
            found[kind].append((area, (scores >= threshold).mean(), kept))
    return {kind: np.array(values) for kind, values in found.items()}


def leave_a_place_out(pool: Pool, views: np.ndarray, options: HeadOptions, seed: int) -> float:
    """AUC of COVID-19 against controls; no head has seen the place of an image that it scores."""
    labels = (pool.kind == "covid").astype(int)
    cohen = pool.of("covid", "control")
    places = np.unique(pool.places[cohen])
    jobs = []
    for place in places:
        away = pool.groups[cohen[pool.places[cohen] == place]]
        here = (pool.places[cohen] == place) | np.isin(pool.groups[cohen], away)
        jobs.append(cohen[~here])
    data = LabelledFeatures.of(views, labels)
    heads = fit_heads(data, jobs, options, np.random.default_rng(seed))
    scores = np.empty(len(cohen))
    for fit, place in enumerate(places):
        here = pool.places[cohen] == place
        scores[here] = log_odds(heads.predict(views[cohen[here], 0], fit))
    return float(roc_auc_score(labels[cohen], scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sources(parser)
    args = parser.parse_args()
    pool = read_pool(args)
    clean = features(args, pool, "clean")
    print("| recipe | AUC, mean of 4 | false positives, mean of 4 | sensitivity kept "
          "| controls | Kaggle normal | Kaggle pneumonia | NIH | a place left out |")  # fmt: skip
    print("|" + " --- |" * 9)

    def show(name, views, options):
        found = leave_a_source_out(pool, views, options, args.draws, args.seed)
        place = leave_a_place_out(pool, views, options, args.seed)
        stacked = np.stack([found[kind] for kind in TESTS])
        cells = [spread(stacked[:, :, k].mean(axis=0)) for k in range(3)]
        cells += [f"{v[:, 0].mean():.2f}; {v[:, 1].mean():.2f}" for v in found.values()]
        print("| " + " | ".join([name, *cells, f"{place:.2f}"]) + " |", flush=True)

    for name, (layers, how, options) in RECIPES.items():
        show(name, np.hstack([clean[layer, how] for layer in layers])[:, None], options)
    both = np.stack([clean[LAST4, 3], features(args, pool, "turned", turned)[LAST4, 3]], axis=1)
    show("portable, a rotated view beside each image", both, LOGISTIC)


if __name__ == "__main__":
    main()

"""Measure what models do at other hospitals, by their training set: the tutorial's and better ones.

    PYTHONPATH=. python benchmarks/training_sets.py --covid covid-chestxray-dataset \\
        --kaggle chest_xray --nih nih-normal --tutorial tutorial-normal --metadata 2020-03-11.csv

The models are those of train_covid19.py. Each training set is drawn `--draws` times (the tutorial's
own is always the same) and cross-validated by patient. A model trained on all of it then predicts
images that are not in training, with a threshold of 0.5. "A place left out": each of Cohen's X-rays
is scored by a model that has seen none of its place. Brackets show the middle 95 % of draws.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from pool import Pool, add_sources, draw_patients, features, poolings, read_pool, spread

from covidxray.audit.baselines import fit_baselines
from covidxray.audit.feature_tables import feature_tables
from covidxray.data import cohen
from covidxray.evaluation import splits
from covidxray.evaluation.intervals import auc
from covidxray.model.heads import fit_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import RECIPES

REPEATS = 2
TESTS = ("nih", "normal", "pneumonia", "control")


def training_set(name: str, pool: Pool, tutorial: set[str], rng: np.random.Generator) -> np.ndarray:
    """Draw a training set and return the indices of its images."""

    def negatives(*wanted: tuple[str, int]) -> list[np.ndarray]:
        return [draw_patients(pool, kind, n, rng) for kind, n in wanted]

    if name.startswith("a"):
        covid = [i for i in pool.of("covid") if pool.paths[i].name in tutorial]
        return np.concatenate([covid, pool.of("tutorial")]).astype(int)
    if name.startswith("b"):
        return np.concatenate([draw_patients(pool, "covid", 25, rng), *negatives(("normal", 25))])
    if name.startswith(("c", "d")):
        n = 25 if name[0] == "c" else 60
        return np.concatenate([draw_patients(pool, "covid", n, rng), *negatives(("control", n))])
    mixed = negatives(("control", 50), ("normal", 25), ("pneumonia", 25))
    return np.concatenate([draw_patients(pool, "covid", 100, rng), *mixed])


NAMES = (
    "a: the tutorial's, 24 of its 25 + 25",
    "b: 25 covid + 25 Kaggle normals",
    "c: 25 covid + 25 controls",
    "d: 60 covid + 60 controls",
    "e: 100 covid + 50 controls + 25 Kaggle normals + 25 Kaggle pneumonia",
)


def without_places(pool: Pool, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Place of Cohen's images in a training set -> the set without the place and its patients.

    Places without which one class would be missing are left out.
    """
    parts = {}
    cohen_s = np.isin(pool.kind, ("covid", "control"))
    for place in np.unique(pool.places[chosen[cohen_s[chosen]]]):
        gone = pool.groups[(pool.places == place) & cohen_s]
        left = chosen[~np.isin(pool.groups[chosen], gone)]
        if len(np.unique(pool.kind[left] == "covid")) == 2:
            parts[place] = left
    return parts


def score(pool: Pool, sets: list[np.ndarray], views: np.ndarray, recipe: str, seed: int):
    """Score the models of one training set.

    Returns:
        Cross-validated AUC (draws,), AUC with a place left out (draws,), and for each kind of test
        image the fraction classified as covid (draws,).
    """
    labels = (pool.kind == "covid").astype(int)
    jobs, meta = [], []
    for k, chosen in enumerate(sets):
        rng = np.random.default_rng((seed, k))
        parts = list(splits.repeated_folds(labels[chosen], pool.groups[chosen], 5, REPEATS, rng))
        places = without_places(pool, chosen)
        meta.append((len(jobs), parts, places))
        jobs += [chosen[train] for _, train, _ in parts] + [chosen, *places.values()]
    options = RECIPES[recipe].head
    data = LabelledFeatures.of(views, labels)
    heads = fit_heads(data, jobs, options, np.random.default_rng(seed))
    cohen_s = pool.of("covid", "control")
    inside, elsewhere, called = [], [], {kind: [] for kind in TESTS}
    for chosen, (first, parts, places) in zip(sets, meta, strict=True):
        scores = np.empty((REPEATS, len(chosen)))
        for k, (repeat, _, test) in enumerate(parts):
            scores[repeat, test] = heads.predict(views[chosen[test], 0], first + k)[:, 1]
        inside.append(auc(labels[chosen] == 1, scores, pool.groups[chosen]).value)
        last = first + len(parts)
        away = heads.predict(views[cohen_s, 0], last)[:, 1]
        known = np.isin(pool.groups[cohen_s], pool.groups[chosen])
        for k, place in enumerate(places, 1):
            here = pool.places[cohen_s] == place
            away[here] = heads.predict(views[cohen_s[here], 0], last + k)[:, 1]
            known[here] = False
        away, tested = away[~known], cohen_s[~known]
        elsewhere.append(auc(labels[tested] == 1, away, pool.groups[tested]).value)
        for kind in TESTS:
            unseen = pool.of(kind)
            unseen = unseen[~np.isin(pool.groups[unseen], pool.groups[chosen])]
            hit = heads.predict(views[unseen, 0], last)[:, 1] >= 0.5 if len(unseen) else [np.nan]
            called[kind].append(np.mean(hit))
    return np.array(inside), np.array(elsewhere), {k: np.array(v) for k, v in called.items()}


def best_shortcut(
    pool: Pool, image_statistics, sets: list[np.ndarray], seed: int
) -> tuple[np.ndarray, str]:
    """The best AUC of a baseline except the manifest (draws,), and the most frequent baseline."""
    areas, names = [], []
    for k, chosen in enumerate(sets):
        table = feature_tables(
            [image_statistics[i] for i in chosen], [pool.rows[i] for i in chosen]
        )
        table.pop("manifest", None)
        truth, groups = pool.kind[chosen] == "covid", pool.groups[chosen]
        fitted = fit_baselines(table, truth, groups, np.random.default_rng((seed, k)), 1)
        best = max(fitted, key=lambda baseline: baseline.auc.value)
        areas.append(best.auc.value)
        names.append(best.name)
    return np.array(areas), max(set(names), key=names.count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sources(parser)
    parser.add_argument("--metadata", required=True, type=Path, help="table of 11 March 2020")
    args = parser.parse_args()
    records = cohen.select(cohen.read_metadata(args.metadata), "COVID-19", ["PA"])
    tutorial = {record.filename for record in records}
    pool = read_pool(args)
    # Later tables call four of the tutorial's images AP, and lack a fifth one, which is left out.
    named = np.array([path.name in tutorial for path in pool.paths])
    as_then = replace(pool, kind=np.where(named, "covid", pool.kind))
    image_statistics = pool.image_statistics()
    clean, pooled = features(args, pool, "clean"), poolings(args, pool)
    columns = {f"portable, {name}": ("portable", pooled[name]) for name in pooled}
    columns["tutorial, whole"] = ("tutorial", clean["block5_pool", 1])
    print("| training set | best shortcut AUC | recipe, pooled over | cv AUC "
          "| AUC, a place left out "
          "| classified as covid: NIH normals | Kaggle normal | Kaggle pneumonia "
          "| specificity on controls |")  # fmt: skip
    print("|" + " --- |" * 9)
    for name in NAMES:
        seen = as_then if name.startswith("a") else pool
        sets = [
            training_set(name, seen, tutorial, np.random.default_rng((args.seed, draw)))
            for draw in range(args.draws)
        ]
        areas, which = best_shortcut(seen, image_statistics, sets, args.seed)
        shortcut = f"{spread(areas)} {which}"
        for column, (recipe, views) in columns.items():
            inside, elsewhere, called = score(seen, sets, views[:, None], recipe, args.seed)
            rates = [called[kind] for kind in TESTS[:3]] + [1 - called["control"]]
            cells = [shortcut, column, *map(spread, (inside, elsewhere, *rates))]
            print("| " + " | ".join([name, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()

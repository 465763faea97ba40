"""Measure what a model learns from each choice of normal images.

    PYTHONPATH=. python benchmarks/normals.py --covid covid-chestxray-dataset --kaggle chest_xray \\
        --nih nih-normal [--references 3] [--cache DIR]

The COVID-19 images are Cohen's PA images in each row; what they are compared with changes. Within
the set: the cross-validated AUC, the AUC within strata of site and view, the transplant test, and a
classifier of AP against PA that was trained on COVID-19 images (also AP ones) of other patients.
Elsewhere: Hannover left out of training, and normals of NIH and of Kaggle against the COVID-19
images that the folds left out. These are not matched: they differ from COVID-19 in source.
"""

import argparse
import csv
import dataclasses
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

import build_covid_dataset
import sample_kaggle_dataset
from covidxray.data.class_folder import fill_folder
from covidxray.data.dataset import Dataset
from covidxray.data.folders import list_images
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals, splits
from covidxray.evaluation.strata import Strata, score_strata
from covidxray.model import acquisition, heads
from covidxray.model.feature_table import Features
from covidxray.model.network import build_network
from covidxray.model.recipes import RECIPES
from covidxray.model.weights import load_weights
from covidxray.options import training as training_options
from covidxray.pipeline import training, transplants
from covidxray.pipeline.cross_validation import run_cross_validation
from covidxray.pipeline.engines import LocalEngine

SETS = {
    "Cohen's 13 normals": ("cohen",),
    "Kaggle's normals": ("kaggle",),
    "NIH's normals": ("nih",),
    "other findings": ("controls",),
    "Cohen's normals, other findings": ("cohen", "controls"),
    "Cohen's, Kaggle's and NIH's normals": ("cohen", "kaggle", "nih"),
    "all four": ("cohen", "controls", "kaggle", "nih"),
}
REGIONS = ("whole", "lungs", "outside")
HANNOVER = "Hannover"


def run_script(module, *arguments) -> None:
    """Run a builder in this process, without its output."""
    import sys

    before, sys.argv = sys.argv, [module.__name__, *map(str, arguments)]
    try:
        with redirect_stdout(StringIO()):
            module.main()
    finally:
        sys.argv = before


def fill(root: Path, covid: Path, kaggle: Path, nih: Path) -> None:
    """Class folders covid, bedside (COVID-19, AP), cohen, controls, kaggle and nih."""
    others = ("--normals", root / "cohen", "--controls", root / ".mixed")
    run_script(build_covid_dataset, "--covid", covid, "--output", root / "covid", *others)
    views = ("--view", "AP", "AP Supine")
    run_script(build_covid_dataset, "--covid", covid, "--output", root / "bedside", *views)
    run_script(sample_kaggle_dataset, "--kaggle", kaggle, "--output", root / "kaggle", "-s", 109)
    rows = [
        (ManifestRow(p.name, "nih", p.name, p.name.split("_")[0], finding="No Finding"), p)
        for p in list_images(nih)
    ]
    fill_folder(root / "nih", rows)
    # The controls are the images with other findings, without the normals. A hidden folder is no
    # class.
    with open(root / ".mixed/manifest.csv", newline="", encoding="utf-8") as file:
        listed = [ManifestRow(**row) for row in csv.DictReader(file)]
    ill = [
        dataclasses.replace(row, mask_sha256="") for row in listed if row.finding != "No Finding"
    ]
    fill_folder(root / "controls", [(row, root / ".mixed" / row.filename) for row in ill])


class Pool:
    """All images with their features; `kind` (N,) is the folder of each."""

    def __init__(self, data: Dataset, features: Features):
        self.data, _ = data.merge(features.hashes)
        self.features = features
        self.kind = np.array(data.classes)[data.labels]

    def subset(self, kinds: tuple[str, ...], keep: np.ndarray | None = None):
        """COVID-19 against these kinds: the data set, its features, and its images in the pool."""
        chosen = np.isin(self.kind, ("covid", *kinds))
        images = np.flatnonzero(chosen if keep is None else chosen & keep)
        part = self.data.select(images)
        labels = (self.kind[images] != "covid").astype(np.int64)
        return (
            dataclasses.replace(part, classes=("covid", "normal"), labels=labels),
            self.features.select(images),
            images,
        )

    def fit(self, kinds: tuple[str, ...], keep: np.ndarray, options) -> dict[str, heads.Heads]:
        """A head for each region, trained on COVID-19 against these kinds among images to keep."""
        data, features, _ = self.subset(kinds, keep)
        regions = features.labelled(data.labels)
        every = [np.arange(len(data))]
        rng = np.random.default_rng(0)
        return {name: heads.fit_heads(regions[name], every, options, rng) for name in REGIONS}

    def score(self, fitted: dict[str, heads.Heads], region: str, images: np.ndarray) -> np.ndarray:
        return fitted[region].predict(self.features.regions[region][images], 0)[:, 0]


def within(pool: Pool, kinds, config, network) -> list[str]:
    """Cells about the set itself: AUCs, within strata, and with exchanged lungs, by region."""
    data, features, _ = pool.subset(kinds)
    rng = np.random.default_rng(0)
    found = run_cross_validation(config, data, features, rng)
    strata = Strata.of(data.rows, ("site", "view"))
    scored = score_strata(found.is_positive, found.region_scores, data.groups, strata, rng)
    exchanged = transplants.exchange_lungs(config, network, data, features, found, rng)
    cells = []
    for region in REGIONS:
        area = intervals.auc(found.is_positive, found.region_scores[region], data.groups, True)
        stratified = scored.areas[region].short if scored.areas else "not defined"
        test = exchanged.regions[region]
        parts = (area, stratified, test.untouched, test.own_lungs, test.fixed_lungs)
        cells.append(" | ".join(getattr(part, "short", part) for part in parts))
    cells.append(f"{scored.pairs} pairs, {exchanged.regions['whole'].negatives} scored normals")
    return cells


def view_classifier(pool: Pool, kinds) -> str:
    """AUC of AP against PA, cross-fitted by patient among COVID-19 images, on the set."""
    ill = np.flatnonzero(np.isin(pool.kind, ("covid", "bedside")))
    normal = np.flatnonzero(np.isin(pool.kind, kinds))
    views = [pool.data.rows[i].view for i in ill]
    whole, groups = pool.features.regions["whole"], pool.data.groups
    bedside = (pool.kind[ill] == "bedside").astype(np.int64)
    l2 = RECIPES["portable"].head.l2
    own, foreign = np.zeros(len(ill)), np.zeros(len(normal))
    folds = list(splits.repeated_folds(bedside, groups[ill], 5, 1, np.random.default_rng(0)))
    for _, train, test in folds:
        chosen = [views[i] for i in train]
        fitted = acquisition.fit_view_classifier(
            whole[ill[train]], chosen, np.zeros(len(train), np.int64), l2
        )
        own[test] = fitted[0].predict(whole[ill[test]], 0)[:, 1]
        foreign += fitted[0].predict(whole[normal], 0)[:, 1] / len(folds)
    upright = pool.kind[ill] == "covid"
    truth = np.repeat([True, False], [upright.sum(), len(normal)])
    scores = np.concatenate([own[upright], foreign])
    images = np.concatenate([ill[upright], normal])
    return intervals.auc(truth, scores, groups[images]).short


def hannover(pool: Pool, kinds, options) -> list[str]:
    """AUC by region at Hannover, whose images and patients train nothing."""
    there = np.array([HANNOVER in row.site for row in pool.data.rows])
    there &= np.isin(pool.kind, ("covid", "cohen"))
    groups = pool.data.groups
    fitted = pool.fit(kinds, ~np.isin(groups, groups[there]), options)
    images = np.flatnonzero(there)
    truth = pool.kind[images] == "covid"
    return [
        intervals.auc(truth, pool.score(fitted, region, images), groups[images]).short
        for region in REGIONS
    ]


def against(pool: Pool, kinds, target: str, options) -> list[str]:
    """AUC by region of left-out COVID-19 images against all images of the kind `target`."""
    data, _, images = pool.subset(kinds)
    groups, goal = pool.data.groups, np.flatnonzero(pool.kind == target)
    rng = np.random.default_rng(0)
    folds = list(splits.repeated_folds(data.labels, data.groups, 5, 1, rng))
    scores = {region: np.full((len(folds), len(pool.kind)), np.nan) for region in REGIONS}
    for f, (_, train, test) in enumerate(folds):
        keep = np.isin(np.arange(len(pool.kind)), images[train])
        fitted = pool.fit(kinds, keep, options)
        unseen = goal[~np.isin(goal, images[train])]
        ours = images[test][pool.kind[images[test]] == "covid"]
        for region in REGIONS:
            for part in (unseen, ours):
                scores[region][f, part] = pool.score(fitted, region, part)
    ill = np.flatnonzero(pool.kind == "covid")
    both = np.concatenate([ill, goal])
    truth = pool.kind[both] == "covid"
    return [
        intervals.auc(truth, np.nanmean(scores[region][:, both], axis=0), groups[both]).short
        for region in REGIONS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("covid", "kaggle", "nih"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--references", default=3, type=int)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root, args.covid, args.kaggle, args.nih)
        options = ["-d", folder, "--transplant", str(args.references), "--repeats", "20"]
        config = training_options.read_config(
            training_options.make_parser("").parse_args([*options, "--plot", f"{folder}/p.png"])
        )
        config = dataclasses.replace(config, cache=args.cache)
        kinds = ("covid", "bedside", "cohen", "controls", "kaggle", "nih")
        data = load_dataset(root, b"salt", classes=kinds)
        network = build_network("portable", load_weights(), "auto")
        rng = np.random.default_rng(0)
        features = training.extract_features(config, network, data, LocalEngine().extract, rng)
        report(Pool(data, features), config, network)


def report(pool: Pool, config, network) -> None:
    """Print the two tables."""
    head = training.head_options(config)
    columns = "cv AUC | within strata | untouched | own lungs, fixed chest | fixed lungs, own chest"
    print(f"| COVID-19 against | region | {columns} |\n|{' --- |' * 7}")
    notes, elsewhere = [], []
    for name, kinds in SETS.items():
        *cells, note = within(pool, kinds, config, network)
        for region, cell in zip(REGIONS, cells, strict=True):
            print(f"| {name} | {region} | {cell} |", flush=True)
        notes.append(f"{name}: {note}; view classifier {view_classifier(pool, kinds)}")
        tests = [hannover(pool, kinds, head)]
        tests += [against(pool, kinds, target, head) for target in ("nih", "kaggle")]
        for region, *areas in zip(REGIONS, *tests, strict=True):
            elsewhere.append(f"| {name} | {region} | {' | '.join(areas)} |")
    print("\n" + "\n".join(notes))
    print(f"\n| COVID-19 against | region | Hannover left out | NIH | Kaggle |\n|{' --- |' * 5}")
    print("\n".join(elsewhere))


if __name__ == "__main__":
    main()

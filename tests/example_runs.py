"""Values of a training run and of an evaluation with invented scores, made without Keras."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from covidxray.audit.audit import run_audit
from covidxray.audit.baselines import Baseline
from covidxray.data.class_folder import fill_folder
from covidxray.data.images import read_image, read_with_statistics
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.demo.phantom import draw_phantom, encode_jpeg
from covidxray.evaluation import intervals, metrics
from covidxray.evaluation.calibration import calibrate
from covidxray.evaluation.external_scores import BaselineScore, ExternalScores
from covidxray.evaluation.metrics import Subgroup
from covidxray.evaluation.recalibration import class_weights
from covidxray.evaluation.regions import compare_regions
from covidxray.evaluation.strata import Strata, score_strata
from covidxray.evaluation.transplants import score_transplants
from covidxray.pipeline.external_run import (
    Evidence,
    ExternalConfig,
    ExternalRun,
)
from covidxray.pipeline.runs import (
    Case,
    CrossValidationResult,
    Gallery,
    HoldoutResult,
    SiteScore,
    TrainConfig,
    TrainingRun,
    TransplantPicture,
    TransplantRun,
)

CLASSES = ("covid", "normal")
TEST = np.array([0, 1, 2, 3, 8, 9, 10, 11])
REMOVED = [("a.jpg", "damaged"), ("b.jpg", "missing"), ("c.jpg", "missing")]
METADATA = SimpleNamespace(  # as far as JSON and report read it
    classes=CLASSES,
    positive="covid",
    threshold=0.25,
    synthetic=True,
    recipe="portable",
    region="lungs",
    trained_on=["00", "01"],
    card={"data set": "drawings", "weights": "ImageNet, torchvision"},
)
CONFIG = TrainConfig(
    dataset=Path("drawings"),
    add=(("normal", Path("more")),),
    plot=Path("plot.png"),
    model=Path("covid19.keras"),
    metrics=Path("metrics.json"),
    report=None,
    positive="covid",
    weights="torchvision",
    recipe="portable",
    region="lungs",
    augment=0,
    rotation=15,
    epochs=25,
    batch_size=8,
    lr=None,
    units=None,
    dropout=None,
    test_size=0.5,
    folds=5,
    repeats=20,
    threshold=None,
    sensitivity=None,
    prevalence=None,
    stratify=("site", "view"),
    transplant=1,
    transplant_pictures=None,
    plots=None,
    fit_all=False,
    precision="auto",
    cache=None,
    seed=42,
    engine="local",
    ray_address=None,
    features=None,
)


def example_data(root):
    """16 drawings of 8 patients in two class folders; one in three is of no known age, and some
    were left out when the folders were filled."""
    for name in CLASSES:
        rng = np.random.default_rng(len(name))
        drawn = []
        for i in range(8):
            picture = draw_phantom(rng, severity=0.7 * (name == "covid"), size=64)
            file, age = f"drawn-{name}-{i:02d}-with-a-rather-long-name.jpg", str(20 + 7 * i)
            row = ManifestRow(file, "covidxray-phantom", file, f"{name}-{i // 2}", "PA")
            row = dataclasses.replace(row, age=age if i % 3 else "", sex="FM"[i % 2])
            row = dataclasses.replace(row, license="MIT", synthetic="yes")
            drawn.append((row, encode_jpeg(picture.image)))
        fill_folder(root / name, drawn, REMOVED)
    return load_dataset(root, b"salt")


def example_scores(data):
    """(20, 16) float64 probabilities of covid; those of the third image are far too low."""
    rng = np.random.default_rng(0)
    logits = 2 * (data.labels == 0) - 1 + 2 * rng.normal(size=(1, 16)) + rng.normal(size=(20, 16))
    logits[:, 2] -= 4
    return 1 / (1 + np.exp(-logits))


def example_gallery(data):
    """The images of `TEST`, one of them without heat."""
    cases = [
        Case(
            name=data.names([i])[0],
            image=read_image(data.paths[i]),
            heat=np.outer(*np.sin(np.linspace((0, 0.3), (3, 3), 224)).T) ** 4,
            truth=CLASSES[data.labels[i]],
            predicted=CLASSES[int(example_scores(data)[0, i] < 0.5)],
            probability=float(example_scores(data)[0, i]),
            lungs=np.hypot(*np.ogrid[-112:112, -112:112]) < 60,
            heat_in_lungs=float("nan") if i == 3 else 0.41,
        )
        for i in TEST
    ]
    return Gallery(tuple(cases), heat_in_centre=0.62, heat_in_lungs=0.41, lung_area=0.23)


def example_audit(data):
    """An audit of the drawings with invented baselines, one much better than the other."""
    statistics = [read_with_statistics(path)[1] for path in data.paths]
    audit = run_audit(data, statistics, 0, np.random.default_rng(0))
    is_positive = data.labels == 0
    aucs = (intervals.auc(is_positive, scores, data.groups) for scores in example_scores(data)[:2])
    baselines = map(Baseline, ("frame", "file"), aucs, (0.0002, 0.32), (0.8, 0.8), (None, None))
    return dataclasses.replace(audit, baselines=tuple(baselines))


def example_regions(data):
    """(20, 16) probabilities from each region, and how their AUCs compare."""
    rng, is_positive = np.random.default_rng(1), data.labels == 0
    scores = {
        name: example_scores(data) + shift
        for name, shift in zip(("whole", "lungs", "outside"), rng.normal(size=(3, 16)), strict=True)
    }
    found = np.arange(16) > 0
    return scores, compare_regions(is_positive, scores, data.groups, found)


def example_strata(data, scores):
    """The scores within two strata, one of which has three quarters of the pairs or more."""
    sites = ["North, PA" if i % 8 < 6 else "South, PA" for i in range(16)]
    rows = [dataclasses.replace(row, site=s) for row, s in zip(data.rows, sites, strict=True)]
    strata = Strata.of(rows, ("site", "view"))
    rng = np.random.default_rng(0)
    return score_strata(data.labels == 0, scores, data.groups, strata, rng)


def example_transplants(data, scores):
    """With the same lungs in every image the scores become noise, and little else changes them."""
    noise = np.random.default_rng(2).normal(size=(2, 20, 16))
    kinds = {"fixed_lungs": noise, "own_lungs": scores + noise / 50, "put_back": scores[None]}
    kinds["untouched"] = scores
    found = score_transplants(data.labels == 0, kinds, data.groups, 3, True)
    images = [read_image(path) for path in data.paths[:3]]
    picture = TransplantPicture("covid/a & b.jpg", "covid", *images)
    return TransplantRun({"lungs": found, "whole": found}, (picture,))


def training_run(data):
    """A run with 20 x 5-fold cross-validation, and half of the images held out."""
    covid = example_scores(data)
    region_scores, regions = example_regions(data)
    region_scores["lungs"] = covid
    both = np.stack([covid, 1 - covid], axis=2)
    fold = np.tile(np.arange(16) % 5, (20, 1))
    labelled = metrics.LabelledProbabilities(data.labels, both, data.groups, 0, 0.25, CLASSES)
    test_labels, test_groups = data.labels[TEST], data.groups[TEST]
    predicted = both[0, TEST].argmax(axis=1)
    history = {
        key: list(np.geomspace(first, last, 25))
        for key, first, last in (
            *(("loss", 0.7, 0.05), ("val_loss", 0.8, 0.3)),
            *(("accuracy", 0.5, 1.0), ("val_accuracy", 0.5, 0.88)),
        )
    }
    return TrainingRun(
        config=CONFIG,
        data=data,
        copies=3,
        positive=0,
        holdout=HoldoutResult(
            train=np.setdiff1d(np.arange(16), TEST),
            test=TEST,
            heads=None,
            history=history,
            probabilities=both[0, TEST],
            scores=metrics.evaluate(test_labels, predicted, CLASSES, 0, test_groups),
        ),
        cross_validation=CrossValidationResult(
            folds=5,
            repeats=20,
            labels=data.labels,
            is_positive=data.labels == 0,
            region_scores=region_scores,
            heads={},
            fold=fold,
            probabilities=covid,
            threshold=0.25,
            scores=metrics.score_repeats(labelled, both, fold),
            regions=regions,
        ),
        audit=example_audit(data),
        versus_shortcut=intervals.Estimate(-0.04, -0.1, -0.01),
        strata=example_strata(data, region_scores),
        transplants=example_transplants(data, covid),
        sites=(SiteScore("North", 6, 6, intervals.Estimate(0.7, 0.5, 0.9)),),
        lung_dice=intervals.Quartiles(0.9, 0.85, 0.95, 16),
        weights=("torchvision", "ec7d"),
        precision="bfloat16",
    )


def external_run(data):
    """A saved model on the same drawings, one of which trained it."""
    covid, is_positive = example_scores(data)[0], data.labels == 0
    region_scores, _ = example_regions(data)
    region_scores = {name: scores[0] for name, scores in region_scores.items()}
    area = intervals.auc(is_positive, covid, data.groups)
    predicted = (covid < 0.5).astype(int)
    share = intervals.share(predicted[is_positive] == 0, data.groups[is_positive])
    trained = np.arange(16) == 5
    return ExternalRun(
        config=ExternalConfig(model=Path("models/covid19.keras"), dataset=()),
        model=Path("models/covid19.keras"),
        metadata=METADATA,
        data=data,
        copies=0,
        positive=0,
        probabilities=np.column_stack([covid, 1 - covid]),
        pairs_of_lungs=15,
        warnings=2,
        gallery=example_gallery(data),
        trained_images=trained,
        trained_patients=np.arange(16) // 2 == 2,
        scores=ExternalScores(
            evaluation=metrics.evaluate(data.labels, predicted, CLASSES, 0, data.groups),
            auc=area,
            false_positive_rate=intervals.share(predicted[~is_positive] == 0, data.groups[8:]),
            calibration=calibrate(
                is_positive,
                covid,
                class_weights(data.labels),
                data.groups,
                np.random.default_rng(0),
            ),
            fixed={"sensitivity at specificity 0.90": share},
            subgroups=[
                Subgroup("sex", "F", 8, 4, share, None, area),
                Subgroup("age", "60-79", 0, 0, None, None, None),
            ],
        ),
        evidence=Evidence(
            region_scores=region_scores,
            regions=compare_regions(is_positive, region_scores, data.groups, np.arange(16) > 0),
            strata=example_strata(data, region_scores),
            acquisition={
                "view": BaselineScore(area, intervals.Estimate(0.0, -0.2, 0.2)),
                "frame": BaselineScore(area, intervals.Estimate(0.2, 0.1, 0.3)),
            },
            transplants=example_transplants(data, example_scores(data)),
            audit=example_audit(data),
        ),
        reference=None,
    )

"""The fits of a training run, and how what they found goes into its outputs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from covidxray import masks, metrics, modelfile, report, splits, summary
from covidxray.audit import Audit
from covidxray.backbone import RECIPES
from covidxray.classifier import Classifier
from covidxray.dataset import Dataset
from covidxray.engine import Local
from covidxray.errors import InputError
from covidxray.familiarity import fit_familiarity
from covidxray.features import Features
from covidxray.head import (
    HeadOptions,
    Heads,
    build_model,
    cross_validate,
    fit_heads,
    fit_pools,
)
from covidxray.lungs import Segmenter, attach, pool_three
from covidxray.plots import Scored
from covidxray.where import NAMES, Where, compare_pools, format_where


@dataclass(frozen=True)
class Once:
    """The tutorial's fit: indices of its two parts, the head trained on the one, and what it says
    of the other, probabilities (len(test), C) and their scores."""

    train: np.ndarray
    test: np.ndarray
    heads: Heads
    probabilities: np.ndarray
    scores: metrics.Evaluation
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Repeated:
    """R times cross-validated: probabilities of the positive class (R, N) from each pooling, the
    scores of the one in use, and how the three compare."""

    method: str
    is_positive: np.ndarray
    pools: dict[str, np.ndarray]
    probabilities: np.ndarray
    scores: metrics.CrossValidation
    where: Where

    def threshold_for(self, sensitivity: float) -> tuple[float, float]:
        """See `metrics.threshold_for`."""
        return metrics.threshold_for(self.probabilities, self.is_positive, sensitivity)


@dataclass(frozen=True)
class Run:
    """What one run found; `copies` is how many images have a copy under another patient, and
    `sentence` puts the model's score beside the shortcut's; `dice` is of the lungs found and the
    masks that came with the images, if some did."""

    data: Dataset
    copies: int
    positive: int
    once: Once
    repeated: Repeated | None
    threshold: float
    shortcuts: Audit
    sentence: str
    dice: metrics.Spread | None


def fit_once(
    data: Dataset,
    views: np.ndarray,
    positive: int,
    options: HeadOptions,
    test_size: float,
    rng: np.random.Generator,
) -> Once:
    """Hold out a share of each class, by patient; train a head on the rest.

    Args:
        data: N images.
        views: (N, 1 + V, D) their features, see `features.extract`.
        positive: label of the positive class.
    """
    split_rng, head_rng = rng.spawn(2)
    train, test = splits.holdout(data.labels, data.groups, test_size, split_rng)
    heads = fit_heads(views, data.labels, [train], options, head_rng, validation=test)
    probabilities = heads.predict(views[test, 0], 0)
    called = metrics.decide(probabilities, positive, 0.5)
    truth, groups = data.labels[test], data.groups[test]
    scores = metrics.evaluate(truth, called, data.classes, positive, groups)
    return Once(train, test, heads, probabilities, scores, data.classes)


def fit_repeatedly(
    data: Dataset,
    features: Features,
    pool: str,
    positive: int,
    options: HeadOptions,
    folds: int,
    repeats: int,
    rng: np.random.Generator,
) -> Repeated:
    """Cross-validate `repeats` times, by patient; `pool` is the one in use, and the other arguments
    are as for `fit_once`."""
    split_rng, head_rng = rng.spawn(2)
    parts = list(splits.repeated_folds(data.labels, data.groups, folds, repeats, split_rng))
    found, fit = cross_validate(features.views, data.labels, parts, options, head_rng)
    pools = {name: probabilities[:, :, positive] for name, probabilities in found.items()}
    is_positive = data.labels == positive
    pairs = np.array([masks.is_pair_of_lungs(masks.enlarge(z)) for z in features.lungs])
    return Repeated(
        method=f"{repeats} x {folds}-fold cross-validation by patient",
        is_positive=is_positive,
        pools=pools,
        probabilities=pools[pool],
        scores=metrics.score_repeats(data.labels, found[pool], fit, data.groups, positive),
        where=compare_pools(is_positive, pools, data.groups, pairs),
    )


def check_lungs(data: Dataset, features: Features) -> metrics.Spread | None:
    """Dice of the lungs found and the masks that came with the images; None if none came."""
    pairs = zip(features.lungs, data.masks, strict=True)
    found = [masks.dice(masks.enlarge(z), masks.read_mask(path)) for z, path in pairs if path]
    return metrics.Spread.of(found) if found else None


def format_once(once: Once) -> str:
    """The tutorial's block."""
    block = metrics.format_evaluation(once.scores, once.classes)
    return f"\nheld-out {len(once.test)} images, the tutorial's measure:\n\n{block}"


def format_repeated(repeated: Repeated) -> str:
    """The cross-validated numbers, a line each."""
    numbers = metrics.format_repeats(repeated.scores)
    where = format_where(repeated.where, "cv ")
    return f"\n{repeated.method}, the one to quote:\n\n{numbers}\n\n{where}\n"


@dataclass(frozen=True)
class Made:
    """What a saved model is made with: names of recipe, pooling and weights, where the lungs are,
    the head's options, whether every image trains it, and the salt of the patients' digests."""

    recipe: str
    pool: str
    weights: str
    segmenter: Segmenter
    options: HeadOptions
    fit_all: bool
    salt: bytes


def save(
    run: Run,
    made: Made,
    path: Path,
    backbone: keras.Model,
    features: Features,
    head_rng: np.random.Generator,
    familiar_rng: np.random.Generator,
) -> None:
    """Train what is missing, and write the model with all that prediction needs beside it.

    Args:
        backbone: in float32.
        head_rng: of the heads on the other poolings, and with `fit_all` of all.
        familiar_rng: of what the training images have in common.
    """
    data, recipe = run.data, RECIPES[made.recipe]
    learnt = np.arange(len(data)) if made.fit_all else run.once.train
    pools = {made.pool: features.views[made.pool]} if made.fit_all else {}
    pools |= {name: views for name, views in features.views.items() if name != made.pool}
    fitted = fit_pools(pools, data.labels, [learnt], made.options, head_rng)
    rivals = {name: fitted.pick(k) for k, name in enumerate(pools)}
    heads = rivals.pop(made.pool, run.once.heads)
    pooled = backbone.output
    if made.pool != "whole":
        pooled = pool_three(backbone, recipe, attach(backbone, made.segmenter))[made.pool]
    model = build_model(backbone, pooled, heads, made.options.dropout)
    usual = fit_familiarity(features.views["whole"][learnt, 0], data.groups[learnt], familiar_rng)
    hashes = features.hashes
    card = {"data set": str(data), "weights": f"ImageNet, {made.weights}"}
    about = modelfile.About(
        classes=data.classes,
        positive=data.classes[run.positive],
        threshold=run.threshold,
        synthetic=data.synthetic,
        recipe=made.recipe,
        pool=made.pool,
        salt=made.salt.hex(),
        trained_on=[data.rows[i].sha256 for i in learnt],
        hashes=[hashes[i].tobytes().hex() for i in learnt],
        patients=sorted({data.patients[i] for i in learnt} - {""}),
        card=card | {"result": run.sentence},
    )
    modelfile.save_model(model, path, about, modelfile.Beside(usual, made.segmenter, rivals))


def results(run: Run, options: Mapping[str, Any], depends: Mapping[str, Any]) -> dict[str, Any]:
    """Everything for metrics.json; `depends` is what else the numbers depend on."""
    data, once = run.data, run.once
    return {
        "dataset": summary.describe_data(data) | {"copies_across_patients": run.copies},
        "options": dict(options),
        **depends,
        "versions": summary.versions(),
        "split": {"train": data.names(once.train), "test": data.names(once.test)},
        "threshold": run.threshold,
        "held_out": asdict(once.scores),
        "cross_validation": asdict(run.repeated.scores) if run.repeated else None,
        "shortcuts": asdict(run.shortcuts),
        "sentence": run.sentence,
        "dice": run.dice and asdict(run.dice),
    }


def write_report(path: Path, run: Run, model: Path, engine: Local) -> None:
    """Write report.html; `model` is the saved file, which explains, by `engine` (`engine.Local` or
    alike), those held-out images that it was not trained on."""
    data, once, repeated = run.data, run.once, run.repeated
    classifier = Classifier(model)
    gallery = summary.Gallery(data.classes, run.positive)
    unseen = [i for i in once.test if data.rows[i].sha256 not in classifier.about.trained_on]
    judged = engine.judge(classifier, [data.paths[i] for i in unseen])
    for i, prediction in zip(unseen, judged, strict=True):
        if isinstance(prediction, InputError):
            raise prediction
        gallery.add(data.names([i])[0], data.labels[i], prediction)
    truth = data.labels[once.test] == run.positive
    scored = [Scored("held-out images", truth, once.probabilities[:, run.positive])]
    headline = summary.shares(once.scores, "held-out ")
    if repeated:
        scored.insert(0, Scored(repeated.method, repeated.is_positive, repeated.probabilities))
        quoted = {"cross-validated AUC": repeated.scores.auc}
        headline = quoted | summary.shares(repeated.scores, "cross-validated ") | headline
    notes = {"Copies across patients": f"{run.copies} images, each kept on one side of a split"}
    if run.dice:
        notes["Lungs found, against the masks that came with the images"] = f"Dice {run.dice}"
    content = report.Content(
        title=f"Training on {data.name}",
        synthetic=data.synthetic,
        positive=data.classes[run.positive],
        classes=data.classes,
        headline=headline,
        sentence=run.sentence,
        evaluation=once.scores,
        evaluated="held-out images",
        scored=scored,
        pools=[Scored(NAMES[k], repeated.is_positive, p) for k, p in repeated.pools.items()]
        if repeated
        else [],
        history=once.heads.history,
        audit=run.shortcuts,
        cases=gallery.cases,
        heat_note=gallery.note,
        subgroups=[],
        data=data,
        exclusions=report.count_exclusions(data),
        notes=notes,
        model=summary.model_card(classifier.about),
        limits=[],
    )
    report.write_report(path, content)

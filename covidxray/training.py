"""The fits of a training run, and how what they found goes into its outputs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covidxray import metrics, modelfile, report, splits, summary
from covidxray.audit import Audit
from covidxray.classifier import Classifier
from covidxray.dataset import Dataset
from covidxray.head import HeadOptions, Heads, cross_validate, fit_heads
from covidxray.images import read_image
from covidxray.plots import Scored


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
    """R times cross-validated: probabilities of the positive class (R, N), and their scores."""

    method: str
    is_positive: np.ndarray
    probabilities: np.ndarray
    scores: metrics.CrossValidation

    def threshold_for(self, sensitivity: float) -> tuple[float, float]:
        """See `metrics.threshold_for`."""
        return metrics.threshold_for(self.probabilities, self.is_positive, sensitivity)


@dataclass(frozen=True)
class Run:
    """What one run found; `copies` is how many images have a copy under another patient, and
    `sentence` puts the model's score beside the shortcut's."""

    data: Dataset
    copies: int
    positive: int
    once: Once
    repeated: Repeated | None
    threshold: float
    shortcuts: Audit
    sentence: str


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
    views: np.ndarray,
    positive: int,
    options: HeadOptions,
    folds: int,
    repeats: int,
    rng: np.random.Generator,
) -> Repeated:
    """Cross-validate `repeats` times, by patient; arguments as for `fit_once`."""
    split_rng, head_rng = rng.spawn(2)
    parts = list(splits.repeated_folds(data.labels, data.groups, folds, repeats, split_rng))
    probabilities, fit = cross_validate(views, data.labels, parts, options, head_rng)
    return Repeated(
        method=f"{repeats} x {folds}-fold cross-validation by patient",
        is_positive=data.labels == positive,
        probabilities=probabilities[:, :, positive],
        scores=metrics.score_repeats(data.labels, probabilities, fit, data.groups, positive),
    )


def format_once(once: Once) -> str:
    """The tutorial's block."""
    block = metrics.format_evaluation(once.scores, once.classes)
    return f"\nheld-out {len(once.test)} images, the tutorial's measure:\n\n{block}"


def format_repeated(repeated: Repeated) -> str:
    """The cross-validated numbers, a line each."""
    numbers = metrics.format_repeats(repeated.scores)
    return f"\n{repeated.method}, the one to quote:\n\n{numbers}"


def about(
    run: Run, learnt: np.ndarray, hashes: np.ndarray, salt: bytes, recipe: str, weights: str
) -> modelfile.About:
    """What goes into the model file beside the model.

    Args:
        learnt: indices of the images that the saved model is trained on.
        hashes: (N, 4) uint64 perceptual hashes of all images.
    """
    data = run.data
    return modelfile.About(
        classes=data.classes,
        positive=data.classes[run.positive],
        threshold=run.threshold,
        synthetic=data.synthetic,
        recipe=recipe,
        salt=salt.hex(),
        trained_on=[data.rows[i].sha256 for i in learnt],
        hashes=[hashes[i].tobytes().hex() for i in learnt],
        patients=sorted({data.patients[i] for i in learnt} - {""}),
        card={"data set": str(data), "weights": f"ImageNet, {weights}", "result": run.sentence},
    )


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
    }


def write_report(path: Path, run: Run, model: Path) -> None:
    """Write report.html; `model` is the saved file, which explains those held-out images that it
    was not trained on."""
    data, once, repeated = run.data, run.once, run.repeated
    classifier = Classifier(model)
    gallery = summary.Gallery(data.classes, run.positive)
    unseen = [i for i in once.test if data.rows[i].sha256 not in classifier.about.trained_on]
    images = (read_image(data.paths[i]) for i in unseen)
    for i, prediction in zip(unseen, classifier.predict(images), strict=True):
        gallery.add(data.names([i])[0], data.labels[i], prediction)
    truth = data.labels[once.test] == run.positive
    scored = [Scored("held-out images", truth, once.probabilities[:, run.positive])]
    headline = summary.shares(once.scores, "held-out ")
    if repeated:
        scored.insert(0, Scored(repeated.method, repeated.is_positive, repeated.probabilities))
        quoted = {"cross-validated AUC": repeated.scores.auc}
        headline = quoted | summary.shares(repeated.scores, "cross-validated ") | headline
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
        history=once.heads.history,
        audit=run.shortcuts,
        cases=gallery.cases,
        heat_note=gallery.note,
        subgroups=[],
        data=data,
        exclusions=report.count_exclusions(data),
        notes={"Copies across patients": f"{run.copies} images, each kept on one side of a split"},
        model=summary.model_card(classifier.about),
        limits=[],
    )
    report.write_report(path, content)

"""The steps of a training run from a data set to a threshold, in the order in which they run.

The audit is `audit.run_audit`, and `pipeline.saving` writes the model.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from covidxray.data import lung_masks
from covidxray.data.dataset import Dataset
from covidxray.data.images import read_mask
from covidxray.errors import InputError
from covidxray.evaluation import metrics, splits
from covidxray.evaluation.intervals import Quartiles
from covidxray.evaluation.recalibration import fit_recalibration
from covidxray.model import heads
from covidxray.model.cache import open_cache
from covidxray.model.feature_table import Features
from covidxray.model.features import CachedFeatures, depends_on, draw_angles
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.network import Network
from covidxray.model.recipes import RECIPES, HeadOptions
from covidxray.pipeline.runs import CrossValidationResult, HoldoutResult, TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RandomStreams:
    """One random generator for each purpose: changing one option leaves the others' numbers alone.

    `final_fits` serves the heads that are trained when the model is saved, and `outliers` its
    outlier detector.
    """

    augmentation: np.random.Generator
    holdout: np.random.Generator
    validation: np.random.Generator
    final_fits: np.random.Generator
    outliers: np.random.Generator
    strata: np.random.Generator
    transplants: np.random.Generator
    audit: np.random.Generator

    @classmethod
    def from_seed(cls, seed: int) -> "RandomStreams":
        """The streams of `--seed`. That of the audit is the one that audit_dataset.py has, too."""
        streams = np.random.default_rng(seed).spawn(7)
        return cls(*streams, *[np.random.default_rng(seed)])


@dataclass(frozen=True)
class TrainingInputs:
    """What the heads are trained with.

    Attributes:
        config: with values for `repeats` and `batch_size`.
        loaded: N images; patients are those of the manifests, as the audit counts them.
        data: the same images; patients who share a picture are one.
        copies: how many images have a copy under another patient.
        features: of these images, in their order.
        salt: of the digests of patients (`data.patients.patient_digest`).
    """

    config: TrainConfig
    loaded: Dataset
    data: Dataset
    copies: int
    features: Features
    network: Network
    streams: RandomStreams
    salt: bytes


def extract_features(
    config: TrainConfig,
    network: Network,
    data: Dataset,
    extract: Callable[..., Features],
    rng: np.random.Generator,
) -> Features:
    """Features of every image and of its augmentations, from all regions; cached ones are reused.

    Images that cannot be read are missing from the result and listed in its `unread`. So are images
    without a pair of lungs, if the model uses the lungs alone. `extract` is the method of an engine
    (`engines.LocalEngine.extract`), which opens the files a second time.
    """
    angles = draw_angles(len(data), config.augment, config.rotation, rng)
    cached = None
    if cache := open_cache(config.cache, config.engine):
        depends = depends_on(network.weights, network.recipe, network.segmenter, network.precision)
        cached = CachedFeatures(cache, [row.sha256 for row in data.rows], depends)
    features = extract(network, data, angles, cached)
    return leave_out_without_lungs(data, features) if config.region == "lungs" else features


def leave_out_without_lungs(data: Dataset, features: Features) -> Features:
    """Features of the images in which a pair of lungs is found; the others become `unread`."""
    read = [i for i in range(len(data)) if i not in features.unread]
    blind = {
        i: InputError(f"{data.paths[i]}: {lung_masks.NO_LUNGS}; check it, or use --region whole")
        for i, seen in zip(read, features.lungs_found, strict=True)
        if not seen
    }
    kept = features.select(np.flatnonzero(features.lungs_found))
    return replace(kept, unread={**features.unread, **blind})


def prepare_inputs(
    config: TrainConfig,
    loaded: Dataset,
    features: Features,
    network: Network,
    streams: RandomStreams,
    salt: bytes,
) -> TrainingInputs:
    """Put together what the heads are trained with; no split may separate copies of a picture.

    Raises:
        InputError: a class has too few patients, copies taken together.
    """
    config = config.with_defaults(batch_size=heads.default_batch_size(len(loaded)))
    data, copies = loaded.merge(features.hashes)
    if copies:
        logger.info(
            "%d images are copies across patients: each is kept on one side of a split", copies
        )
    if leaks := data.find_leaks():
        message = "%d images are not trained on: their patients or copies are in test; %s for one"
        logger.info(message, len(leaks), data.names(leaks)[0])
        kept = [i for i in range(len(data)) if i not in leaks]
        loaded, data, features = loaded.without(leaks), data.without(leaks), features.select(kept)
    part = data.development
    splits.check_patients(part.labels, part.groups, part.classes, config.patients_needed)
    return TrainingInputs(config, loaded, data, copies, features, network, streams, salt)


def compare_with_lung_masks(data: Dataset, features: Features) -> Quartiles | None:
    """Dice overlap of the lungs found with masks that came with images; None without masks."""
    overlaps = [
        lung_masks.dice(lung_masks.enlarge(logits), read_mask(mask))
        for logits, mask in zip(features.lungs, data.masks, strict=True)
        if mask
    ]
    return Quartiles.of(overlaps) if overlaps else None


def head_options(config: TrainConfig) -> HeadOptions:
    """The architecture and training of the recipe's head, but for what `config` names."""
    named: dict[str, Any] = {
        "units": config.units,
        "dropout": config.dropout,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.lr,
    }
    given = {name: value for name, value in named.items() if value is not None}
    head = replace(RECIPES[config.recipe].head, **given)
    return replace(head, l2=0.0) if head.units else head


def run_holdout(
    config: TrainConfig,
    data: Dataset,
    features: Features,
    cross_validation: CrossValidationResult | None,
    rng: np.random.Generator,
) -> HoldoutResult:
    """Hold out the data set's own `test`, or else a part of each class, by patient, and train a
    head on the rest.

    Nothing of a held-out image enters the head, its standardisation or its recalibration. The
    threshold is that of the cross-validation if there is one.
    """
    split_rng, head_rng, inner_rng = rng.spawn(3)
    train, test = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
    if not len(test):
        train, test = splits.holdout(data.labels, data.groups, config.test_size, split_rng)
    own = features.labelled(data.labels)[config.region]
    options = head_options(config)
    head, history = heads.fit_with_history(own, train, test, options, head_rng)
    head = recalibrate(head, own, data.groups, train, options, inner_rng)
    probabilities = head.predict(own.values[test], 0)
    positive = data.index(config.positive)
    threshold = cross_validation.threshold if cross_validation else config.threshold
    predicted = metrics.decide(probabilities, positive, threshold)
    truth, groups = data.labels[test], data.groups[test]
    scores = metrics.evaluate(truth, predicted, data.classes, positive, groups)
    return HoldoutResult(train, test, head, history, probabilities, scores)


def recalibrate(
    head: heads.Heads,
    own: LabelledFeatures,
    groups: np.ndarray,
    images: np.ndarray,
    options: HeadOptions,
    rng: np.random.Generator,
) -> heads.Heads:
    """Recalibrate a head that was trained on some images by a cross-validation of these alone.

    It has up to three folds and is repeated in small data sets. A class of one patient cannot be
    cross-validated; the head then stays as it is.
    """
    labels, groups = own.labels[images], groups[images]
    folds = min(3, *splits.patients_by_class(labels, groups, own.classes))
    if folds < 2:
        return head
    repeats = max(1, min(5, 1_000 // len(images)))
    split_rng, head_rng = rng.spawn(2)
    parts = [
        (repeat, images[train], images[test])
        for repeat, train, test in splits.repeated_folds(labels, groups, folds, repeats, split_rng)
    ]
    scores, _, _ = heads.cross_validate({"own": own}, parts, options, head_rng)
    return head.recalibrated(fit_recalibration(labels, scores["own"][:, images]))

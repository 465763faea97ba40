"""One training run, from class folders to its results: what train_covid19.py and `train` do."""

import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from covidxray.audit.audit import run_audit
from covidxray.data.dataset import Announce
from covidxray.data.loading import load_dataset
from covidxray.evaluation import splits
from covidxray.model.weights import load_weights
from covidxray.pipeline.engines import open_engine
from covidxray.pipeline.runs import TrainConfig, TrainingRun
from covidxray.process import quiet_backend

if TYPE_CHECKING:
    from covidxray.pipeline.saving import PredictFiles
    from covidxray.pipeline.training import TrainingInputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A training run, and what is needed to save its model and to explain its held-out images."""

    run: TrainingRun
    inputs: "TrainingInputs"
    predict_files: "PredictFiles"


def train_model(config: TrainConfig, announce: Announce) -> TrainedModel:
    """Load a data set, and train, evaluate and question heads on its features.

    Raises:
        InputError: the data set cannot be used, or options do not fit it.
    """
    folders = [config.dataset, *(folder for _, folder in config.add)]
    engine = open_engine(config.engine, config.ray_address, folders, config.features)
    logger.info("loading images...")
    salt = secrets.token_bytes(16)  # of the digests of patients: not from --seed, so a secret
    data = load_dataset(config.dataset, salt, added=config.add, inspect_files=engine.inspect_files)
    data.index(config.positive)  # fails if there is no such class
    announce(data, None)
    config = config.with_defaults(repeats=splits.default_repeats(len(data)))
    part = data.development
    splits.check_patients(part.labels, part.groups, part.classes, config.patients_needed)

    logger.info("loading VGG16...")
    weights = load_weights(config.weights)
    with quiet_backend():
        from covidxray.model.network import build_network
        from covidxray.pipeline import training

        network = build_network(config.recipe, weights, config.precision)
    streams = training.RandomStreams.from_seed(config.seed)
    features = training.extract_features(
        config, network, data, engine.extract, streams.augmentation
    )
    if features.unread:
        data = data.without(features.unread)
        announce(data, features.unread)
    inputs = training.prepare_inputs(config, data, features, network, streams, salt)
    return TrainedModel(evaluate_heads(inputs), inputs, engine.predict_files)


def evaluate_heads(inputs: "TrainingInputs") -> TrainingRun:
    """Train and evaluate heads on the features, exchange lungs, and look for shortcuts."""
    from covidxray.pipeline import cross_validation as validation
    from covidxray.pipeline import strata, training, transplants

    config, data, features = inputs.config, inputs.data, inputs.features
    streams, network = inputs.streams, inputs.network
    logger.info("training heads...")
    cross_validation = validation.run_cross_validation(config, data, features, streams.validation)
    holdout = training.run_holdout(config, data, features, cross_validation, streams.holdout)

    logger.info("exchanging lungs...")
    exchanged = transplants.exchange_lungs(
        config, network, data, features, cross_validation, streams.transplants
    )
    logger.info("looking for shortcuts...")
    positive, statistics = data.index(config.positive), features.image_statistics
    audit = run_audit(inputs.loaded, statistics, positive, streams.audit)
    return TrainingRun(
        config=config,
        data=data,
        copies=inputs.copies,
        positive=positive,
        holdout=holdout,
        cross_validation=cross_validation,
        audit=audit,
        versus_shortcut=validation.compare_with_best(cross_validation, data, config.region, audit),
        strata=strata.compare_within_strata(config, data, cross_validation, audit, streams.strata),
        sites=strata.leave_sites_out(config, data, features, streams.strata),
        transplants=exchanged,
        lung_dice=training.compare_with_lung_masks(data, features),
        weights=(network.weights.name, network.weights.sha256),
        precision=network.precision,
    )

"""The steps of an external evaluation: a saved model applied to labelled images from elsewhere."""

import logging
from collections.abc import Iterable

import numpy as np

from covidxray.audit.audit import run_audit
from covidxray.data.dataset import Dataset
from covidxray.errors import InputError
from covidxray.evaluation.external_scores import score_external, subgroup_values
from covidxray.evaluation.metrics import LabelledProbabilities
from covidxray.evaluation.regions import REGION_NAMES, compare_regions
from covidxray.model.predictor import Prediction, Predictor
from covidxray.pipeline.external_run import DatasetPredictions, ExternalRun
from covidxray.pipeline.gallery import GalleryCollector

logger = logging.getLogger(__name__)


def collect_predictions(
    predictions: Iterable[Prediction | InputError], data: Dataset, positive: int
) -> tuple[DatasetPredictions, dict[int, InputError]]:
    """Predictions, with statistics, of a data set's images; pixels are kept for the gallery only.

    The second value maps the index of each image that cannot be read to its error.
    """
    collector = GalleryCollector(data.classes, positive)
    unread: dict[int, InputError] = {}
    probabilities, scores, lungs_found, statistics, warnings = [], [], [], [], 0
    for i, found in enumerate(predictions):
        if isinstance(found, InputError):
            unread[i] = found
            continue
        collector.add(data.names([i])[0], data.labels[i], found)
        probabilities.append(found.probabilities)
        scores.append(found.scores)
        lungs_found.append(found.lungs_found)
        assert found.statistics is not None
        statistics.append(found.statistics)
        warnings += bool(found.warning)
    collected = DatasetPredictions(
        probabilities=np.array(probabilities),
        region_scores={
            region: np.array([score[region] for score in scores]) for region in REGION_NAMES
        },
        lungs_found=np.array(lungs_found),
        warnings=warnings,
        image_statistics=statistics,
        gallery=collector.gallery(),
    )
    return collected, unread


def evaluate_predictions(
    predictor: Predictor, loaded: Dataset, predictions: DatasetPredictions, seed: int
) -> ExternalRun:
    """Score predictions against the labels of the data set, and audit the data set.

    Args:
        loaded: the N images that were predicted.
        seed: of the resampled intervals, and again of the audit.
    """
    metadata, positive = predictor.metadata, predictor.positive
    hashes = np.array([statistics.hash for statistics in predictions.image_statistics])
    trained_images = metadata.trained_images(loaded, hashes)
    trained_patients = metadata.trained_patients(loaded)
    data, copies = loaded.merge(hashes)
    labelled = LabelledProbabilities(
        y_true=data.labels,
        probabilities=predictions.probabilities,
        groups=data.groups,
        positive=positive,
        threshold=metadata.threshold,
        classes=data.classes,
    )
    subgroups = subgroup_values(data.rows, trained_images | trained_patients)
    regions, audit = None, None
    if labelled.has_both:
        regions = compare_regions(
            labelled.is_positive, predictions.region_scores, data.groups, predictions.lungs_found
        )
        try:
            rng = np.random.default_rng(seed)
            audit = run_audit(loaded, predictions.image_statistics, positive, rng)
        except InputError as error:
            logger.info("shortcuts are not looked for: %s", error)
    return ExternalRun(
        model=predictor.path,
        metadata=metadata,
        data=data,
        copies=copies,
        positive=positive,
        predictions=predictions,
        trained_images=trained_images,
        trained_patients=trained_patients,
        scores=score_external(labelled, subgroups, np.random.default_rng(seed)),
        regions=regions,
        audit=audit,
    )

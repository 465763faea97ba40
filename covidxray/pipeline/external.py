"""The steps of an external evaluation: a saved model applied to labelled images from elsewhere."""

import logging
from collections.abc import Iterable

import numpy as np

from covidxray.audit.audit import AuditResult, run_audit
from covidxray.audit.baselines import permutation_p_values
from covidxray.data.dataset import Dataset
from covidxray.data.image_statistics import ImageStatistics
from covidxray.errors import InputError
from covidxray.evaluation.external_scores import score_external, subgroup_values
from covidxray.evaluation.intervals import Estimate, auc_difference
from covidxray.evaluation.metrics import LabelledProbabilities
from covidxray.evaluation.regions import REGION_NAMES, compare_regions
from covidxray.evaluation.strata import Strata, score_strata
from covidxray.model.predictor import Prediction, Predictor
from covidxray.pipeline.external_run import ExternalConfig, ExternalRun
from covidxray.pipeline.gallery import GalleryCollector
from covidxray.pipeline.runs import Gallery

logger = logging.getLogger(__name__)


def collect_predictions(
    predictions: Iterable[Prediction | InputError], data: Dataset, positive: int
) -> tuple[list[Prediction], Gallery, dict[int, InputError]]:
    """Predictions of a data set's images, without their pictures, which the gallery alone keeps.

    The last value maps the index of each image that cannot be read to its error.
    """
    collector = GalleryCollector(data.classes, positive)
    found: list[Prediction] = []
    unread: dict[int, InputError] = {}
    for i, prediction in enumerate(predictions):
        if isinstance(prediction, InputError):
            unread[i] = prediction
        else:
            collector.add(data.names([i])[0], data.labels[i], prediction)
            found.append(prediction.without_pictures())
    return found, collector.gallery(), unread


def evaluate_predictions(
    predictor: Predictor,
    loaded: Dataset,
    predictions: list[Prediction],
    gallery: Gallery,
    config: ExternalConfig,
) -> ExternalRun:
    """Score predictions against the labels of the data set, and audit the data set.

    Args:
        loaded: the N images that were predicted.
        predictions: of these images, with statistics.
        config: its seed is that of the resampled intervals, and again of the audit.
    """
    metadata, positive = predictor.metadata, predictor.positive
    image_statistics = [found.statistics for found in predictions if found.statistics]
    hashes = np.array([statistics.hash for statistics in image_statistics])
    trained_images = metadata.trained_images(loaded, hashes)
    trained_patients = metadata.trained_patients(loaded)
    data, copies = loaded.merge(hashes)
    labelled = LabelledProbabilities(
        y_true=data.labels,
        probabilities=np.array([found.probabilities for found in predictions]),
        groups=data.groups,
        positive=positive,
        threshold=metadata.threshold,
        classes=data.classes,
    )
    region_scores = {
        region: np.array([found.scores[region] for found in predictions]) for region in REGION_NAMES
    }
    lungs_found = np.array([found.lungs_found for found in predictions])
    subgroups = subgroup_values(data.rows, trained_images | trained_patients)
    regions, strata, audit, versus_shortcut = None, None, None, None
    if labelled.has_both:
        truth, rng = labelled.is_positive, np.random.default_rng(config.seed)
        p_values = permutation_p_values(truth, region_scores, data.groups, rng)
        regions = compare_regions(truth, region_scores, data.groups, lungs_found, p_values)
        in_strata = Strata.of(data.rows, config.stratify)
        strata = score_strata(truth, region_scores, data.groups, in_strata, rng)
        audit, versus_shortcut = _audit(loaded, image_statistics, labelled, config.seed)
    return ExternalRun(
        config=config,
        model=predictor.path,
        metadata=metadata,
        data=data,
        copies=copies,
        positive=positive,
        probabilities=labelled.probabilities,
        region_scores=region_scores,
        pairs_of_lungs=int(lungs_found.sum()),
        warnings=sum(bool(found.warning) for found in predictions),
        gallery=gallery,
        trained_images=trained_images,
        trained_patients=trained_patients,
        scores=score_external(labelled, subgroups, np.random.default_rng(config.seed)),
        regions=regions,
        strata=strata,
        audit=audit,
        versus_shortcut=versus_shortcut,
    )


def _audit(
    loaded: Dataset,
    image_statistics: list[ImageStatistics],
    labelled: LabelledProbabilities,
    seed: int,
) -> tuple[AuditResult | None, Estimate | None]:
    """The audit, and the AUC of the model minus that of the best shortcut; None if a class has too
    few patients."""
    try:
        audit = run_audit(loaded, image_statistics, labelled.positive, np.random.default_rng(seed))
    except InputError as error:
        logger.info("shortcuts are not looked for: %s", error)
        return None, None
    model = labelled.select(audit.chosen)
    best = audit.best.scores
    return audit, auc_difference(model.is_positive, model.y_score, best, model.groups)

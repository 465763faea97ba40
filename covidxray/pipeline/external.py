"""The steps of an external evaluation: a saved model applied to labelled images from elsewhere."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from covidxray.audit.audit import run_audit
from covidxray.audit.baselines import permutation_p_values
from covidxray.audit.result import AuditResult
from covidxray.data.dataset import Dataset
from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.lung_masks import NO_LUNGS
from covidxray.data.transplant import LungPicture
from covidxray.errors import InputError
from covidxray.evaluation.external_scores import (
    BaselineScore,
    score_external,
    subgroup_values,
)
from covidxray.evaluation.intervals import auc, auc_difference
from covidxray.evaluation.metrics import LabelledProbabilities
from covidxray.evaluation.regions import REGION_NAMES, compare_regions
from covidxray.evaluation.strata import Strata, score_strata
from covidxray.model.prediction import Prediction
from covidxray.model.predictor import Predictor
from covidxray.model.recipes import REGIONS
from covidxray.pipeline.external_run import Evidence, ExternalConfig, ExternalRun
from covidxray.pipeline.gallery import GalleryCollector
from covidxray.pipeline.reference import SiteReference
from covidxray.pipeline.runs import Gallery, TransplantRun
from covidxray.pipeline.transplants import Scorer, draw_references, run_transplants

logger = logging.getLogger(__name__)


def collect_predictions(
    predictions: Iterable[Prediction | InputError], data: Dataset, positive: int
) -> tuple[list[Prediction], Gallery, dict[int, InputError]]:
    """Predictions of a data set's images, without their pictures, which the gallery alone keeps.

    The last value maps the index of each image that cannot be read, or gets no class, to an error.
    """
    collector = GalleryCollector(data.classes, positive)
    found: list[Prediction] = []
    unread: dict[int, InputError] = {}
    for i, prediction in enumerate(predictions):
        if isinstance(prediction, InputError):
            unread[i] = prediction
        elif prediction.label is None:
            unread[i] = InputError(f"{data.paths[i]}: {NO_LUNGS}; it gets no class")
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
    reference: SiteReference | None = None,
) -> ExternalRun:
    """Score predictions against the labels of the data set, and audit the data set.

    Args:
        loaded: the N images that were predicted.
        predictions: of these images, with statistics.
        config: its seed is that of the resampled intervals, and again of the audit.
        reference: whose threshold the predictor has.
    """
    metadata, positive = predictor.metadata, predictor.positive
    image_statistics = [found.statistics for found in predictions if found.statistics]
    hashes = np.array([statistics.hash for statistics in image_statistics])
    trained_images = metadata.trained_images([row.sha256 for row in loaded.rows], hashes)
    trained_patients = metadata.trained_patients(loaded.patients)
    data, copies = loaded.merge(hashes)
    labelled = LabelledProbabilities(
        y_true=data.labels,
        probabilities=np.array([found.probabilities for found in predictions]),
        groups=data.groups,
        positive=positive,
        threshold=metadata.threshold,
        classes=data.classes,
    )
    subgroups = subgroup_values(data.rows, trained_images | trained_patients)
    evidence = None
    if labelled.has_both:
        evidence = replace(
            collect_evidence(predictor, data, labelled, predictions, config, reference),
            audit=_audit(loaded, image_statistics, labelled, config.seed),
        )
    return ExternalRun(
        config=config,
        model=predictor.path,
        metadata=metadata,
        data=data,
        copies=copies,
        positive=positive,
        probabilities=labelled.probabilities,
        pairs_of_lungs=sum(found.lungs_found for found in predictions),
        warnings=sum(bool(found.warning) for found in predictions),
        gallery=gallery,
        trained_images=trained_images,
        trained_patients=trained_patients,
        scores=score_external(labelled, subgroups, np.random.default_rng(config.seed)),
        evidence=evidence,
        reference=reference.reference if reference else None,
    )


def collect_evidence(
    predictor: Predictor,
    data: Dataset,
    labelled: LabelledProbabilities,
    predictions: list[Prediction],
    config: ExternalConfig,
    reference: SiteReference | None,
) -> Evidence:
    """What speaks for and against the lungs on images of both classes; the audit is missing."""
    truth, groups, rng = labelled.is_positive, labelled.groups, np.random.default_rng(config.seed)
    regions = {name: np.array([p.scores[name] for p in predictions]) for name in REGION_NAMES}
    found = np.array([prediction.lungs_found for prediction in predictions])
    p_values = permutation_p_values(truth, regions, groups, rng)
    compared = compare_regions(truth, regions, groups, found, p_values)
    baselines = {
        name: np.array([prediction.acquisition[name] for prediction in predictions])
        for name in predictor.baselines
    }
    strata = Strata.of(data.rows, config.stratify)
    acquisition = {
        name: BaselineScore(
            auc(truth, scores, groups), auc_difference(truth, labelled.y_score, scores, groups)
        )
        for name, scores in baselines.items()
    }
    logits = np.array([prediction.logits for prediction in predictions])
    pictures = reference.pictures if reference else ()
    return Evidence(
        region_scores=regions,
        regions=compared,
        strata=score_strata(truth, regions | baselines, groups, strata, rng),
        acquisition=dict(sorted(acquisition.items(), key=lambda item: -item[1].auc.value)),
        transplants=exchange_lungs(predictor, data, logits, regions, pictures, config),
        audit=None,
    )


def exchange_lungs(
    predictor: Predictor,
    data: Dataset,
    logits: np.ndarray,
    region_scores: dict[str, np.ndarray],
    pictures: Sequence[LungPicture],
    config: ExternalConfig,
) -> TransplantRun | None:
    """The transplant test of a saved model.

    References are drawn from the normal images of the data set or, where these are too few, the
    first of `pictures`. None if there are neither, or with `--transplant 0`.
    """

    def score(image: int, outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
        probabilities, *features = outputs
        named = dict(zip(REGIONS, features, strict=False))
        found = predictor.region_scores(probabilities.astype(np.float64), named)
        return {region: scores[:, None] for region, scores in found.items()}

    if not config.transplant:
        return None
    rng = np.random.default_rng(config.seed)
    untouched = {region: scores[None] for region, scores in region_scores.items()}
    scorer = Scorer(predictor.network, score, untouched, cross_validated=False)
    subjects = draw_references(data, predictor.positive, logits, config.transplant, rng)
    if not subjects.references:
        subjects = replace(subjects, references=tuple(pictures[: config.transplant]))
    return run_transplants(subjects, scorer, True, rng)


def _audit(
    loaded: Dataset,
    image_statistics: list[ImageStatistics],
    labelled: LabelledProbabilities,
    seed: int,
) -> AuditResult | None:
    """The audit of the data set itself; None if a class has too few patients."""
    try:
        return run_audit(loaded, image_statistics, labelled.positive, np.random.default_rng(seed))
    except InputError as error:
        logger.info("shortcuts are not looked for: %s", error)
        return None

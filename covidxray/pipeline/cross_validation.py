"""The cross-validation of a training run, and what it is compared with."""

import logging

import numpy as np

from covidxray.audit.baselines import fit_baselines, folds_for
from covidxray.audit.result import AuditResult
from covidxray.data.dataset import Dataset
from covidxray.evaluation import intervals, metrics, splits
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.recalibration import recalibrate_out_of_fold
from covidxray.evaluation.regions import compare_regions
from covidxray.model import heads
from covidxray.model.feature_table import Features
from covidxray.model.labelled_features import LabelledFeatures, standardise
from covidxray.model.recipes import HeadOptions
from covidxray.pipeline.runs import CrossValidationResult, TrainConfig
from covidxray.pipeline.training import head_options

PERMUTED = 500  # images up to which heads are fitted to permuted labels
REGION_PERMUTATIONS = 199
logger = logging.getLogger(__name__)


def run_cross_validation(
    config: TrainConfig, data: Dataset, features: Features, rng: np.random.Generator
) -> CrossValidationResult | None:
    """Cross-validate heads on every region, by patient; None with `--repeats 0`.

    The images of the data set's own `test` take no part in it.
    The probabilities of a fold are recalibrated by the scores of the other folds.
    """
    if not config.repeats:
        return None
    logger.info("cross-validating: %d folds, %d times...", config.folds, config.repeats)
    features = features.select(np.flatnonzero(~data.held_out))
    data = data.development
    split_rng, head_rng, test_rng = rng.spawn(3)
    labels, groups = data.labels, data.groups
    folds = list(splits.repeated_folds(labels, groups, config.folds, config.repeats, split_rng))
    regions = features.labelled(labels)
    scores, fold, fitted = heads.cross_validate(regions, folds, head_options(config), head_rng)
    own, positive = scores[config.region], data.index(config.positive)
    probabilities = recalibrate_out_of_fold(labels, own, fold)
    is_positive = labels == positive
    threshold = config.threshold
    if config.sensitivity and threshold is None:
        chosen = probabilities[:, :, positive], is_positive, config.sensitivity
        threshold, _ = metrics.threshold_for(*chosen)
    labelled = metrics.LabelledProbabilities(
        labels, probabilities, groups, positive, threshold, data.classes
    )
    p_values = compare_with_chance(regions, is_positive, groups, head_options(config), test_rng)
    region_scores = {region: found[:, :, positive] for region, found in scores.items()}
    return CrossValidationResult(
        folds=config.folds,
        repeats=config.repeats,
        labels=labels,
        is_positive=is_positive,
        region_scores=region_scores,
        heads=fitted,
        fold=fold,
        probabilities=labelled.y_score,
        threshold=threshold,
        scores=metrics.score_repeats(labelled, own, fold),
        regions=compare_regions(is_positive, region_scores, groups, features.lungs_found, p_values),
    )


def compare_with_chance(
    regions: dict[str, LabelledFeatures],
    is_positive: np.ndarray,
    groups: np.ndarray,
    options: HeadOptions,
    rng: np.random.Generator,
) -> dict[str, float] | None:
    """p-value of each region by the permutation test of the audit's baselines.

    None above `PERMUTED` images and for heads with a hidden layer, which would take too long; the
    p-values then follow from the intervals.
    """
    n = len(groups)
    if n > PERMUTED or not options.solved:
        return None
    tables = {}
    for name, data in regions.items():
        table = data.values[:n].astype(np.float64)
        standardise(table)
        # Baselines have a penalty of 1 for the sum of the losses, and heads l2 for their mean.
        strength = np.sqrt(options.l2 * n * (1 - 1 / folds_for(is_positive, groups)))
        # A rotation that leaves at most n columns changes no score.
        tables[name] = np.transpose(np.linalg.qr(table.T / strength, mode="r")).astype(np.float32)
    tested = fit_baselines(tables, is_positive, groups, rng, REGION_PERMUTATIONS)
    return {baseline.name: baseline.p_value for baseline in tested}


def compare_with_best(
    cross_validation: CrossValidationResult | None, data: Dataset, region: str, audit: AuditResult
) -> Estimate | None:
    """Cross-validated AUC minus that of the best shortcut, on the images that both have scored."""
    if not cross_validation:
        return None
    scored = np.flatnonzero(~data.held_out)
    common, mine, theirs = np.intersect1d(scored, audit.chosen, return_indices=True)
    return intervals.auc_difference(
        cross_validation.is_positive[mine],
        cross_validation.region_scores[region][:, mine],
        audit.best.scores[:, theirs],
        data.groups[common],
        cross_validated=True,
    )

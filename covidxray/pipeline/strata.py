"""The scores of a training run within strata, and at sites that were left out of training."""

import numpy as np

from covidxray.audit.result import AuditResult
from covidxray.data.dataset import Dataset
from covidxray.evaluation import intervals
from covidxray.evaluation.strata import Strata, StratifiedScores, score_strata
from covidxray.model import heads
from covidxray.model.feature_table import Features
from covidxray.pipeline.runs import CrossValidationResult, SiteScore, TrainConfig
from covidxray.pipeline.training import head_options

SITE_IMAGES = 5  # of the positive class, and of the others, at a site that is left out


def compare_within_strata(
    config: TrainConfig,
    data: Dataset,
    cross_validation: CrossValidationResult | None,
    audit: AuditResult,
    rng: np.random.Generator,
) -> StratifiedScores | None:
    """Cross-validated scores of the regions and of the best shortcut within strata; None without
    cross-validation."""
    if not cross_validation:
        return None
    scored = np.flatnonzero(~data.held_out)
    shortcut = np.full((len(audit.best.scores), len(data)), np.nan)
    shortcut[:, audit.chosen] = audit.best.scores
    scores = {**cross_validation.region_scores, "shortcut": shortcut[:, scored]}
    part = data.development
    strata = Strata.of(part.rows, config.stratify)
    return score_strata(cross_validation.is_positive, scores, part.groups, strata, rng)


def leave_sites_out(
    config: TrainConfig, data: Dataset, features: Features, rng: np.random.Generator
) -> tuple[SiteScore, ...]:
    """Score the images of each site by a head that was trained on all others.

    A site needs `SITE_IMAGES` images of the positive class and of the others, and all classes must
    occur elsewhere. Its patients train nothing, and images of the data set's `test` take no part.
    """
    own = features.labelled(data.labels)[config.region]
    positive, options = data.index(config.positive), head_options(config)
    sites = np.array([row.site for row in data.rows])
    found = []
    for site in sorted(set(sites[~data.held_out]) - {""}):
        test = np.flatnonzero((sites == site) & ~data.held_out)
        apart = ~data.held_out & ~np.isin(data.groups, data.groups[test])
        train, truth = np.flatnonzero(apart), data.labels[test] == positive
        few = min(truth.sum(), (~truth).sum()) < SITE_IMAGES
        if few or len(np.unique(data.labels[train])) < len(data.classes):
            continue
        head = heads.fit_heads(own, [train], options, rng)
        scores = head.predict(own.values[test], 0)[:, positive]
        area = intervals.auc(truth, scores, data.groups[test])
        found.append(SiteScore(site, int(truth.sum()), int((~truth).sum()), area))
    return tuple(found)

"""Compare the AUC of the whole image, the lungs and everything outside them.

The same kind of head is trained on the same feature maps, pooled over each of the three regions.
The differences are paired, because every head scores the same images.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logit, ndtr

from covidxray.evaluation import intervals
from covidxray.evaluation.intervals import Estimate, Z

# Of corrected p-values, here and in the audit. At 0.05 every twentieth clean data set would raise
# an alarm.
LEVEL = 0.01
REGION_NAMES = {"whole": "whole picture", "lungs": "lungs alone", "outside": "all but the lungs"}


@dataclass(frozen=True)
class RegionComparison:
    """The AUC of each region, and the AUC of the lungs minus that of the outside.

    Attributes:
        p_values: region -> p that it predicts the class no better than chance, corrected for three
            regions.
        patients: number of patients.
        found, total: a pair of lungs was found in `found` of the `total` images.
    """

    whole: Estimate
    lungs: Estimate
    outside: Estimate
    difference: Estimate
    p_values: dict[str, float]
    patients: int
    found: int
    total: int

    def is_shown(self, region: str) -> bool:
        """Whether a region is shown to predict the class better than chance."""
        return self.p_values[region] <= LEVEL


def compare_regions(
    is_positive: np.ndarray,
    scores: dict[str, np.ndarray],
    groups: np.ndarray,
    found: np.ndarray,
    p_values: dict[str, float] | None = None,
) -> RegionComparison:
    """Score the three regions on the same images; `is_positive` must hold both values.

    Args:
        scores: region -> (N,) or (R, N), score of the positive class; (R, N) is cross-validated.
        groups: (N,) int64 patients.
        found: (N,) bool, whether a pair of lungs was found.
        p_values: corrected, of a permutation test; without it, they follow from the intervals.
    """
    validated = scores["whole"].ndim == 2
    areas = {
        name: intervals.auc(is_positive, scores[name], groups, validated) for name in REGION_NAMES
    }
    pair = scores["lungs"], scores["outside"]
    difference = intervals.auc_difference(is_positive, *pair, groups, validated)
    if p_values is None:
        p_values = {name: min(1.0, 3 * _p_value(area)) for name, area in areas.items()}
    patients = len(np.unique(groups))
    return RegionComparison(
        **areas,
        difference=difference,
        p_values=p_values,
        patients=patients,
        found=int(found.sum()),
        total=len(found),
    )


def _p_value(area: Estimate) -> float:
    """Of the hypothesis that an AUC is 0.5 or less, from the lower end of its interval."""
    if area.value <= 0.5:
        return 1.0
    value, low = (float(logit(np.clip(x, 1e-4, 1 - 1e-4))) for x in (area.value, area.low))
    return float(ndtr(-Z * value / max(value - low, 1e-9)))

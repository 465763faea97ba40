"""Compare the AUC of the whole image, the lungs and everything outside them.

The same kind of head is trained on the same feature maps, pooled over each of the three regions.
The differences are paired, because every head scores the same images.
"""

from dataclasses import dataclass

import numpy as np

from covidxray.evaluation import intervals
from covidxray.evaluation.intervals import Estimate

REGION_NAMES = {"whole": "whole picture", "lungs": "lungs alone", "outside": "all but the lungs"}


@dataclass(frozen=True)
class RegionComparison:
    """The AUC of each region, and the AUC of the lungs minus that of the outside.

    A pair of lungs was found in `found` of the `total` images.
    """

    whole: Estimate
    lungs: Estimate
    outside: Estimate
    difference: Estimate
    found: int
    total: int


def compare_regions(
    is_positive: np.ndarray, scores: dict[str, np.ndarray], groups: np.ndarray, found: np.ndarray
) -> RegionComparison:
    """Score the three regions on the same images; `is_positive` must hold both values.

    Args:
        scores: region -> (N,) or (R, N), probability of the positive class.
        groups: (N,) int64 patients.
        found: (N,) bool, whether a pair of lungs was found.
    """
    areas = {name: intervals.auc(is_positive, scores[name], groups) for name in REGION_NAMES}
    difference = intervals.auc_difference(is_positive, scores["lungs"], scores["outside"], groups)
    return RegionComparison(
        **areas, difference=difference, found=int(found.sum()), total=len(found)
    )

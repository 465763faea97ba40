"""Does what tells the classes apart come from the lungs? No Keras here.

The same head is trained on the same maps, pooled over the whole picture, over the lungs alone and
over all but the lungs. The difference is paired: both score the same images.
"""

from dataclasses import dataclass

import numpy as np

from covidxray import metrics
from covidxray.metrics import Estimate

NAMES = {"whole": "whole picture", "lungs": "lungs alone", "outside": "all but the lungs"}


@dataclass(frozen=True)
class Where:
    """The three poolings' AUCs, the lungs' less the outside's, from -1 to 1, and in how many of
    the images a pair of lungs was `found`."""

    whole: Estimate
    lungs: Estimate
    outside: Estimate
    difference: Estimate
    found: int
    total: int

    @property
    def sentence(self) -> str:
        """What it means."""
        read = (
            f"The lungs alone give an AUC of {self.lungs.short}, all but the lungs one of "
            f"{self.outside.short}"
        )
        inside, beyond = (e.low > 0.5 for e in (self.lungs, self.outside))
        if not inside and not beyond:
            return f"{read}: neither is shown to be better than chance."
        if self.difference.low > 0:
            more = "; but what is outside them gives the class away, too" if beyond else ""
            return f"{read}: the lungs tell more{more}."
        if not beyond:
            return f"{read}: only the lungs are shown to be better than chance."
        if self.difference.high < 0:
            return f"{read}, which is more: the model need not look at a lung."
        both = "; both give the class away" if inside else ""
        return f"{read}, which is as good{both}: the model need not look at a lung."


def compare_pools(
    is_positive: np.ndarray, scores: dict[str, np.ndarray], groups: np.ndarray, found: np.ndarray
) -> Where:
    """Score the three poolings on the same images.

    Args:
        is_positive: (N,) bool, both values present.
        scores: "whole", "lungs" and "outside" -> (N,) or (R, N) probabilities of the positive
            class.
        groups: (N,) patients.
        found: (N,) bool, whether a pair of lungs was found.
    """
    areas = {name: metrics.auc(is_positive, scores[name], groups) for name in NAMES}
    difference = metrics.auc_difference(is_positive, scores["lungs"], scores["outside"], groups)
    return Where(**areas, difference=difference, found=int(found.sum()), total=len(found))


def format_where(where: Where, prefix: str = "") -> str:
    """The three areas and the difference, a line each; `prefix` stands before "auc"."""
    lines = [f"{prefix}auc by where the model may look:", ""]
    for key, name in NAMES.items():
        lines.append(f"{name}: {getattr(where, key)}")
    lines.append(f"lungs - outside: {where.difference}")
    if where.found < where.total:
        lines.append(f"a pair of lungs was found in {where.found} of {where.total} images")
    return "\n".join(lines)

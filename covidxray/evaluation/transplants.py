"""Scores of a model on images whose lungs were exchanged: does it need the lungs?"""

from dataclasses import dataclass

import numpy as np

from covidxray.evaluation import intervals
from covidxray.evaluation.intervals import Estimate


@dataclass(frozen=True)
class TransplantScores:
    """AUCs of a model on the same images, untouched and with lungs exchanged.

    Attributes:
        positives, negatives, patients: number of images by class, and of their patients.
        references: number of normal images whose lungs, or chests, were put in; the AUCs are means
            over them.
        left_out: how many further images have no plausible pair of lungs.
        fixed_lungs: the references' lungs in each image's own chest.
        own_lungs: each image's lungs in the references' chests; None if this was not done.
        put_back: each image's lungs, moved to a reference and back into their own chest.
        drop, own_drop, back_drop: AUC of the untouched images minus these three.
        artefact: AUC by which negative images with a reference's lungs are told from the same
            images untouched; 0.5 where the method itself changes no score.
    """

    positives: int
    negatives: int
    patients: int
    references: int
    left_out: int
    untouched: Estimate
    fixed_lungs: Estimate
    drop: Estimate
    artefact: Estimate
    own_lungs: Estimate | None = None
    own_drop: Estimate | None = None
    put_back: Estimate | None = None
    back_drop: Estimate | None = None

    @property
    def by_name(self) -> dict[str, Estimate]:
        """The AUCs under the names that are shown, without those that were not measured."""
        rows = {
            "untouched": self.untouched,
            "own lungs, reference's chest": self.own_lungs,
            "reference's lungs, own chest": self.fixed_lungs,
            "own lungs, put back": self.put_back,
        }
        return {name: estimate for name, estimate in rows.items() if estimate}


def score_transplants(
    is_positive: np.ndarray,
    scores: dict[str, np.ndarray],
    groups: np.ndarray,
    left_out: int,
    cross_validated: bool,
) -> TransplantScores:
    """Compare scores of N images, `is_positive` (N,) bool, which must hold both values.

    Args:
        scores: "untouched" (R, N) of R repeats, and "fixed_lungs", and if they were made,
            "own_lungs" and "put_back", each (K, R, N) of K references.
        groups: (N,) int64, patients.
        left_out: as for `TransplantScores`.
        cross_validated: whether no head has seen the images that it scores.
    """
    untouched = scores["untouched"]
    found: dict[str, Estimate] = {}
    for name, drop in (
        ("fixed_lungs", "drop"),
        ("own_lungs", "own_drop"),
        ("put_back", "back_drop"),
    ):
        if name in scores:
            rows = scores[name].reshape(-1, len(groups))
            found[name] = intervals.auc(is_positive, rows, groups, cross_validated)
            found[drop] = intervals.auc_difference(
                is_positive, untouched, rows, groups, cross_validated
            )
    exchanged = scores["fixed_lungs"][:, :, ~is_positive]
    plain = np.broadcast_to(untouched[:, ~is_positive], exchanged.shape)
    both = np.concatenate([exchanged, plain], axis=2).reshape(-1, 2 * exchanged.shape[2])
    negatives = exchanged.shape[2]
    return TransplantScores(
        positives=int(is_positive.sum()),
        negatives=negatives,
        patients=len(np.unique(groups)),
        references=len(exchanged),
        left_out=left_out,
        untouched=intervals.auc(is_positive, untouched, groups, cross_validated),
        artefact=intervals.auc(
            np.arange(2 * negatives) < negatives, both, np.tile(groups[~is_positive], 2)
        ),
        **found,
    )

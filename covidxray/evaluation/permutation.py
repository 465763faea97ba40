"""Exchange the labels of patients, for permutation tests."""

import numpy as np


def exchange_patients(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every patient another one's labels: (N,) int64, the image whose label each receives.

    A patient with more images than the other one uses that one's labels again from the first.
    Patients `groups` (N,) are numbered from 0.
    """
    # The images sorted by patient, in random order within a patient, and their rank there.
    order = np.lexsort((rng.random(len(groups)), groups))
    sizes = np.bincount(groups)
    first = np.cumsum(sizes) - sizes
    rank = np.arange(len(groups)) - first[groups[order]]
    other = rng.permutation(len(sizes))[groups[order]]
    taken = np.empty_like(order)
    taken[order] = order[first[other] + rank % sizes[other]]
    return taken

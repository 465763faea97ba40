"""Patient-grouped, stratified splits."""

import warnings
from collections.abc import Iterator

import numpy as np

from covidxray.errors import InputError
from covidxray.images import DUPLICATE_BITS, hash_distance


def merge_duplicates(groups: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """Make one group of all patients who share a picture, so that no split can part its copies.

    Args:
        groups: (N,) int64.
        hashes: (N, 4) uint64 perceptual hashes.

    Returns:
        The merged groups (N,), and how many images have a copy under another patient.
    """
    groups = groups.copy()
    copied = np.zeros(len(groups), bool)
    for i in range(1, len(groups)):
        for j in np.flatnonzero(hash_distance(hashes[:i], hashes[i]) <= DUPLICATE_BITS):
            if groups[i] != groups[j]:
                groups[groups == groups[j]] = groups[i]
                copied[[i, j]] = True
    return np.unique(groups, return_inverse=True)[1], int(copied.sum())


def check_patients(
    labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...], folds: int
) -> None:
    """Every class needs a patient for every fold.

    Raises:
        InputError: a class has fewer patients than `folds`.
    """
    for label, name in enumerate(classes):
        patients = len(np.unique(groups[labels == label]))
        if patients < folds:
            raise InputError(
                f"class {name} has {patients} patients, fewer than {folds}; "
                "add patients, or lower --folds"
            )


def holdout(
    labels: np.ndarray, groups: np.ndarray, test_size: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split off about `test_size` of each class, whole patients at a time.

    Args:
        labels, groups: (N,) int64.
        test_size: share of each class's images, between 0 and 1.
        rng: decides which patients.

    Returns:
        Sorted indices of the training and of the test images; both hold every class if each
        class has two patients (see `check_patients`).
    """
    test = np.zeros(len(labels), bool)
    for label, n in enumerate(np.bincount(labels)):
        here = labels == label
        patients, sizes = np.unique(groups[here], return_counts=True)
        wanted = max(round(test_size * n), sizes.min())
        for group in rng.permutation(patients):
            members = groups == group
            # A patient with more images than are still wanted is passed over.
            if not test[members].any() and (test & here).sum() + (members & here).sum() <= wanted:
                test |= members
    return np.flatnonzero(~test), np.flatnonzero(test)


def usual_repeats(n: int) -> int:
    """How often to cross-validate `n` images: 20 times, or so often that 10,000 are predicted.

    How the folds fall moves a score less, the more images there are.
    """
    return max(1, min(20, 10_000 // n))


def repeated_folds(
    labels: np.ndarray, groups: np.ndarray, folds: int, repeats: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (repeat, training indices, test indices) of a repeated StratifiedGroupKFold."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow; prediction does without

    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of small classes: checked by patient
            for train, test in splitter.split(labels, labels, groups):
                yield repeat, train, test

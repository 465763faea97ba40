"""Splits of a data set that keep all images of a patient on one side.

`labels` and `groups` are (N,) int64, the class and the patient of each image.
"""

import warnings
from collections.abc import Iterator

import numpy as np

from covidxray.errors import InputError


def check_patients(
    labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...], folds: int
) -> None:
    """Raise InputError if a class has fewer patients than `folds`."""
    counts = patients_by_class(labels, groups, len(classes))
    sizes = np.bincount(labels, minlength=len(classes))
    for name, patients, images in zip(classes, counts, sizes, strict=True):
        if patients == 1 < images:
            raise InputError(
                f"class {name}: all {images} images are of one patient by their Patient ID or "
                "manifest.csv, probably a placeholder; list the patients in a manifest.csv"
            )
        if patients < folds:
            raise InputError(
                f"class {name} has {patients} patients, fewer than {folds}; "
                "add patients, or lower --folds"
            )


def patients_by_class(labels: np.ndarray, groups: np.ndarray, classes: int) -> list[int]:
    """The number of patients of each class."""
    return [len(np.unique(groups[labels == label])) for label in range(classes)]


def holdout(
    labels: np.ndarray, groups: np.ndarray, test_size: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out about `test_size` of the images of each class, whole patients at a time.

    Each image of a class has the same chance: the patients are laid end to end in random order, as
    long as their images are many, and those that begin in a window of the wanted length, at a
    random place of the circle, are held out.

    Returns:
        Sorted indices of the training images and of the test images. Both contain every class if
        each class has two patients.
    """
    test = np.zeros(len(labels), bool)
    for label, n in enumerate(np.bincount(labels)):
        in_class = labels == label
        patients, sizes = np.unique(groups[in_class], return_counts=True)
        order = rng.permutation(len(patients))
        begins = np.cumsum(sizes[order]) - sizes[order]
        place = (begins - rng.integers(n)) % n  # after the start of the window
        chosen = place < round(test_size * n)
        # At least one patient is held out, and one is not.
        chosen[np.argmin(place)] = True
        chosen[np.argmax(place)] &= len(patients) == 1
        test |= np.isin(groups, patients[order][chosen])
    return np.flatnonzero(~test), np.flatnonzero(test)


def default_repeats(n: int) -> int:
    """Number of cross-validation repeats for `n` images: 20, or fewer above 500 images."""
    # The more images there are, the less a score depends on how the folds are drawn.
    return max(1, min(20, 10_000 // n))


def repeated_folds(
    labels: np.ndarray, groups: np.ndarray, folds: int, repeats: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (repeat, training indices, test indices) of repeated `StratifiedGroupKFold` splits."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
        with warnings.catch_warnings():
            # The warning is about classes with few images; `check_patients` counts patients.
            warnings.simplefilter("ignore", UserWarning)
            for train, test in splitter.split(labels, labels, groups):
                yield repeat, train, test

"""No patient, and no picture, stands on both sides of a split; both sides hold every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidxray.errors import InputError
from covidxray.splits import (
    check_patients,
    holdout,
    merge_duplicates,
    repeated_folds,
    usual_repeats,
)


@st.composite
def cohorts(draw):
    """Labels and patients: two or three classes of 5 to 20 patients with 1 to 3 images each."""
    sizes = draw(
        st.lists(st.lists(st.integers(1, 3), min_size=5, max_size=20), min_size=2, max_size=3)
    )
    labels = np.repeat(np.arange(len(sizes)), [sum(images) for images in sizes])
    flat = np.concatenate(sizes)
    return labels, np.repeat(np.arange(len(flat)), flat)


@given(cohorts(), st.integers(0, 1000))
@settings(deadline=None)
def test_a_holdout_parts_no_patient_and_holds_every_class(cohort, seed):
    labels, groups = cohort
    train, test = holdout(labels, groups, 0.2, np.random.default_rng(seed))
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[test])
    assert set(labels[train]) == set(labels[test]) == set(labels)


def test_25_and_25_patients_are_split_40_to_10():
    labels = np.repeat([0, 1], 25)
    train, test = holdout(labels, np.arange(50), 0.2, np.random.default_rng(42))
    assert np.bincount(labels[train]).tolist() == [20, 20]
    assert np.bincount(labels[test]).tolist() == [5, 5]


@given(cohorts(), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_every_repeat_tests_every_image_once_and_parts_no_patient(cohort, seed):
    labels, groups = cohort
    tested = np.zeros((2, len(labels)), int)
    for repeat, train, test in repeated_folds(labels, groups, 5, 2, np.random.default_rng(seed)):
        tested[repeat, test] += 1
        assert not set(groups[train]) & set(groups[test])
    assert (tested == 1).all()


def test_patients_who_share_a_picture_become_one_group():
    hashes = np.array([[0, 0, 0, 0], [2**64 - 1] * 4, [0, 0, 0, 7], [5, 2**40, 0, 0]], np.uint64)
    hashes[3] = ~hashes[0] ^ np.uint64(2**63 + 2**62 + 255)
    merged, copies = merge_duplicates(np.array([0, 1, 2, 3]), hashes)
    assert merged[0] == merged[2] != merged[1]
    assert copies == 2


def test_a_class_with_too_few_patients_is_named():
    with pytest.raises(InputError, match="class covid has 2 patients, fewer than 5"):
        check_patients(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]), ("covid", "normal"), 5)


@pytest.mark.parametrize("n", [50, 500, 501, 5_000, 300_000])
def test_many_images_are_predicted_fewer_times_each_but_at_least_once(n):
    repeats = usual_repeats(n)
    assert 1 <= repeats <= 20
    assert repeats == 1 or n * repeats <= 10_000
    assert repeats == 20 or n * (repeats + 1) > 10_000

"""No patient, and no picture, stands on both sides of a split; both sides hold every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

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
@settings(max_examples=30)
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


def hashes_of(pictures):
    """One perceptual hash (4,) an image; images with the same number are one picture."""
    rng = np.random.default_rng(7)
    drawn = rng.integers(0, 2**64, (max(pictures) + 1, 4), np.uint64, endpoint=False)
    hashes = drawn[list(pictures)]
    hashes[:, 0] ^= rng.integers(0, 2**8, len(hashes), np.uint64)  # copies need not be exact
    return hashes


def same_partition(first, second):
    """Whether two numberings put the same images together."""
    first, second = np.asarray(first), np.asarray(second)
    return ((first[:, None] == first) == (second[:, None] == second)).all()


@pytest.mark.parametrize(
    ("patients", "pictures"),
    [
        ([0, 0, 1, 2], [0, 1, 0, 2]),  # the copy comes last
        ([1, 0, 0, 2], [0, 0, 1, 2]),  # the copy comes first
        ([0, 1, 0, 2], [0, 1, 1, 2]),  # the copy stands between them
    ],
)
def test_a_copy_joins_all_images_of_its_two_patients(patients, pictures):
    merged, _ = merge_duplicates(np.array(patients), hashes_of(pictures))
    joined = np.array(patients) < 2
    assert len(set(merged[joined])) == 1
    assert merged[~joined] not in merged[joined]


def test_a_chain_of_copies_joins_patients_who_share_no_picture():
    # Patients 0 and 1 share a picture, 1 and 2 another one, 3 and 4 a third.
    patients, pictures = [0, 1, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2, 3]
    merged, copies = merge_duplicates(np.array(patients), hashes_of(pictures))
    assert same_partition(merged, [0, 0, 0, 0, 1, 1, 2])
    assert copies == 6


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=14))
@settings(deadline=None)
def test_groups_are_the_parts_that_patients_and_pictures_connect(images):
    patients, pictures = (np.array(column) for column in zip(*images, strict=True))
    linked = (patients[:, None] == patients) | (pictures[:, None] == pictures)
    _, expected = connected_components(linked)
    merged, copies = merge_duplicates(patients, hashes_of(pictures))
    assert same_partition(merged, expected)
    shared = [len(set(patients[pictures == picture])) > 1 for picture in pictures]
    assert (copies > 0) == any(shared)


def test_every_image_with_a_copy_under_another_patient_is_counted():
    _, copies = merge_duplicates(np.arange(8), hashes_of([0, 1, 0, 2, 3, 0, 3, 4]))
    assert copies == 5  # three images of picture 0, two of picture 3
    _, copies = merge_duplicates(np.array([4, 4, 5]), hashes_of([0, 0, 1]))
    assert copies == 0  # both copies are of one patient


def drawn_folds(seed, repeats=3):
    """The test images of each repeat's folds: 40 images of 20 patients, of unequal classes."""
    labels = np.repeat([0, 1, 2], [8, 10, 22])
    folds = [[] for _ in range(repeats)]
    rng = np.random.default_rng(seed)
    for repeat, _, test in repeated_folds(labels, np.arange(40) // 2, 4, repeats, rng):
        folds[repeat].append(frozenset(test.tolist()))
    return [frozenset(parts) for parts in folds]


def test_every_repeat_draws_other_folds():
    assert len(set(drawn_folds(1))) == 3


def test_another_seed_draws_other_folds_and_another_holdout():
    assert not set(drawn_folds(1)) & set(drawn_folds(2))
    assert drawn_folds(1) == drawn_folds(1)
    labels, groups = np.repeat([0, 1, 2], [10, 12, 30]), np.arange(52)
    tests = [holdout(labels, groups, 0.3, np.random.default_rng(seed))[1] for seed in (1, 2, 1)]
    assert set(tests[0]) != set(tests[1])
    np.testing.assert_array_equal(tests[0], tests[2])


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_a_repeat_has_as_many_folds_as_were_asked_for_and_trains_on_all_others(folds):
    labels, groups = np.repeat([0, 1, 2], [6, 9, 20]), np.arange(35)
    drawn = list(repeated_folds(labels, groups, folds, 2, np.random.default_rng(0)))
    assert [repeat for repeat, _, _ in drawn] == [0] * folds + [1] * folds
    for _, train, test in drawn:
        assert sorted([*train, *test]) == list(range(35))
        assert set(labels[train]) == set(labels[test]) == {0, 1, 2}


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_holdout_takes_its_share_of_each_class(share):
    labels = np.repeat([0, 1, 2], [10, 25, 60])
    _, test = holdout(labels, np.arange(95), share, np.random.default_rng(0))
    assert np.bincount(labels[test]).tolist() == [round(share * n) for n in (10, 25, 60)]


def test_patients_not_images_are_enough_or_too_few():
    labels, groups = np.repeat([0, 1, 2], [6, 6, 6]), np.arange(18) // 3
    groups[12:] = [7, 8, 9, 10, 11, 12]
    check_patients(labels, groups, ("a", "b", "c"), 2)
    with pytest.raises(InputError, match="class a has 2 patients, fewer than 3"):
        check_patients(labels, groups, ("a", "b", "c"), 3)


def test_no_copy_lies_on_the_other_side_of_any_holdout_or_fold_of_any_seed():
    """Each picture is there three times, under three patients, some of whom have more images."""
    pictures = np.r_[np.repeat(np.arange(16), 3), 16:22]
    patients = np.r_[np.arange(48), 0:18:3]
    labels = np.r_[np.repeat([0, 1, 2], [12, 15, 21]), [0, 0, 0, 0, 1, 1]]
    groups, _ = merge_duplicates(patients, hashes_of(pictures))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        parts = [holdout(labels, groups, 0.3, rng)]
        parts += [part for _, *part in repeated_folds(labels, groups, 3, 2, rng)]
        for train, test in parts:
            assert not set(pictures[train]) & set(pictures[test])
            assert not set(patients[train]) & set(patients[test])

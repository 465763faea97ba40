"""Tests of splits: no patient and no copy of an image is on both sides, and every class is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from covidxray.data.duplicates import (
    DUPLICATE_BITS,
    hash_distance,
    merge_groups_with_copies,
    near_duplicates,
)
from covidxray.errors import InputError
from covidxray.evaluation.splits import check_patients, default_repeats, holdout, repeated_folds


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
def test_a_holdout_keeps_patients_whole_and_has_every_class_on_both_sides(cohort, seed):
    labels, groups = cohort
    train, test = holdout(labels, groups, 0.2, np.random.default_rng(seed))
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[test])
    assert set(labels[train]) == set(labels[test]) == set(labels)


def test_a_fifth_of_25_and_25_patients_is_held_out():
    labels = np.repeat([0, 1], 25)
    train, test = holdout(labels, np.arange(50), 0.2, np.random.default_rng(42))
    assert np.bincount(labels[train]).tolist() == [20, 20]
    assert np.bincount(labels[test]).tolist() == [5, 5]


@pytest.mark.parametrize("test_size", [0.01, 0.99])
def test_of_two_patients_one_is_held_out_and_of_one_all_images(test_size):
    labels, groups = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 3, 4, 4])
    for seed in range(10):
        _, test = holdout(labels, groups, test_size, np.random.default_rng(seed))
        held_out = [len(np.unique(groups[test][labels[test] == label])) for label in range(3)]
        assert held_out == [1, 1, 1]


@given(cohorts(), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_every_repeat_tests_every_image_once_and_keeps_patients_whole(cohort, seed):
    labels, groups = cohort
    tested = np.zeros((2, len(labels)), int)
    for repeat, train, test in repeated_folds(labels, groups, 5, 2, np.random.default_rng(seed)):
        tested[repeat, test] += 1
        assert not set(groups[train]) & set(groups[test])
    assert (tested == 1).all()


def hashes_of(pictures, seed=0):
    """A perceptual hash for each image, (N, 4); images with the same number are near-duplicates."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (max(pictures) + 1, 4), np.uint64, endpoint=False)[pictures]
    hashes[:, 0] ^= rng.integers(0, 2**12, len(hashes), np.uint64)
    return hashes


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 1000))
@settings(deadline=None)
def test_near_duplicates_are_all_pairs_with_few_different_bits(pictures, seed):
    hashes = hashes_of(pictures, seed)
    near = [
        (i, j)
        for j in range(len(hashes))
        for i in range(j)
        if bin(int.from_bytes((hashes[i] ^ hashes[j]).tobytes(), "big")).count("1") <= 24
    ]
    assert near_duplicates(hashes).tolist() == [list(pair) for pair in near]


@given(st.lists(st.integers(0, 9), max_size=20), st.lists(st.integers(0, 9), max_size=20))
@settings(deadline=None)
def test_near_duplicates_of_two_sets_are_found_across_them(pictures, others):
    hashes = hashes_of([*pictures, *others, 0])
    known, new = hashes[: len(pictures)], hashes[len(pictures) : -1]
    expected = [[i, j] for j, b in enumerate(others) for i, a in enumerate(pictures) if a == b]
    assert near_duplicates(known, new).tolist() == expected


@pytest.mark.parametrize(("bits", "near"), [(DUPLICATE_BITS, True), (DUPLICATE_BITS + 1, False)])
def test_hashes_are_near_up_to_the_limit(bits, near):
    hashes = np.zeros((2, 4), np.uint64)
    hashes[1] = [2 ** (bits - 20) - 1, 2**10 - 1, 0, 2**10 - 1]
    assert hash_distance(*hashes) == bits
    assert (len(near_duplicates(hashes)) == 1) is near


def test_images_that_differ_in_every_bit_are_no_duplicates():
    hashes = np.array([[0] * 4, [2**64 - 1] * 4], np.uint64)
    assert hash_distance(*hashes) == 256
    assert len(near_duplicates(hashes)) == 0


def test_many_images_are_compared_in_blocks_without_losing_a_pair():
    pictures = np.arange(700) % 500
    pairs = near_duplicates(hashes_of(pictures))
    assert pairs.tolist() == [[i, i + 500] for i in range(200)]


def test_patients_who_share_an_image_become_one_group():
    merged, copies = merge_groups_with_copies(np.array([0, 1, 2, 3]), hashes_of([0, 1, 0, 2]))
    assert merged[0] == merged[2]
    assert len(set(merged)) == 3
    assert copies == 2


def test_every_image_with_a_copy_under_another_patient_is_counted():
    # Two patients share two images; the second pair is found when they are one group already.
    merged, copies = merge_groups_with_copies(np.array([0, 0, 1, 1, 2]), hashes_of([0, 1, 0, 1, 2]))
    assert merged.tolist() == [0, 0, 0, 0, 1]
    assert copies == 4


def test_copies_of_one_patient_are_not_counted():
    merged, copies = merge_groups_with_copies(np.array([4, 4, 2]), hashes_of([0, 0, 1]))
    assert merged.tolist() == [1, 1, 0]
    assert copies == 0


def test_a_class_of_one_patient_with_many_images_is_a_placeholder():
    labels, groups = np.repeat([0, 1], 4), np.array([0, 0, 0, 0, 1, 2, 3, 4])
    with pytest.raises(
        InputError, match="class a: all 4 images are of one patient by their Patien"
    ):
        check_patients(labels, groups, ("a", "b"), 2)


def test_a_class_with_too_few_patients_is_named():
    with pytest.raises(InputError, match="class covid has 2 patients, fewer than 5"):
        check_patients(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]), ("covid", "normal"), 5)
    with pytest.raises(InputError, match="class normal has 1 patients, fewer than 2"):
        check_patients(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]), ("covid", "normal"), 2)


@pytest.mark.parametrize("n", [50, 500, 501, 5_000, 300_000])
def test_the_more_images_the_fewer_repeats_but_at_least_one(n):
    repeats = default_repeats(n)
    assert 1 <= repeats <= 20
    assert repeats == 1 or n * repeats <= 10_000
    assert repeats == 20 or n * (repeats + 1) > 10_000


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
    merged, _ = merge_groups_with_copies(np.array(patients), hashes_of(pictures))
    joined = np.array(patients) < 2
    assert len(set(merged[joined])) == 1
    assert merged[~joined] not in merged[joined]


def test_a_chain_of_copies_joins_patients_who_share_no_picture():
    # Patients 0 and 1 share a picture, 1 and 2 another one, 3 and 4 a third.
    patients, pictures = [0, 1, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2, 3]
    merged, copies = merge_groups_with_copies(np.array(patients), hashes_of(pictures))
    assert same_partition(merged, [0, 0, 0, 0, 1, 1, 2])
    assert copies == 6


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=14))
@settings(deadline=None)
def test_groups_are_the_parts_that_patients_and_pictures_connect(images):
    patients, pictures = (np.array(column) for column in zip(*images, strict=True))
    linked = (patients[:, None] == patients) | (pictures[:, None] == pictures)
    _, expected = connected_components(linked)
    merged, copies = merge_groups_with_copies(patients, hashes_of(pictures))
    assert same_partition(merged, expected)
    shared = [len(set(patients[pictures == picture])) > 1 for picture in pictures]
    assert copies == sum(shared)


def test_copies_are_counted_as_images_and_not_as_pairs():
    _, copies = merge_groups_with_copies(np.arange(8), hashes_of([0, 1, 0, 2, 3, 0, 3, 4]))
    assert copies == 5  # three images of picture 0, two of picture 3
    _, copies = merge_groups_with_copies(np.array([4, 4, 5]), hashes_of([0, 0, 1]))
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
    groups, _ = merge_groups_with_copies(patients, hashes_of(pictures))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        parts = [holdout(labels, groups, 0.3, rng)]
        parts += [part for _, *part in repeated_folds(labels, groups, 3, 2, rng)]
        for train, test in parts:
            assert not set(pictures[train]) & set(pictures[test])
            assert not set(patients[train]) & set(patients[test])


def test_every_image_has_the_same_chance_to_be_held_out():
    """A class of patients with one, two and four images, and a class of single ones."""
    sizes = [1] * 12 + [2] * 6 + [4] * 4 + [1] * 20
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = (groups >= 22).astype(int)
    held_out = np.zeros(len(groups))
    rng = np.random.default_rng(0)
    for _ in range(2_000):
        test = holdout(labels, groups, 0.25, rng)[1]
        held_out[test] += 1 / 2_000
        assert abs((labels[test] == 0).sum() - 10) < 4  # of 40, but for a patient's images
    for size in (1, 2, 4):
        chosen = np.array(sizes)[groups] == size
        assert held_out[chosen].mean() == pytest.approx(0.25, abs=0.02)

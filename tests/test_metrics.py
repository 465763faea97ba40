"""Intervals that say how little few images prove, held against known values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from covidxray import metrics


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_exact_interval_is_scipys(counts):
    k, n = counts
    exact = binomtest(k, n).proportion_ci(method="exact")
    assert metrics.clopper_pearson(k, n) == pytest.approx((exact.low, exact.high))


def test_five_of_five_is_as_little_as_048():
    estimate = metrics.share(np.ones(5, bool), np.arange(5))
    assert (estimate.value, estimate.count, estimate.total) == (1, 5, 5)
    assert estimate.low == pytest.approx(0.478, abs=0.001)


def test_with_one_image_a_patient_the_clustered_interval_is_the_exact_one():
    hits = np.array([1.0] * 30 + [0.0] * 10)
    low, high = metrics.clopper_pearson(30, 40)
    estimate = metrics.clustered_share(hits, np.arange(40))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.01)


def test_four_copies_of_a_patient_prove_no_more_than_one():
    hits = np.array([1.0] * 30 + [0.0] * 10)
    once = metrics.clustered_share(hits, np.arange(40))
    copied = metrics.clustered_share(np.repeat(hits, 4), np.repeat(np.arange(40), 4))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=0.005)


def test_all_right_leaves_the_uncertainty_of_the_number_of_patients():
    estimate = metrics.clustered_share(np.ones(50), np.repeat(np.arange(25), 2))
    assert estimate.low == pytest.approx(metrics.clopper_pearson(25, 25)[0])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60))
def test_the_area_is_scikit_learns(pairs):
    y_true = np.array([y for y, _ in pairs])
    y_score = np.array([s for _, s in pairs], float)
    if y_true.all() or not y_true.any():
        return
    estimate = metrics.auc(y_true, y_score, np.arange(len(pairs)))
    assert estimate.value == pytest.approx(roc_auc_score(y_true, y_score))
    assert 0 <= estimate.low <= estimate.value + 1e-4
    assert estimate.value - 1e-4 <= estimate.high <= 1


def test_the_areas_interval_holds_the_truth_95_times_of_100():
    rng = np.random.default_rng(0)
    truth, held = 0.8556, 0  # of two normal distributions 1.5 standard deviations apart
    for _ in range(400):
        y_true = np.arange(60) < 30
        estimate = metrics.auc(y_true, rng.normal(size=60) + 1.5 * y_true, np.arange(60))
        held += estimate.low <= truth <= estimate.high
    assert held >= 0.93 * 400


def test_a_perfect_area_still_has_an_interval():
    y_true = np.arange(50) < 25
    estimate = metrics.auc(y_true, y_true.astype(float), np.arange(50))
    assert estimate.value == estimate.high == 1
    assert 0.8 < estimate.low < 0.95


def test_sensitivity_is_of_the_positive_class_whatever_its_label():
    y_true, y_pred = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 0])
    result = metrics.evaluate(y_true, y_pred, ("apple", "covid"), 1, np.arange(5))
    assert (result.sensitivity.count, result.sensitivity.total) == (2, 3)
    assert (result.specificity.count, result.specificity.total) == (2, 2)


def test_the_printed_block_names_its_axes_and_counts():
    y = np.array([0] * 5 + [1] * 5)
    result = metrics.evaluate(y, y, ("covid", "normal"), 0, np.arange(10))
    text = metrics.format_evaluation(result, ("covid", "normal"))
    assert "row: truth, column: prediction" in text
    assert "sensitivity: 1.0000  5/5  (95 % interval 0.48 to 1.00)" in text
    assert max(map(len, text.splitlines())) <= 80

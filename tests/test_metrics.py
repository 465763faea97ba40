"""Tests of scores and intervals, against SciPy, scikit-learn and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from covidxray.evaluation import intervals, metrics
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.regions import REGION_NAMES, compare_regions
from covidxray.pipeline.runs import CrossValidationResult
from covidxray.report.text import format_classification, format_cross_validation


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_exact_interval_agrees_with_scipy(counts):
    k, n = counts
    exact = binomtest(k, n).proportion_ci(method="exact")
    assert intervals.clopper_pearson(k, n) == pytest.approx((exact.low, exact.high))


def test_the_interval_of_five_of_five_begins_at_048():
    estimate = intervals.share(np.ones(5, bool), np.arange(5))
    assert (estimate.value, estimate.count, estimate.total) == (1, 5, 5)
    assert estimate.low == pytest.approx(0.478, abs=0.001)


def test_with_one_image_a_patient_the_clustered_interval_is_the_exact_one():
    hits = np.array([1.0] * 30 + [0.0] * 10)
    low, high = intervals.clopper_pearson(30, 40)
    estimate = intervals.clustered_share(hits, np.arange(40))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.01)


def test_four_copies_of_every_image_leave_the_interval_as_it_is():
    hits = np.array([1.0] * 30 + [0.0] * 10)
    holdout = intervals.clustered_share(hits, np.arange(40))
    copied = intervals.clustered_share(np.repeat(hits, 4), np.repeat(np.arange(40), 4))
    assert (copied.low, copied.high) == pytest.approx((holdout.low, holdout.high), abs=0.005)


def test_without_any_error_the_interval_depends_on_the_number_of_patients():
    estimate = intervals.clustered_share(np.ones(50), np.repeat(np.arange(25), 2))
    assert estimate.low == pytest.approx(intervals.clopper_pearson(25, 25)[0])


def test_a_clustered_share_has_the_factor_of_its_degrees_of_freedom():
    """Korn and Graubard 1998, by hand: ten patients of three images, all right or all wrong."""
    groups = np.repeat(np.arange(10), 3)
    estimate = intervals.clustered_share((groups < 7).astype(float), groups)
    variance = 10 / 9 * 10 * 0.7 * 0.3 / 100  # of the mean of ten equal patients
    size = 0.7 * 0.3 / variance * (2.0452 / 2.2622) ** 2  # t of 29 and of 9 degrees of freedom
    low, high = intervals.clopper_pearson(0.7 * size, size)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_one_error_does_not_raise_the_lower_limit_above_that_of_no_error():
    """60 images of 20 patients."""
    groups = np.repeat(np.arange(20), 3)
    perfect = intervals.clustered_share(np.ones(60), groups)
    one_wrong = intervals.clustered_share((np.arange(60) > 0).astype(float), groups)
    assert one_wrong.low <= perfect.low
    none_right = intervals.clustered_share((np.arange(60) == 0).astype(float), groups)
    assert none_right.high == pytest.approx(1 - one_wrong.low)


def test_a_cross_validated_area_has_a_wider_interval_most_so_near_chance():
    rng = np.random.default_rng(0)
    y_true, groups = np.arange(60) < 30, np.arange(60)
    widths = []
    for shift in (0.0, 3.0):
        score = rng.normal(size=60) + shift * y_true
        plain = intervals.auc(y_true, score, groups)
        overlapping = intervals.auc(y_true, score, groups, cross_validated=True)
        assert overlapping.value == plain.value
        widths.append((overlapping.high - overlapping.low) / (plain.high - plain.low))
    assert widths[0] == pytest.approx(2**0.5, abs=0.12)
    assert 1 <= widths[1] < 1.15


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60))
def test_the_area_agrees_with_scikit_learn(pairs):
    y_true = np.array([y for y, _ in pairs])
    y_score = np.array([s for _, s in pairs], float)
    if y_true.all() or not y_true.any():
        return
    estimate = intervals.auc(y_true, y_score, np.arange(len(pairs)))
    assert estimate.value == pytest.approx(roc_auc_score(y_true, y_score))
    assert 0 <= estimate.low <= estimate.value + 1e-4
    assert estimate.value - 1e-4 <= estimate.high <= 1


def test_the_interval_of_the_area_covers_the_truth_in_95_of_100_samples():
    rng = np.random.default_rng(0)
    truth, held = 0.8556, 0  # of two normal distributions 1.5 standard deviations apart
    for _ in range(400):
        y_true = np.arange(60) < 30
        estimate = intervals.auc(y_true, rng.normal(size=60) + 1.5 * y_true, np.arange(60))
        held += estimate.low <= truth <= estimate.high
    assert held >= 0.93 * 400


def test_a_perfect_area_has_an_interval_with_a_width():
    y_true = np.arange(50) < 25
    estimate = intervals.auc(y_true, y_true.astype(float), np.arange(50))
    assert estimate.value == estimate.high == 1
    assert 0.8 < estimate.low < 0.95


@pytest.mark.parametrize("factor", [1.0, 1.7])
def test_newcombes_limits_are_1_96_of_their_own_standard_errors_from_the_area(factor):
    """Method 5 of Newcombe 2006: both numbers of patients are replaced by their mean."""
    m, n, value = 12, 30, 0.8
    for limit in intervals.newcombe(value, m, n, factor):
        more = ((m + n) / 2 - 1) * ((1 - limit) / (2 - limit) + limit / (1 + limit))
        error = np.sqrt(factor * limit * (1 - limit) * (1 + more) / (m * n))
        assert abs(limit - value) == pytest.approx(1.959964 * error, abs=2e-4)
    low, high = intervals.newcombe(value, m, n, factor)
    assert 0 < low < value < high < 1


def test_sensitivity_is_that_of_the_positive_class_whatever_its_label():
    y_true, y_pred = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 0])
    result = metrics.evaluate(y_true, y_pred, ("apple", "covid"), 1, np.arange(5))
    assert (result.sensitivity.count, result.sensitivity.total) == (2, 3)
    assert (result.specificity.count, result.specificity.total) == (2, 2)


def test_the_printed_block_names_its_axes_and_counts():
    y = np.array([0] * 5 + [1] * 5)
    result = metrics.evaluate(y, y, ("covid", "normal"), 0, np.arange(10))
    text = format_classification(result, ("covid", "normal"))
    assert "row: truth, column: prediction" in text
    assert "sensitivity: 1.0000  5/5  (95 % interval 0.48 to 1.00)" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_share_counts_patients_as_soon_as_one_has_two_images(n):
    """Five patients, all right: n images of the first make the sixth image no sixth patient."""
    groups = np.repeat(np.arange(5), [n, 1, 1, 1, 1])
    estimate = intervals.share(np.ones(len(groups), bool), groups)
    assert (estimate.count, estimate.total) == (4 + n, 4 + n)
    assert (estimate.low, estimate.high) == pytest.approx(intervals.clopper_pearson(5, 5))


def of_patients(images, positives, negatives):
    """Truth, scores and patients of `images` copies of one image a patient, given its score."""
    score = np.array([*positives, *negatives], float)
    y_true = np.arange(len(score)) < len(positives)
    return (np.repeat(x, images) for x in (y_true, score, np.arange(len(score))))


MIXED = np.linspace(0.2, 0.9, 12), np.linspace(0.1, 0.8, 17)
PERFECT = [0.9] * 6, [0.1] * 9
# Most of the uncertainty is that of seven patients, two of them below every other image.
FEW_POSITIVES = [0.9] * 5 + [0.1] * 2, np.linspace(0.4, 0.6, 60)
COHORTS = pytest.mark.parametrize("scores", [MIXED, PERFECT, FEW_POSITIVES])


@COHORTS
def test_copies_of_every_patients_image_narrow_no_areas_interval(scores):
    holdout = intervals.auc(*of_patients(1, *scores))
    for images in (2, 6):
        copied = intervals.auc(*of_patients(images, *scores))
        assert (copied.low, copied.high) == pytest.approx((holdout.low, holdout.high), abs=0.06)
        assert copied.low <= holdout.low + 1e-6
        assert copied.high >= holdout.high - 1e-6


@COHORTS
def test_copies_of_every_patients_image_narrow_no_difference_of_areas(scores):
    found = []
    for images in (1, 6):
        y_true, score, groups = of_patients(images, *scores)
        other = np.random.default_rng(3).uniform(size=groups.max() + 1)[groups]
        found.append(intervals.auc_difference(y_true, score, other, groups))
    holdout, copied = found
    assert holdout.low < holdout.value < holdout.high
    assert (copied.low, copied.high) == pytest.approx((holdout.low, holdout.high))


def test_an_areas_interval_is_delongs_where_few_patients_decide_it():
    """By hand: the positives' placements are 1 (five times) and 0 (twice), all negatives' 5/7; the
    variance is corrected for the 7 patients of the class that varies (Obuchowski 1997)."""
    y_true, score, groups = of_patients(4, [0.9] * 5 + [0.1] * 2, np.linspace(0.4, 0.6, 6))
    estimate = intervals.auc(y_true, score, groups)
    mean = 5 / 7
    deviation = np.sqrt(7 / 6 * mean * (1 - mean) / 7)
    step = 1.959964 * deviation / (mean * (1 - mean))
    low, high = 1 / (1 + np.exp(-(np.log(mean / (1 - mean)) + step * np.array([-1, 1]))))
    assert estimate.value == pytest.approx(mean)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_scores_that_differ_only_within_patients_go_wholly_together():
    """The second score is the first with each patient's two images exchanged: the two areas err as
    one, so all that is left of their intervals is by how much they are lopsided."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(15), 2)
    y_true = groups < 6
    score = rng.normal(size=30) + y_true
    area = intervals.auc(y_true, score, groups)
    found = intervals.auc_difference(y_true, score, score.reshape(15, 2)[:, ::-1].ravel(), groups)
    left = abs((area.high - area.value) - (area.value - area.low))
    assert 0 < left < 0.2
    assert (found.value, found.low, found.high) == pytest.approx((0, -left, left), abs=1e-6)


def score_repeats(y_true, probabilities, fold, groups, positive, threshold=None, scores=None):
    names = ("a", "b", "c")
    labelled = metrics.LabelledProbabilities(
        y_true, probabilities, groups, positive, threshold, names
    )
    return metrics.score_repeats(labelled, probabilities if scores is None else scores, fold)


def test_repeats_narrow_no_interval():
    rng = np.random.default_rng(0)
    y_true = np.repeat([0, 1, 2], [8, 10, 16])
    probabilities = rng.dirichlet([1, 1, 1], 34)[None]
    fold, groups = np.zeros((1, 34), int), np.arange(34) // 2
    holdout = score_repeats(y_true, probabilities, fold, groups, 1)
    often = score_repeats(y_true, np.repeat(probabilities, 9, 0), fold.repeat(9, 0), groups, 1)
    for name in ("accuracy", "sensitivity", "specificity", "auc"):
        first, second = getattr(holdout, name), getattr(often, name)
        expected = first.value, first.low, first.high
        assert (second.value, second.low, second.high) == pytest.approx(expected)


def test_copies_of_every_patients_images_narrow_no_cross_validated_interval():
    rng = np.random.default_rng(0)
    y_true = np.repeat([0, 1, 2], [8, 10, 16])
    probabilities, fold = rng.dirichlet([1, 1, 1], (1, 34)), np.zeros((1, 34), int)
    found = []
    for images in (1, 5):
        chosen = np.repeat(np.arange(34), images)
        cohort = y_true[chosen], probabilities[:, chosen], fold[:, chosen], chosen
        found.append(score_repeats(*cohort, 1))
    for name in ("accuracy", "sensitivity", "specificity", "auc"):
        holdout, copied = (getattr(scores, name) for scores in found)
        assert (copied.low, copied.high) == pytest.approx((holdout.low, holdout.high), abs=0.06)
        assert copied.low <= holdout.low + 1e-6
        assert copied.high >= holdout.high - 1e-6


def test_scores_of_three_repeats_worked_out_by_hand():
    """Three classes, the last one positive; folds of unequal size, numbered on through repeats."""
    y_true = np.array([0, 0, 1, 2, 2, 2, 2])
    predicted = np.array(
        [
            [0, 1, 1, 2, 2, 2, 0],  # right: y n y y y y n
            [2, 0, 1, 2, 0, 1, 2],  # right: n y y y n n y
            [0, 0, 0, 2, 2, 0, 1],  # right: y y n y y n n
        ]
    )
    fold = np.array([[0, 0, 0, 1, 1, 1, 1], [2, 3, 3, 3, 2, 2, 2], [4, 4, 5, 5, 5, 4, 4]])
    probabilities = 0.1 + 0.7 * np.eye(3)[predicted]
    scores = score_repeats(y_true, probabilities, fold, np.arange(7), 2)
    by_hand = [2 / 3, 3 / 4, 1 / 4, 3 / 3, 2 / 4, 2 / 3]
    assert scores.fold_accuracy.tolist() == pytest.approx(by_hand)
    assert scores.accuracy.value == pytest.approx((5 + 4 + 4) / 21)
    assert scores.sensitivity.value == pytest.approx((3 + 2 + 2) / 12)
    assert scores.specificity.value == pytest.approx((3 + 2 + 3) / 9)
    areas = [roc_auc_score(y_true == 2, p[:, 2]) for p in probabilities]
    assert scores.auc.value == pytest.approx(np.mean(areas))
    single = scores.fold_accuracy
    text = f"from {single.min():.2f} to {single.max():.2f}"
    regions = compare_regions(
        y_true == 2, dict.fromkeys(REGION_NAMES, probabilities[:, :, 2]), np.arange(7), y_true < 2
    )
    shown = probabilities[:, :, 2]
    result = CrossValidationResult(
        2, 3, y_true, y_true == 2, {}, {}, fold, shown, None, scores, regions
    )
    assert text in format_cross_validation(result)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_no_score_depends_on_which_label_the_positive_class_has(order):
    rng = np.random.default_rng(0)
    y_true, groups = np.repeat([0, 1, 2], [6, 9, 20]), np.arange(35) // 2
    probabilities, fold = rng.dirichlet([1, 1, 1], (2, 35)), rng.integers(0, 3, (2, 35))
    label = np.argsort(order)  # old label -> new label
    names = np.array(["a", "b", "c"])
    holdout = score_repeats(y_true, probabilities, fold, groups, 0)
    again = score_repeats(label[y_true], probabilities[..., order], fold, groups, label[0])
    for name in ("accuracy", "sensitivity", "specificity", "auc"):
        assert getattr(holdout, name) == getattr(again, name)
    for threshold in (0.3, 0.5, 0.7):
        called = metrics.decide(probabilities[0], 0, threshold)
        relabelled = metrics.decide(probabilities[0][:, order], label[0], threshold)
        np.testing.assert_array_equal(label[called], relabelled)
        first = metrics.evaluate(y_true, called, names, 0, groups)
        second = metrics.evaluate(label[y_true], relabelled, names[[*order]], label[0], groups)
        for name in ("accuracy", "sensitivity", "specificity"):
            assert getattr(first, name) == getattr(second, name)
        np.testing.assert_array_equal(first.confusion[np.ix_(order, order)], second.confusion)


def test_the_positive_class_is_called_from_the_threshold_on_and_else_the_likeliest_other():
    probabilities = np.array(
        [[0.3, 0.4, 0.3], [0.5, 0.39, 0.11], [0.1, 0.39, 0.51], [0.2, 0.8, 0.0]]
    )
    assert metrics.decide(probabilities, 1, 0.4).tolist() == [1, 0, 2, 1]
    assert metrics.decide(probabilities, 1, 0.9).tolist() == [0, 0, 2, 0]


def test_without_a_threshold_the_most_probable_class_is_predicted():
    probabilities = np.array([[[0.3, 0.4, 0.3], [0.5, 0.39, 0.11]], [[0.1, 0.39, 0.51], [0, 1, 0]]])
    assert metrics.decide(probabilities, 1, None).tolist() == [[1, 0], [2, 1]]


def test_a_cross_validation_is_scored_at_the_threshold():
    """Four images, two positive (label 1) at 0.4 and 0.6, two negative at 0.3 and 0.5."""
    y_true, score = np.array([1, 1, 0, 0]), np.array([0.4, 0.6, 0.3, 0.5])
    probabilities = np.stack([1 - score, score], axis=1)[None]
    fold = np.zeros((1, 4), int)
    found = [
        (scores.sensitivity.value, scores.specificity.value)
        for threshold in (None, 0.35, 0.55)
        for scores in [score_repeats(y_true, probabilities, fold, np.arange(4), 1, threshold)]
    ]
    # A tie of 0.5 goes to the first class.
    assert found == [(0.5, 1.0), (1.0, 0.5), (0.5, 1.0)]


def test_decisions_that_recalibration_changed_are_counted_by_the_mean_of_the_repeats():
    y_true, fold = np.array([0, 1, 2]), np.zeros((2, 3), int)
    scores = np.tile(0.1 + 0.7 * np.eye(3), (2, 1, 1))
    recalibrated = scores.copy()
    recalibrated[0, 0] = [0.2, 0.5, 0.3]
    found = score_repeats(y_true, recalibrated, fold, np.arange(3), 1, scores=scores)
    assert found.changed == 0.5


def test_predictive_values_worked_out_by_hand():
    """Of 1,000 patients 100 are positive, of whom 80 are found; 90 of the others are wrong."""
    sensitivity, specificity = Estimate(0.8, 0.6, 0.9), Estimate(0.9, 0.8, 0.95)
    found = metrics.predictive_values(sensitivity, specificity, 0.1)
    ppv, npv = found["PPV at prevalence 0.1"], found["NPV at prevalence 0.1"]
    assert ppv.value == pytest.approx(80 / (80 + 90))
    assert (ppv.low, ppv.high) == pytest.approx((60 / (60 + 180), 90 / (90 + 45)))
    assert npv.value == pytest.approx(810 / (810 + 20))
    assert (npv.low, npv.high) == pytest.approx((720 / (720 + 40), 855 / (855 + 10)))
    assert metrics.predictive_values(sensitivity, None, 0.1) == {}
    assert metrics.predictive_values(sensitivity, specificity, None) == {}
    never = metrics.predictive_values(Estimate(0, 0, 0.3), Estimate(1, 0.8, 1), 0.1)
    assert np.isnan(never["PPV at prevalence 0.1"].value)  # nobody is classified as positive


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=25),
    st.lists(st.integers(0, 9), min_size=1, max_size=25),
    st.integers(1, 3),
    st.sampled_from([0.05, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99]),
)
@settings(deadline=None)
def test_the_threshold_is_the_lowest_of_the_highest_specificity_that_keeps_the_sensitivity(
    positives, negatives, repeats, level
):
    """Over all repeats; and the specificity told with it is the one at that threshold."""
    n = len(positives)
    score = np.array([*positives, *negatives]) / 10
    y_score = np.stack([np.roll(score, r) for r in range(repeats)])
    y_true = np.arange(len(score)) < n
    threshold, specificity = metrics.threshold_for(y_score, y_true, level)
    called = y_score >= threshold
    assert called[:, y_true].mean() >= level - 1e-9
    assert specificity == pytest.approx((~called[:, ~y_true]).mean())
    for other in np.unique(y_score[:, y_true]):
        kept = (y_score[:, y_true] >= other).mean() >= level - 1e-9
        found = (y_score[:, ~y_true] < other).mean()
        assert found <= specificity + 1e-9 or not kept
        assert other >= threshold or found < specificity


@pytest.mark.parametrize("stratified", [False, True])
def test_the_bootstrap_draws_all_images_of_a_patient_together(stratified):
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4])
    y_true = np.isin(groups, [0, 1])
    drawn = []

    def statistic(weights):
        drawn.append(weights)
        return 0.0

    rng = np.random.default_rng(0)
    strata = np.zeros(len(groups), int) if stratified else None
    intervals.bootstrap(statistic, y_true, groups, rng, strata=strata, resamples=200)
    for weights in drawn:
        patients = [set(weights[groups == group]) for group in range(5)]
        assert all(len(counts) == 1 for counts in patients)
        assert sum(count for (count,) in patients) == 5
    positive = {int(weights[[0, 3]].sum()) for weights in drawn}
    assert (positive == {2}) is stratified


def test_the_interval_of_a_mean_is_the_one_of_the_normal_distribution():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    estimate = intervals.bootstrap(
        lambda weights: np.average(values, weights=weights),
        np.arange(400) < 200,
        np.arange(400),
        rng,
    )
    margin = 1.96 * values.std() / 20
    assert estimate.value == pytest.approx(values.mean())
    expected = (values.mean() - margin, values.mean() + margin)
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=0.02)


def test_quartiles_are_those_of_the_values():
    found = intervals.Quartiles.of([0.1, 0.5, 0.2, 0.4, 0.3])
    assert (found.lower, found.median, found.upper) == pytest.approx((0.2, 0.3, 0.4))
    assert str(found) == "0.30 (quartiles 0.20 to 0.40; n = 5)"


def test_the_regions_are_compared_on_the_same_images():
    truth, groups = np.arange(12) % 2 == 1, np.arange(12)
    scores = {
        "whole": truth * 1.0,
        "lungs": truth * 1.0,
        "outside": np.tile([0.4, 0.6, 0.6, 0.4], 3),
    }
    found = compare_regions(truth, scores, groups, found=np.arange(12) < 9)
    expected = intervals.auc_difference(truth, scores["lungs"], scores["outside"], groups)
    assert found.difference == expected
    assert (found.lungs.value, found.outside.value, found.difference.value) == (1.0, 0.5, 0.5)
    assert (found.found, found.total) == (9, 12)


def test_regions_of_a_cross_validation_have_the_intervals_of_one():
    truth, groups = np.arange(40) < 20, np.arange(40) // 2
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=(2, 40)) + truth for name in REGION_NAMES}
    found = compare_regions(truth, scores, groups, found=truth)
    assert found.patients == 20
    for name in REGION_NAMES:
        assert getattr(found, name) == intervals.auc(truth, scores[name], groups, True)
    pair = scores["lungs"], scores["outside"]
    assert found.difference == intervals.auc_difference(truth, *pair, groups, True)


def test_the_p_value_of_a_region_follows_from_its_interval_and_counts_three_regions():
    """By hand: where the interval of the log-odds of the area begins d below an area of log-odds x,
    the standard error is d / 1.96 and p that of a normal x / (d / 1.96), times three."""
    truth, groups = np.arange(40) < 20, np.arange(40)
    scores = {"whole": truth + 2 * np.random.default_rng(4).normal(size=40)}
    scores |= {"lungs": truth * 1.0, "outside": truth * -1.0}
    found = compare_regions(truth, scores, groups, found=truth)
    area = found.whole
    assert 0.6 < area.value < 0.8
    assert found.p_values["whole"] == pytest.approx(3 * p_by_hand(area.value, area.low))
    assert found.p_values["lungs"] == pytest.approx(3 * p_by_hand(1 - 1e-4, found.lungs.low))
    assert found.p_values["outside"] == 1


def p_by_hand(value, low):
    odds = [np.log(area / (1 - area)) for area in (value, low)]
    return norm.sf(1.959964 * odds[0] / (odds[0] - odds[1]))


def test_predicted_labels_are_counted_by_class_even_where_one_is_absent():
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    found = metrics.evaluate(truth, predicted, ("covid", "normal", "other"), 0, np.arange(4))
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert (found.accuracy.count, found.accuracy.total) == (3, 4)
    assert (found.sensitivity.count, found.sensitivity.total) == (2, 3)
    assert (found.specificity.count, found.specificity.total) == (1, 1)
    rows = {line.split()[0]: line.split()[1:] for line in found.report.splitlines() if line.strip()}
    assert rows["covid"] == ["1.00", "0.67", "0.80", "3"]
    assert "other" not in rows  # no average counts a class that no image has
    assert rows["macro"][1:] == ["0.75", "0.83", "0.73", "4"]


def test_scores_at_fixed_levels_count_patients():
    rng = np.random.default_rng(0)
    is_positive = np.arange(40) % 2 == 0
    score = is_positive + rng.normal(size=40)
    five, patients = np.repeat(np.arange(40), 5), np.repeat(np.arange(40), 5)
    once, often, apart = (
        metrics.scores_at_fixed_levels(*arguments, np.random.default_rng(1))
        for arguments in (
            (is_positive, score, np.arange(40)),
            (is_positive[five], score[five], patients),
            (is_positive[five], score[five], np.arange(200)),
        )
    )
    for name, estimate in once.items():
        width = estimate.high - estimate.low
        assert often[name].high - often[name].low == pytest.approx(width, rel=0.2)
        assert apart[name].high - apart[name].low < 0.8 * width


def test_an_estimate_that_is_no_proportion_has_no_counts():
    assert str(metrics.Estimate(0.75, 0.5, 0.9)) == "0.7500  (95 % interval 0.50 to 0.90)"
    counted = metrics.Estimate(0.75, 0.5, 0.9, 3, 4)
    assert str(counted) == "0.7500  3/4  (95 % interval 0.50 to 0.90)"

"""Tests of the scores of external images, against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from covidxray.data.manifest import ManifestRow
from covidxray.evaluation.calibration import calibrate, calibration_curve, calibration_line
from covidxray.evaluation.external_scores import age_band, score_external, subgroup_values
from covidxray.evaluation.intervals import Estimate, clopper_pearson
from covidxray.evaluation.metrics import LabelledProbabilities, threshold_for
from covidxray.evaluation.recalibration import class_weights
from covidxray.report import external

CLASSES = ("covid", "normal")


def scored(is_positive, score, *, groups=None, parts=None, threshold=0.5):
    """Score probabilities of covid; each image is a patient unless `groups` says otherwise."""
    is_positive, score = np.asarray(is_positive, bool), np.asarray(score, float)
    groups = np.arange(len(score)) if groups is None else np.asarray(groups)
    probabilities = np.stack([score, 1 - score], axis=1)
    labels = np.where(is_positive, 0, 1)
    scores = LabelledProbabilities(labels, probabilities, groups, 0, threshold, CLASSES)
    return score_external(scores, parts or {}, np.random.default_rng(0))


def calibrated(is_positive, score):
    is_positive, score = np.asarray(is_positive, bool), np.asarray(score, float)
    weights = class_weights(is_positive)
    return calibrate(is_positive, score, weights, np.arange(len(score)), np.random.default_rng(0))


def curve_of(y_true, y_score):
    return calibration_curve(y_true, np.asarray(y_score), class_weights(y_true))


def sensitivity_at(y_true, score, specificity):
    """The sensitivity at the best threshold that keeps a specificity: the classes swapped."""
    return threshold_for(-score, ~y_true, specificity)[1]


NEGATIVES = np.arange(10) / 10  # 0.0 to 0.9


@pytest.mark.parametrize(
    ("specificity", "expected"),
    # One of ten negatives may be classified as positive at 0.90, none at 0.95.
    [(0.90, 3 / 4), (0.95, 2 / 4), (0.80, 4 / 4)],
)
def test_the_sensitivity_is_the_one_at_a_threshold_that_keeps_the_specificity(
    specificity, expected
):
    score = np.array([*NEGATIVES, 0.75, 0.85, 0.95, 0.99])
    y_true = np.arange(14) >= 10
    assert sensitivity_at(y_true, score, specificity) == expected


def test_a_threshold_that_finds_too_many_negatives_is_not_used():
    # At a threshold of 0.8, three of ten negatives would be positive; only 0.9 lies above.
    score = np.array([0.1] * 7 + [0.8] * 3 + [0.8, 0.8, 0.9])
    y_true = np.arange(13) >= 10
    assert sensitivity_at(y_true, score, 0.80) == pytest.approx(1 / 3)
    assert sensitivity_at(y_true, score, 0.70) == 1


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_the_sensitivity_is_the_best_of_all_thresholds_that_keep_the_specificity(
    negatives, positives, level
):
    negative, positive = np.array(negatives), np.array(positives)
    score = np.concatenate([negative, positive]).astype(float)
    y_true = np.arange(len(score)) >= len(negative)
    kept = [t for t in range(7) if (negative < t).mean() >= level - 1e-12]
    best = max((positive >= t).mean() for t in kept)
    assert sensitivity_at(y_true, score, level) == pytest.approx(best)


def test_sensitivity_and_specificity_at_fixed_levels_mirror_each_other():
    score = np.array([*NEGATIVES, *NEGATIVES, *[0.75, 0.85, 0.95, 0.99] * 5])
    y_true = np.arange(40) >= 20
    fixed, mirror = scored(y_true, score).fixed, scored(~y_true, 1 - score).fixed
    assert list(fixed) == [
        f"{name} at {other} {level}"
        for name, other in (("sensitivity", "specificity"), ("specificity", "sensitivity"))
        for level in ("0.90", "0.95")
    ]
    assert fixed["sensitivity at specificity 0.90"].value == 3 / 4
    for level in ("0.90", "0.95"):
        here = fixed[f"specificity at sensitivity {level}"]
        there = mirror[f"sensitivity at specificity {level}"]
        assert here.value == there.value


def test_a_perfect_score_has_an_interval_with_a_width():
    fixed = scored([True] * 10 + [False] * 20, [0.9] * 10 + [0.1] * 20).fixed
    estimate = fixed["sensitivity at specificity 0.95"]
    assert (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(0.69, abs=0.01)


def test_a_level_that_too_few_patients_can_keep_has_no_score():
    """One of 10 patients is 10 %: 9 of 10 can be kept, and 19 of 20 only where there are 20."""
    fixed = scored([True] * 19 + [False] * 10, [0.9] * 19 + [0.1] * 10).fixed
    assert list(fixed) == ["sensitivity at specificity 0.90", "specificity at sensitivity 0.90"]
    assert scored([True] * 9 + [False] * 9, [0.9] * 9 + [0.1] * 9).fixed == {}


def test_probabilities_that_come_true_as_often_as_they_say_have_no_calibration_error():
    # Of ten images at 0.2 two are positive, and of ten at 0.8 eight.
    is_positive = [True] * 2 + [False] * 8 + [True] * 8 + [False] * 2
    found = calibrated(is_positive, [0.2] * 10 + [0.8] * 10)
    assert found.error == pytest.approx(0)
    assert found.brier.value == pytest.approx(0.16)
    filled = {(b.count, round(b.predicted, 6), round(b.observed, 6)) for b in found.bins if b.count}
    assert filled == {(10, 0.2, 0.2), (10, 0.8, 0.8)}
    assert {(b.low, b.high) for b in found.bins if not b.count} == {(0, 1)}


def test_brier_score_and_calibration_error_worked_out_by_hand():
    found = calibrated([True, False, False, True], [0.9, 0.7, 0.1, 1.0])
    assert found.brier.value == pytest.approx((0.01 + 0.49 + 0.01 + 0.0) / 4)
    # Bins: 0.1 (no positive), 0.7 (no positive), 0.9 and 1.0 (both positive).
    assert found.error == pytest.approx((0.1 + 0.7 + 2 * 0.05) / 4)
    assert sum(b.count for b in found.bins) == 4


def test_a_certain_model_that_is_always_wrong_has_the_worst_score_and_error():
    found = calibrated([True, False], [0.0, 1.0])
    assert (found.brier.value, found.error) == (1, 1)


def test_repeats_are_pooled_in_the_calibration_curve_and_an_image_counts_as_one():
    y_true = np.array([True, True, False, False])
    repeats = np.array([[0.75, 0.75, 0.25, 0.25], [0.85, 0.75, 0.25, 0.15]])
    curve = [(b.count, b.predicted, b.observed) for b in curve_of(y_true, repeats) if b.count]
    expected = [(0.5, 0.15, 0), (1.5, 0.25, 0), (1.5, 0.75, 1), (0.5, 0.85, 1)]
    np.testing.assert_allclose(curve, expected)


def test_identical_repeats_have_the_calibration_curve_of_one():
    rng = np.random.default_rng(0)
    y_true, score = np.arange(30) < 12, rng.uniform(size=30)
    once, often = curve_of(y_true, score), curve_of(y_true, [score] * 8)
    assert sum(b.count for b in once) == 30
    assert [b.count for b in once] == pytest.approx([b.count for b in often])
    assert [b.observed for b in once] == pytest.approx([b.observed for b in often])
    assert [b.predicted for b in once] == pytest.approx([b.predicted for b in often])


def test_each_class_has_the_same_weight_in_the_calibration():
    """30 images at 0.7, which are all of 10 positive and 20 of 40 negative ones, and 20 at 0.1."""
    y_true = np.arange(50) < 10
    score = np.where(np.arange(50) < 30, 0.7, 0.1)
    found = calibrated(y_true, score)
    filled = [b for b in found.bins if b.count]
    assert [b.count for b in filled] == [20, 30]
    assert [b.observed for b in filled] == pytest.approx([0, 1 / 1.5])
    assert found.error == pytest.approx(0.25 * 0.1 + 0.75 * (0.7 - 1 / 1.5))
    low, high = clopper_pearson(10, 30)  # where classes are equally common, odds are four times
    expected = [4 * bound / (1 + 3 * bound) for bound in (low, high)]
    assert [filled[1].low, filled[1].high] == pytest.approx(expected)


def test_the_calibration_line_is_that_of_logistic_regression():
    rng = np.random.default_rng(3)
    y_true = rng.uniform(size=(80,)) < 0.3
    odds = rng.normal(size=80) + y_true
    weights = class_weights(y_true)
    line = calibration_line(y_true, 1 / (1 + np.exp(-odds)), weights)
    reference = LogisticRegression(C=np.inf, tol=1e-8)
    reference.fit(odds[:, None], y_true, sample_weight=weights * 80)
    assert line == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), abs=1e-3)


def test_classes_that_do_not_overlap_have_no_calibration_line():
    y_true = np.arange(6) < 3
    weights = class_weights(y_true)
    assert calibration_line(y_true, np.where(y_true, 0.6, 0.4), weights) is None
    touching = np.array([0.5, 0.7, 0.9, 0.1, 0.3, 0.5])
    assert calibration_line(y_true, touching, weights) is None
    assert calibration_line(np.ones(6, bool), np.full(6, 0.5), np.ones(6)) is None


def test_subgroups_count_their_images_and_unknown_values_come_last():
    parts = {"sex": ["M", "F", "", "M", "F", "F"], "view": [""] * 6, "trained on": []}
    found = scored(
        [True, True, True, False, False, False], [0.9, 0.2, 0.9, 0.1, 0.1, 0.6], parts=parts
    )
    named = {(s.kind, s.value): s for s in found.subgroups}
    assert list(named) == [("sex", "F"), ("sex", "M"), ("sex", "unknown")]
    women, unknown = named["sex", "F"], named["sex", "unknown"]
    assert (women.n, women.positives) == (3, 1)
    assert (women.sensitivity.count, women.sensitivity.total) == (0, 1)
    assert (women.specificity.count, women.specificity.total) == (1, 2)
    assert women.auc.value == 0.5
    assert (unknown.n, unknown.positives) == (1, 1)
    assert unknown.sensitivity.value == 1
    assert unknown.specificity is unknown.auc is None


def test_training_images_are_a_subgroup_only_if_there_are_any():
    rows = [
        ManifestRow("a.png", "s", "a", "1", view="PA", age="61", sex="F"),
        ManifestRow("b.png", "s", "b", "2"),
    ]
    assert subgroup_values(rows, [True, False]) == {
        "source": ["s", "s"],
        "site": ["", ""],
        "sex": ["F", ""],
        "age": ["60-79", ""],
        "view": ["PA", ""],
        "trained on": ["yes", "no"],
    }
    assert subgroup_values(rows, [False, False])["trained on"] == []


def test_a_site_is_a_subgroup_from_five_images_on():
    sites = ["a"] * 5 + ["b"] * 4 + [""]
    rows = [ManifestRow(f"{i}.png", "s", "", "", site=site) for i, site in enumerate(sites)]
    found = subgroup_values(rows, [False] * 10)["site"]
    assert found == ["a"] * 5 + ["(small sites)"] * 4 + [""]


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "0-17"),
        ("17.9", "0-17"),
        ("18", "18-39"),
        ("40", "40-59"),
        ("59", "40-59"),
        ("60", "60-79"),
        ("80", "80+"),
        ("104", "80+"),
        ("", ""),
        ("adult", ""),
        ("nan", ""),
        ("-3", ""),
        ("411", ""),
    ],
)
def test_age_bands(age, band):
    assert age_band(age) == band


@pytest.mark.parametrize("truth", [True, False])
def test_images_of_one_class_get_the_scores_that_need_no_other_class(truth):
    found = scored([truth] * 4, [0.9, 0.8, 0.3, 0.1], parts={"sex": ["F", "M", "F", "M"]})
    assert found.auc is None
    assert found.fixed == {}
    evaluation, rate = found.evaluation, found.false_positive_rate
    if truth:
        assert rate is None and evaluation.specificity is None
        assert (evaluation.sensitivity.count, evaluation.sensitivity.total) == (2, 4)
    else:
        assert evaluation.sensitivity is None
        assert (rate.count, rate.total) == (2, 4)
    assert all(s.auc is None for s in found.subgroups)
    text = external.format_scores(found, CLASSES)
    assert ("false-positive rate: 0.5000  2/4" in text) is not truth
    assert "auc" not in text


def test_another_threshold_classifies_other_images_as_positive():
    is_positive, score = [True, True, False, False], [0.9, 0.3, 0.25, 0.1]
    assert scored(is_positive, score).evaluation.sensitivity.count == 1
    low = scored(is_positive, score, threshold=0.3)
    assert low.evaluation.sensitivity.count == 2
    assert low.false_positive_rate.count == 0


def test_the_printed_tables_fit_80_columns():
    rng = np.random.default_rng(0)
    is_positive = np.arange(40) % 2 == 0
    parts = {"source": ["a-hospital-of-a-rather-long-name"] * 20 + ["b"] * 20}
    found = scored(is_positive, rng.uniform(size=40), parts=parts, groups=np.arange(40) // 2)
    text = external.format_scores(found, CLASSES)
    assert max(map(len, text.splitlines())) <= 80
    for line in ("auc: ", "sensitivity at specificity 0.95: ", "brier score: ", "subgroup"):
        assert line in text


def estimates(found):
    """Every estimate among the scores of external images, by its name."""
    yield "auc", found.auc
    yield "false-positive rate", found.false_positive_rate
    yield "brier", found.calibration.brier
    for name in ("accuracy", "sensitivity", "specificity"):
        yield name, getattr(found.evaluation, name)
    yield from found.fixed.items()
    for part in found.subgroups:
        for name in ("sensitivity", "specificity", "auc"):
            yield f"{name} of {part.kind} {part.value}", getattr(part, name)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 10), st.integers(0, 6), st.sampled_from("FM")),
        min_size=1,
        max_size=25,
    )
)
@example([(i % 2 == 0, 10 * (i % 2 == 0), i, "F") for i in range(10)])
@example([(i % 10 < (2 if i < 10 else 8), 2 if i < 10 else 8, i, "M") for i in range(20)])
@settings(max_examples=25)
def test_every_interval_lies_between_0_and_1_and_holds_its_value(images):
    is_positive, score, groups, sex = map(list, zip(*images, strict=True))
    found = scored(is_positive, np.array(score) / 10, groups=groups, parts={"sex": sex})
    for name, estimate in estimates(found):
        if estimate is not None:
            assert isinstance(estimate, Estimate)
            # The area's interval is on a grid of 20000.
            assert 0 <= estimate.low <= estimate.value + 1e-4, (name, estimate)
            assert estimate.value - 1e-4 <= estimate.high <= 1, (name, estimate)


def of_patients(images, positives, negatives):
    """What is said of `images` copies of one image a patient, given each patient's score."""
    score = np.array([*positives, *negatives], float)
    groups = np.repeat(np.arange(len(score)), images)
    sex = np.array(list("FMM"))[groups % 3]
    cohort = np.arange(len(score))[groups] < len(positives), score[groups]
    return scored(*cohort, groups=groups, parts={"sex": list(sex)})


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [
        (np.linspace(0.2, 0.95, 20), np.linspace(0.05, 0.8, 30)),  # resampling decides the widths
        ([0.9] * 12, [0.1] * 15),  # the number of patients does, for nothing varies
        ([0.95] * 5 + [0.05] * 4, np.linspace(0.3, 0.6, 40)),  # nine patients do
    ],
)
def test_more_copies_of_every_patients_image_narrow_no_interval(positives, negatives):
    few, many = (dict(estimates(of_patients(n, positives, negatives))) for n in (2, 8))
    assert few.keys() == many.keys()
    for name, estimate in few.items():
        found = many[name]
        assert found.value == pytest.approx(estimate.value), name
        # Korn and Graubard's factor makes a little wider what more images of a patient say.
        assert estimate.low - 0.05 <= found.low <= estimate.low + 1e-6, name
        assert estimate.high - 1e-6 <= found.high <= estimate.high + 0.05, name


def test_a_perfect_score_of_many_images_is_as_sure_as_its_patients_are_many():
    found = of_patients(6, [0.9] * 20, [0.1] * 23).fixed
    for name, patients in (("sensitivity at specificity", 20), ("specificity at sensitivity", 23)):
        for level in ("0.90", "0.95"):
            estimate = found[f"{name} {level}"]
            low, high = clopper_pearson(patients, patients)
            assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_images_of_one_patient_are_resampled_together():
    """Eight patients of 25 images each, two of them wrong in all: a resample of 200 images, one by
    one, would have a Brier score of 0.19 to 0.31; of eight patients, it has 0 to more than 0.5."""
    groups = np.repeat(np.arange(8), 25)
    score = ((groups >= 2) & (groups < 4)).astype(float)
    y_true = groups < 4
    found = calibrate(y_true, score, class_weights(y_true), groups, np.random.default_rng(0)).brier
    assert found.value == pytest.approx(0.25)
    assert found.low == pytest.approx(0)
    assert found.high >= 0.5


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_nothing_depends_on_which_label_the_positive_class_has(order):
    rng = np.random.default_rng(0)
    y_true, groups = np.repeat([0, 1, 2], [9, 12, 30]), np.arange(51) // 2
    probabilities = rng.dirichlet([1, 1, 1], 51)
    parts = {"sex": list("FMU" * 17)}
    label = np.argsort(order)  # old label -> new label
    found = []
    for truth, columns, positive in (
        (y_true, probabilities, 0),
        (label[y_true], probabilities[:, order], int(label[0])),
    ):
        names = ("a", "b", "c") if positive == 0 else tuple("abc"[i] for i in order)
        scores = LabelledProbabilities(truth, columns, groups, positive, 0.4, names)
        found.append(score_external(scores, parts, np.random.default_rng(1)))
    holdout, again = found
    assert dict(estimates(holdout)) == dict(estimates(again))
    assert [b.count for b in holdout.calibration.bins] == [b.count for b in again.calibration.bins]
    assert holdout.calibration.line == pytest.approx(again.calibration.line)
    assert holdout.subgroups == again.subgroups
    called = holdout.evaluation.confusion
    np.testing.assert_array_equal(called[np.ix_(order, order)], again.evaluation.confusion)


def test_the_false_positive_rate_is_of_all_other_classes_and_counts_patients():
    """Six images of three patients of two other classes; those of one patient are called covid."""
    y_true, groups = np.array([0, 0, 0, 0, 2, 2, 1, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 4])
    probabilities = np.eye(3)[[0, 2, 1, 1, 2, 0, 1, 1]]
    names = "asthma", "covid", "healthy"
    scores = LabelledProbabilities(y_true, probabilities, groups, 1, 0.5, names)
    rate = score_external(scores, {}, np.random.default_rng(0)).false_positive_rate
    assert (rate.count, rate.total) == (2, 6)
    # The effective sample size is three patients less one, times the factor of Korn and Graubard.
    size = 2 * (2.5706 / 4.3027) ** 2
    expected = clopper_pearson(size / 3, size)
    assert (rate.low, rate.high) == pytest.approx(expected, abs=1e-4)


def test_the_last_bin_of_the_calibration_curve_holds_a_probability_of_1():
    curve = curve_of(np.array([True, False, True]), np.array([0.85, 0.95, 1.0]))
    assert [b.count for b in curve] == [0] * 8 + [1, 2]
    assert all(isinstance(b.count, int) for b in curve)
    # The negative image weighs as much as both positive ones.
    assert curve[9].predicted == pytest.approx((2 * 0.95 + 1.0) / 3)
    assert curve[9].observed == pytest.approx(1 / 3)


def test_the_specificity_of_a_subgroup_is_the_share_of_negatives_below_the_threshold():
    is_positive = [True, False, False, False, True, False]
    found = scored(is_positive, [0.9, 0.6, 0.2, 0.1, 0.8, 0.3], parts={"sex": list("FFFFMM")})
    women = next(part for part in found.subgroups if part.value == "F")
    assert (women.n, women.positives) == (4, 1)
    assert (women.specificity.count, women.specificity.total) == (2, 3)
    assert (women.sensitivity.count, women.sensitivity.total) == (1, 1)

"""Recalibrated probabilities come true where classes are equally common, and say no more."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from covidxray.evaluation.calibration import calibration_line
from covidxray.evaluation.recalibration import (
    at_prevalence,
    class_weights,
    fit_recalibration,
    recalibrate_out_of_fold,
)


def timid(n, positives, seed=0, strength=0.2):
    """Labels, and scores (1, n, 2) with far too small log-odds, as those of a strong penalty."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < positives).astype(int)
    odds = strength * (rng.normal(size=n) + 1.5 * (labels - 0.5))
    score = expit(odds)
    return labels, np.stack([1 - score, score], axis=1)[None]


def test_two_classes_are_recalibrated_as_by_platt():
    labels, scores = timid(60, 12)
    found = fit_recalibration(labels, scores)
    # His targets are those of a sample in which each image stands twice, with unlike weights.
    odds = np.log(scores[0, :, 1] / scores[0, :, 0])
    n = np.bincount(labels)
    target = np.where(labels == 1, (n[1] + 1) / (n[1] + 2), 1 / (n[0] + 2))
    weights = class_weights(labels)
    reference = LogisticRegression(C=np.inf, tol=1e-10)
    reference.fit(
        np.tile(odds, 2)[:, None],
        np.repeat([1, 0], 60),
        sample_weight=1e3 * np.concatenate([weights * target, weights * (1 - target)]),
    )
    slope, offset = reference.coef_[0, 0], reference.intercept_[0]
    assert found.slope == pytest.approx(slope, rel=1e-3)
    assert found.offsets[1] - found.offsets[0] == pytest.approx(offset, abs=1e-3)
    expected = expit(slope * odds + offset)
    np.testing.assert_allclose(found.apply(scores)[0, :, 1], expected, atol=1e-4)


@pytest.mark.parametrize("positives", [20, 200, 380])
def test_probabilities_come_true_for_equally_common_classes_whatever_their_shares(positives):
    labels, scores = timid(400, positives)
    found = fit_recalibration(labels, scores).apply(scores)[:, :, 1]
    slope, intercept = calibration_line(labels == 1, found, class_weights(labels))
    assert slope == pytest.approx(1, abs=0.25)
    assert intercept == pytest.approx(0, abs=0.25)
    before, _ = calibration_line(labels == 1, scores[:, :, 1], class_weights(labels))
    assert before > 3


def test_three_classes_have_one_slope_and_an_offset_each():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [150, 60, 90])
    logits = rng.normal(size=(300, 3))
    logits[np.arange(300), labels] += 1.0
    biased = softmax(0.3 * logits + [0.8, 0.0, -0.8], axis=1)[None]
    found = fit_recalibration(labels, biased)
    weights = class_weights(labels)
    for label in range(3):
        share = (weights * found.apply(biased)[0, :, label]).sum()
        assert share == pytest.approx(1 / 3, abs=0.02)
    assert found.slope > 2
    assert found.offsets[0] < found.offsets[1] < found.offsets[2]


def test_scores_that_tell_nothing_become_half_and_are_never_turned_round():
    rng = np.random.default_rng(2)
    labels, score = np.arange(40) % 2, rng.uniform(0.1, 0.9, 40)
    for turned in (score, np.where(labels == 1, 0.2, 0.8) + 0.1 * score):  # chance; worse than it
        scores = np.stack([1 - turned, turned], axis=1)[None]
        found = fit_recalibration(labels, scores).apply(scores)[0, :, 1]
        assert np.abs(found - 0.5).max() < 0.2
        assert (np.argsort(found) == np.argsort(turned)).all()


def test_classes_that_do_not_overlap_keep_finite_probabilities():
    labels = np.arange(20) % 2
    score = np.where(labels == 1, 0.55, 0.45)
    scores = np.stack([1 - score, score], axis=1)[None]
    found = fit_recalibration(labels, scores).apply(scores)[0, :, 1]
    # Platt's target for the ten images of a class.
    np.testing.assert_allclose(found, np.where(labels == 1, 11 / 12, 1 / 12), atol=1e-3)


def test_an_images_own_fold_has_no_part_in_its_probability():
    labels, scores = timid(60, 30, seed=3)
    fold = np.arange(60)[None] % 3
    mine = fold[0] == 1
    fitted = fit_recalibration(labels[~mine], scores[:, ~mine])
    for truth in (labels, np.where(mine, 1 - labels, labels)):
        found = recalibrate_out_of_fold(truth, scores, fold)
        np.testing.assert_allclose(found[0, mine], fitted.apply(scores[0, mine]), atol=1e-9)


def test_a_prevalence_multiplies_the_odds_of_equally_common_classes():
    assert at_prevalence(np.array([0.2, 0.8]), 1, 0.1)[1] == pytest.approx(4 / 9 / (1 + 4 / 9))
    np.testing.assert_allclose(at_prevalence(np.array([[0.2, 0.8]]), 0, 0.5), [[0.2, 0.8]])
    of_three = at_prevalence(np.full(3, 1 / 3), 2, 0.4)
    np.testing.assert_allclose(of_three, [0.3, 0.3, 0.4])


def test_a_prevalence_is_that_of_each_image_alone():
    rows = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    found = at_prevalence(rows, 1, 0.1)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, [at_prevalence(row, 1, 0.1) for row in rows])


def test_a_repeat_is_recalibrated_by_its_own_scores():
    labels, scores = timid(60, 30, seed=4)
    other = timid(60, 30, seed=5, strength=1.0)[1]
    fold = np.stack([np.arange(60) % 3, np.arange(60) % 2])
    both = recalibrate_out_of_fold(labels, np.concatenate([scores, other]), fold)
    for repeat, one in enumerate((scores, other)):
        alone = recalibrate_out_of_fold(labels, one, fold[repeat : repeat + 1])
        np.testing.assert_allclose(both[repeat], alone[0], atol=1e-9)


def test_three_classes_that_do_not_overlap_have_platts_targets():
    labels = np.arange(30) % 3
    scores = (0.3 + 0.1 * np.eye(3))[labels][None]
    found = fit_recalibration(labels, scores).apply(scores)[0]
    expected = np.full((30, 3), 1 / 24)
    expected[np.arange(30), labels] = 11 / 12
    np.testing.assert_allclose(found, expected, atol=1e-3)

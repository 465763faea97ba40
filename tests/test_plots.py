"""The curves show the numbers that are printed, and say them in words."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from drawings import curves
from hypothesis import given
from hypothesis import strategies as st
from pages import areas, bins
from PIL import Image
from sklearn.metrics import roc_auc_score

from covidxray.evaluation import intervals
from covidxray.report import plots

HISTORY = {
    "loss": [0.9, 0.5, 0.4, 0.35],
    "val_loss": [1.1, 0.8, 0.85, 0.7],
    "accuracy": [0.5, 0.7, 0.8, 0.95],
    "val_accuracy": [0.4, 0.6, 0.55, 0.65],
}


def history_of(drawn):
    """The values that the two curves of one axes go through, epoch by epoch from 1."""
    for curve in (drawn["training"], drawn["validation"]):
        assert curve[:, 0] == pytest.approx([1, 2, 3, 4], abs=1e-3)
    return [drawn[name][:, 1].tolist() for name in ("training", "validation")]


@pytest.mark.parametrize("key", ["loss", "accuracy"])
def test_the_curves_of_an_epoch_are_training_and_validation_as_the_legend_says(key):
    picture = plots.draw_history(HISTORY, key)
    (drawn,) = curves(picture.svg)
    expected = [HISTORY[key], HISTORY[f"val_{key}"]]
    assert np.array(history_of(drawn)) == pytest.approx(np.array(expected), abs=1e-4)
    assert [float(x) for x in re.findall(r"\d\.\d\d", picture.alt)] == pytest.approx(
        [expected[0][0], expected[0][-1], expected[1][0], expected[1][-1]], abs=0.006
    )
    assert picture.alt.startswith(f"{key.capitalize()} over 4 epochs: training from ")


def test_the_plot_of_a_run_shows_the_loss_on_the_left_and_the_accuracy_on_the_right(tmp_path):
    plots.plot_history(HISTORY, "a title", "a note", tmp_path / "plot.svg")
    svg = (tmp_path / "plot.svg").read_bytes()
    loss, accuracy = curves(svg)
    for drawn, key in ((loss, "loss"), (accuracy, "accuracy")):
        expected = [HISTORY[key], HISTORY[f"val_{key}"]]
        assert np.array(history_of(drawn)) == pytest.approx(np.array(expected), abs=1e-4)
    titles = re.findall(r"<!-- ([A-Za-z ]+) -->", svg.decode())
    assert titles.index("Loss") < titles.index("Accuracy")
    assert {"a title", "a note"} <= set(titles)


@pytest.fixture
def scored():
    """Three repeats, and one set of predictions; 8 of 20 images are positive."""
    rng = np.random.default_rng(3)
    y_true = rng.permutation(np.arange(20) < 8)
    return [
        plots.NamedScores("repeats", y_true, rng.uniform(size=(3, 20)) * (0.6 + 0.4 * y_true)),
        plots.NamedScores("one", y_true, rng.uniform(size=20)),
    ]


def test_the_drawn_roc_curves_have_the_areas_that_scikit_learn_gives(scored):
    picture = plots.draw_roc(scored)
    (drawn,) = curves(picture.svg)
    expected = {
        one.name: np.mean([roc_auc_score(one.y_true, row) for row in np.atleast_2d(one.y_score)])
        for one in scored
    }
    assert abs(expected["repeats"] - 0.5) > 0.1
    assert areas(picture.alt) == pytest.approx(expected, abs=0.006)
    for name, area in expected.items():
        curve = drawn[f"{name}, AUC {area:.2f}"]
        assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(area, abs=1e-4)


def test_the_drawn_calibration_is_mean_probability_against_share_of_positives(scored):
    picture = plots.draw_calibration(scored)
    drawn = curves(picture.svg)[0]
    (left, _), (right, _) = drawn["calibrated"]  # the diagonal from 0 to 1
    for one in scored:
        score = np.ravel(one.y_score)
        truth = np.tile(one.y_true, len(score) // 20)
        weights = np.where(truth, 1 / truth.sum(), 1 / (~truth).sum())
        which = np.minimum((10 * score).astype(int), 9)
        expected = np.array(
            [
                (
                    np.average(score[which == b], weights=weights[which == b]),
                    np.average(truth[which == b], weights=weights[which == b]),
                    (which == b).mean() * 20,
                )
                for b in np.unique(which)
            ]
        )
        assert np.array(bins(picture.alt, one.name)) == pytest.approx(expected, abs=0.051)
        places = drawn[one.name] - (left, 0)
        assert places / (right - left, 1) == pytest.approx(expected[:, :2], abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_area_under_the_drawn_curve_is_the_printed_one_ties_included(seed, repeats):
    rng = np.random.default_rng(seed)
    y_true = rng.permutation(np.arange(12) < rng.integers(1, 12))
    scores = rng.integers(0, 5, (repeats, 12)) / 4
    rates, curves = plots.mean_roc(y_true, scores)
    area = np.trapezoid(curves.mean(axis=0), rates)
    assert area == pytest.approx(intervals.auc(y_true, scores, np.arange(12)).value, abs=1e-7)


def test_the_curve_is_told_at_the_head_of_its_step():
    y_true = np.arange(10) < 5
    scores = np.array([0.9, 0.8, 0.7, 0.5, 0.1, 0.6, 0.4, 0.3, 0.2, 0.0])
    alt = plots.draw_roc([plots.NamedScores("this", y_true, scores)]).alt
    assert "sensitivity 0.60 at a false positive rate of 0.10, 0.80 at 0.20" in alt


def test_calibration_shares_out_every_image_once_whatever_the_repeats():
    rng = np.random.default_rng(0)
    y_true = np.arange(30) < 12
    scored = [
        plots.NamedScores("repeats", y_true, rng.uniform(size=(20, 30))),
        plots.NamedScores("one", y_true, rng.uniform(size=30)),
    ]
    alt = plots.draw_calibration(scored).alt
    for part in re.split("(?:repeats|one): ", alt)[1:]:
        counts = [float(n) for n in re.findall(r"found in ([\d.]+\d|\d)", part)]
        assert sum(counts) == pytest.approx(30, abs=0.5)  # each of ten counts is rounded


def test_calibration_counts_the_bins_ends():
    scored = plots.NamedScores(
        "one", np.array([False, False, True, True]), np.array([0, 0.1, 0.9, 1])
    )
    alt = plots.draw_calibration([scored]).alt
    assert "0.00 predicted and 0.00 found in 1, 0.10 predicted and 0.00 found in 1" in alt
    assert "0.95 predicted and 1.00 found in 2" in alt


@pytest.mark.parametrize("name", ["a $_{$ b", "--> <x> &"])
def test_a_name_stands_in_a_drawing_as_it_is_whatever_is_in_it(tmp_path, name):
    texts = {"svg.fonttype": "none"}  # letters as text instead of as outlines
    with matplotlib.rc_context(texts):
        plots.plot_history(HISTORY, name, "a note", tmp_path / "plot.svg")
        picture = plots.draw_roc([plots.NamedScores(name, np.arange(4) < 2, np.linspace(1, 0, 4))])
        roc = picture.svg.decode()
    for svg in ((tmp_path / "plot.svg").read_text(encoding="utf-8"), roc):
        shown = "".join(ElementTree.fromstring(svg).itertext())
        assert name in shown
    assert f"{name}: area 1.00" in picture.alt
    plots.plot_history(HISTORY, name, "a note", tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    for colour in (plots.TRAINING, plots.VALIDATION):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == rgb).all(axis=2).sum() > 100


def test_an_outline_is_on_the_border_of_its_mask_only():
    image, mask = np.full((60, 60, 3), 90, np.uint8), np.zeros((60, 60), bool)
    mask[20:40, 10:30] = True
    drawn = plots.outline(image, mask)
    changed = (drawn != image).any(axis=2)
    inner = np.zeros_like(mask)
    inner[21:39, 11:29] = True
    np.testing.assert_array_equal(changed, mask & ~inner)
    assert (image == 90).all()


def test_an_outline_is_yellow_and_heat_goes_from_the_image_to_bright_yellow():
    image = np.full((60, 60, 3), (200, 90, 10), np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[20:40, 10:30] = True
    red, green, blue = plots.outline(image, mask)[20, 10].astype(int)
    assert min(red, green) > 180 > 60 > blue
    heat = np.zeros((60, 60))
    heat[:, 30:] = 1
    shown = plots.overlay(image, heat).astype(int)
    np.testing.assert_array_equal(shown[:, :30], image[:, :30])
    hottest = shown[0, 59] - 0.35 * image[0, 59]  # the image shines through
    assert hottest[0] > 150 and hottest[1] > 150
    cooler = plots.overlay(image, heat / 2).astype(int)
    assert cooler[0, 59, 1] < shown[0, 59, 1]

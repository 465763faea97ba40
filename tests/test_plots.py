"""The curves show the numbers that are printed, and say them in words."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidxray import metrics, plots


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_area_under_the_drawn_curve_is_the_printed_one_ties_included(seed, repeats):
    rng = np.random.default_rng(seed)
    y_true = rng.permutation(np.arange(12) < rng.integers(1, 12))
    scores = rng.integers(0, 5, (repeats, 12)) / 4
    rates, curves = plots.mean_roc(y_true, scores)
    area = np.trapezoid(curves.mean(axis=0), rates)
    assert area == pytest.approx(metrics.auc(y_true, scores, np.arange(12)).value, abs=1e-7)


def test_the_curve_is_told_at_the_head_of_its_step():
    y_true = np.arange(10) < 5
    scores = np.array([0.9, 0.8, 0.7, 0.5, 0.1, 0.6, 0.4, 0.3, 0.2, 0.0])
    alt = plots.draw_roc([plots.Scored("this", y_true, scores)]).alt
    assert "sensitivity 0.60 at a false positive rate of 0.10, 0.80 at 0.20" in alt


def test_calibration_shares_out_every_image_once_whatever_the_repeats():
    rng = np.random.default_rng(0)
    y_true = np.arange(30) < 12
    scored = [
        plots.Scored("repeats", y_true, rng.uniform(size=(20, 30))),
        plots.Scored("one", y_true, rng.uniform(size=30)),
    ]
    alt = plots.draw_calibration(scored).alt
    for part in re.split("(?:repeats|one): ", alt)[1:]:
        counts = [float(n) for n in re.findall(r"found in ([\d.]+\d|\d)", part)]
        assert sum(counts) == pytest.approx(30, abs=0.3)


def test_calibration_counts_the_bins_ends():
    scored = plots.Scored("one", np.array([False, False, True, True]), np.array([0, 0.1, 0.9, 1]))
    alt = plots.draw_calibration([scored]).alt
    assert "0.05 predicted and 0.00 found in 2, 0.95 predicted and 1.00 found in 2" in alt


@pytest.mark.parametrize("name", ["a $_{$ b", "--> <x> &"])
def test_a_folder_may_have_any_name(tmp_path, name):
    history = {key: [0.5, 0.6] for key in ("loss", "val_loss", "accuracy", "val_accuracy")}
    plots.plot_history(history, name, "a note", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    picture = plots.draw_roc([plots.Scored(name, np.arange(4) < 2, np.linspace(1, 0, 4))])
    ElementTree.fromstring(picture.svg)
    assert f"{name}: area 1.00" in picture.alt


def test_an_outline_is_on_the_border_of_its_mask_only():
    image, mask = np.full((60, 60, 3), 90, np.uint8), np.zeros((60, 60), bool)
    mask[20:40, 10:30] = True
    drawn = plots.outline(image, mask)
    changed = (drawn != image).any(axis=2)
    inner = np.zeros_like(mask)
    inner[21:39, 11:29] = True
    np.testing.assert_array_equal(changed, mask & ~inner)
    assert (image == 90).all()

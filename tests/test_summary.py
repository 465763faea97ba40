"""What a run found, gathered for the terminal, JSON and the report."""

import json
import math
import sys
from importlib.metadata import version
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import PIL
import pytest
import sklearn

from covidxray import summary
from covidxray.baselines import READS
from covidxray.classifier import Prediction
from covidxray.metrics import Estimate

LOW, MIDDLE, HIGH = Estimate(0.55, 0.4, 0.7), Estimate(0.80, 0.7, 0.9), Estimate(0.95, 0.9, 1.0)
HEAD = "The shortcut does as well"


def shortcut(auc, alarm, what="an 8x8 thumbnail alone"):
    """An audit, as far as a summary reads it."""
    best = SimpleNamespace(name="thumbnail", what=what, auc=auc)
    return SimpleNamespace(best=best, alarm=alarm, verdict="The verdict of the audit. " * 8)


@pytest.mark.parametrize(
    ("model", "found", "warned"),
    [
        (MIDDLE, shortcut(HIGH, True), True),
        (HIGH, shortcut(MIDDLE, True), False),
        (MIDDLE, shortcut(MIDDLE, True), True),
        (MIDDLE, shortcut(LOW, False), False),
        (LOW, shortcut(LOW, False), False),  # no alarm: both are near chance
    ],
)
def test_a_shortcut_as_good_as_the_model_is_said_to_be(model, found, warned):
    sentence = summary.compare("cross-validated ", model, found)
    assert (HEAD in sentence) is warned
    assert f"The model's cross-validated AUC is {model.value:.2f} (" in sentence
    assert f"{found.best.auc.value:.2f} (" in sentence


def test_without_an_area_of_the_model_the_shortcut_stands_alone():
    sentence = summary.compare("", None, shortcut(HIGH, True))
    assert sentence.startswith("Of the shortcuts, ")
    assert "0.95 (0.90 to 1.00)" in sentence


@pytest.mark.parametrize("what", READS.values())
def test_no_word_is_said_twice(what):
    for model in (None, HIGH):
        words = summary.compare("", model, shortcut(LOW, False, what)).split("reaches")[0]
        assert words.count("alone") <= 1


def test_the_shortcuts_lines_fit_80_columns():
    found = shortcut(HIGH, True)
    text = summary.format_shortcut(found, summary.compare("cross-validated ", LOW, found))
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"best shortcut auc: {HIGH}  thumbnail")


def test_json_takes_arrays_numbers_of_numpy_and_paths(tmp_path):
    path = tmp_path / "x.json"
    found = {"n": np.int64(3), "x": np.arange(2), "share": np.float32(0.5), "path": tmp_path}
    summary.write_json(path, found)
    expected = {"n": 3, "x": [0, 1], "share": 0.5, "path": str(tmp_path)}
    assert json.loads(path.read_text()) == expected
    assert list(tmp_path.iterdir()) == [path]


def prediction(probability, heat=1.0):
    """A prediction of covid (0) with that probability, with an even heat."""
    label = 0 if probability >= 0.5 else 1
    image = np.zeros((224, 224, 3), np.uint8)
    warm = np.full((224, 224), heat, np.float32)
    both = np.array([probability, 1 - probability])
    lungs = np.zeros((224, 224), bool)
    lungs[:112] = True
    scores = {"whole": both[0], "lungs": 0.5, "outside": 0.5}
    return Prediction(image, both, scores, label, 0.5, "", lungs, True, warm)


def test_the_gallery_keeps_the_surest_cases_the_wrong_ones_first():
    gallery = summary.Gallery(("covid", "normal"), 0)
    for i in range(10):
        gallery.add(f"right-{i}", 0, prediction(0.5 + i / 20))
    gallery.add("wrong-sure", 1, prediction(0.9))
    gallery.add("wrong-unsure", 0, prediction(0.45))
    names = [case.name for case in gallery.cases]
    surest = [f"right-{i}" for i in (9, 8, 7, 6)]
    assert names == ["wrong-sure", "wrong-unsure", *surest]
    wrong = gallery.cases[0]
    assert (wrong.truth, wrong.called, wrong.probability) == ("normal", "covid", 0.9)


def test_the_mean_share_of_heat_is_of_all_images_that_have_any():
    gallery = summary.Gallery(("covid", "normal"), 0)
    gallery.add("cold", 0, prediction(0.9, heat=0.0))
    assert gallery.centre is None
    for i in range(6):
        gallery.add(f"{i}", 0, prediction(0.9))
    assert len(gallery.shares) == 6
    assert 0 < gallery.centre < 1
    assert gallery.inside == pytest.approx(0.5)
    assert "50% of the heat lies in the lungs, which are 50% of the picture" in gallery.note
    assert f"{gallery.centre:.0%} in the central part" in gallery.note
    assert math.isnan(next(case.inside for case in gallery.cases if case.name == "cold"))


def test_shares_leave_out_what_is_undefined():
    scores = SimpleNamespace(accuracy=HIGH, sensitivity=None, specificity=LOW)
    assert summary.shares(scores, "x ") == {"x accuracy": HIGH, "x specificity": LOW}


def test_versions_are_those_that_run():
    found = summary.versions()
    assert found["numpy"] == np.__version__
    assert found["keras"] == keras.__version__
    assert found["opencv-python"].startswith(cv2.__version__)
    assert found["pillow"] == PIL.__version__
    assert found["scikit-learn"] == sklearn.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found[keras.config.backend()] == version(keras.config.backend())

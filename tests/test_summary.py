"""A run's results in one sentence, as JSON, and in the gallery of its report."""

import dataclasses
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
from example_runs import TEST, example_data, external_run, training_run

from covidxray.audit.baselines import Baseline
from covidxray.evaluation.intervals import Estimate
from covidxray.model.prediction import Prediction
from covidxray.pipeline.gallery import GalleryCollector
from covidxray.report import results
from covidxray.report.external import json_results
from covidxray.report.sentences import BASELINES, audit_verdict, compare_with_shortcut
from covidxray.report.text import format_shortcut

LOW, MIDDLE, HIGH = Estimate(0.55, 0.4, 0.7), Estimate(0.80, 0.7, 0.9), Estimate(0.95, 0.9, 1.0)


def shortcut(auc, alarm, name="thumbnail"):
    """An audit with one baseline, as far as these texts read it."""
    best = Baseline(name, auc, 0.003 if alarm else 0.5, 0.8, None)
    found = {"best": best, "baselines": (best,), "alarm": alarm, "level": 0.01}
    return SimpleNamespace(**found, patients=40, power=0.55)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Estimate(0.15, 0.05, 0.25), "The model is better by 0.15 (0.05 to 0.25)."),
        (Estimate(-0.1, -0.2, -0.02), "The shortcut does better: the model may not have used"),
        (Estimate(0.0, -0.03, 0.04), "The shortcut is as good within 0.05: the model may not"),
        (Estimate(0.0, -0.06, 0.04), "These 40 patients cannot tell which is better (the"),
        (Estimate(0.1, -0.02, 0.3), "the difference lies from -0.02 to 0.30)."),
    ],
)
def test_the_comparison_says_only_what_the_interval_of_the_difference_shows(difference, said):
    found = shortcut(MIDDLE, True)
    sentence = compare_with_shortcut("cross-validated ", HIGH, found, difference)
    assert said in sentence
    assert f"The model's cross-validated AUC is {HIGH.value:.2f} (" in sentence
    assert f"{found.best.auc.value:.2f} (" in sentence


def test_without_an_auc_of_the_model_the_sentence_is_about_the_shortcut():
    sentence = compare_with_shortcut("", None, shortcut(HIGH, True), None)
    assert sentence.startswith("Of the shortcuts, ")
    assert "0.95 (0.90 to 1.00)" in sentence


def test_an_audit_without_an_alarm_tells_how_often_it_misses_a_strong_shortcut():
    verdict = audit_verdict(shortcut(LOW, False))
    assert "none of these 1 baselines is shown to be better than chance" in verdict
    assert "one with an AUC of 0.80 is missed in about 45 % of such" in verdict


@pytest.mark.parametrize("name", BASELINES)
def test_the_comparison_says_alone_at_most_once(name):
    for model in (None, HIGH):
        words = compare_with_shortcut(
            "", model, shortcut(LOW, False, name), model and MIDDLE
        ).split("reaches")[0]
        assert words.count("alone") <= 1


def test_the_lines_about_the_shortcut_fit_80_columns():
    found = shortcut(HIGH, True)
    sentence = compare_with_shortcut("cross-validated ", LOW, found, Estimate(-0.4, -0.5, -0.2))
    text = format_shortcut(found, sentence, None)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"best shortcut auc: {HIGH}  thumbnail")


def as_json(path, found):
    """Results as they are read back from their file."""
    results.write_json(path, found)
    return json.loads(path.read_text(encoding="utf-8"))


def test_json_takes_arrays_numbers_of_numpy_and_paths(tmp_path):
    path = tmp_path / "x.json"
    found = {"n": np.int64(3), "x": np.arange(2), "share": np.float32(0.5), "path": tmp_path}
    expected = {"n": 3, "x": [0, 1], "share": 0.5, "path": str(tmp_path)}
    assert as_json(path, found) == expected
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return example_data(tmp_path_factory.mktemp("summary") / "drawings")


@pytest.fixture(scope="module")
def run(data):
    return training_run(data)


@pytest.fixture(scope="module")
def external(data):
    return external_run(data)


def test_metrics_json_has_all_that_a_training_run_found(run, tmp_path):
    found = as_json(tmp_path / "m.json", results.training_results(run))
    assert list(found) == [
        *("dataset", "options", "weights", "precision", "versions", "split", "threshold"),
        *(
            "predictive_values",
            "held_out",
            "cross_validation",
            "shortcuts",
            "sentence",
            "versus_shortcut",
            "strata",
            "transplants",
            "sites",
            "dice",
        ),
    ]
    assert found["weights"] == {"name": "torchvision", "sha256": "ec7d"}
    assert (found["precision"], found["threshold"]) == ("bfloat16", 0.25)
    assert found["split"]["test"] == run.data.names(TEST)
    assert len(found["split"]["train"]) == 8
    accuracy = dataclasses.asdict(run.holdout.scores.accuracy)
    assert found["held_out"]["accuracy"] == accuracy
    assert found["held_out"]["confusion"] == run.holdout.scores.confusion.tolist()
    assert found["cross_validation"]["auc"]["value"] == run.cross_validation.scores.auc.value
    assert found["dice"] == {"median": 0.9, "lower": 0.85, "upper": 0.95, "n": 16}


def test_the_options_in_metrics_json_are_those_of_the_command_line(run, tmp_path):
    options = as_json(tmp_path / "m.json", results.training_results(run))["options"]
    assert list(options) == [field.name for field in dataclasses.fields(run.config)]
    assert options["add"] == [["normal", "more"]]
    assert (options["dataset"], options["report"], options["repeats"]) == ("drawings", None, 20)


def test_the_data_set_in_json_counts_images_patients_and_copies(run, tmp_path):
    found = as_json(tmp_path / "m.json", results.training_results(run))["dataset"]
    assert found == {
        "name": "drawings",
        "classes": ["covid", "normal"],
        "sha256": run.data.sha256,
        "images": [8, 8],
        "patients": 8,
        "synthetic": True,
        "left_out": 0,
        "copies_across_patients": 3,
    }


def test_the_audit_in_json_has_its_numbers_and_its_words(run, tmp_path):
    found = as_json(tmp_path / "m.json", results.training_results(run))["shortcuts"]
    assert list(found) == [
        *("positive", "images", "folds", "repeats", "permutations", "level", "alarm", "power"),
        *("verdict", "advice", "baselines", "findings", "regions"),
    ]
    assert (found["positive"], found["images"]) == ("covid", 16)
    assert [baseline["name"] for baseline in found["baselines"]] == ["frame", "file"]
    assert list(found["baselines"][0]) == ["name", "auc", "p_value"]
    assert found["regions"]["lungs"]["value"] == run.cross_validation.regions.lungs.value
    assert (found["regions"]["found"], found["regions"]["total"]) == (15, 16)


def test_without_cross_validation_json_has_none_of_its_numbers(run, tmp_path):
    single = dataclasses.replace(run, cross_validation=None, lung_dice=None)
    found = as_json(tmp_path / "m.json", results.training_results(single))
    assert (found["cross_validation"], found["dice"]) == (None, None)
    assert found["shortcuts"]["regions"] is None
    assert found["sentence"].startswith("Of the shortcuts, the outer frame alone reaches ")


def test_the_json_of_an_evaluation_has_all_that_it_found(external, tmp_path):
    found = as_json(tmp_path / "e.json", json_results(external))
    assert list(found) == [
        *("dataset", "model", "trained_on", "unlike_the_training_images", "heat_in_centre"),
        *("heat_in_lungs", "pairs_of_lungs", "reference", "regions", "strata", "acquisition"),
        *("transplants", "shortcuts", "verdict", "evaluation", "auc", "false_positive_rate"),
        *("calibration", "fixed", "subgroups", "predictive_values", "versions"),
    ]
    assert found["model"] == {
        "file": "covid19.keras",
        "classes": "covid, normal",
        "positive class": "covid",
        "classified as": "covid from a probability of 0.250, else the most probable other class",
        "recipe": "portable, pooled over the lungs alone",
        "trained on": "2 images (drawings)",
        "data set": "drawings",
        "weights": "ImageNet, torchvision",
        "intended for": "learning and research; never for patients",
    }
    assert found["trained_on"] == {"images": 1, "of_patients": 2}
    assert (found["unlike_the_training_images"], found["pairs_of_lungs"]) == (2, 15)
    assert (found["heat_in_centre"], found["heat_in_lungs"]) == (0.62, 0.41)
    assert found["regions"] == found["shortcuts"]["regions"]
    assert found["regions"]["whole"]["value"] == external.evidence.regions.whole.value
    assert found["auc"]["value"] == external.scores.auc.value


def test_an_evaluation_on_one_class_has_neither_regions_nor_shortcuts(external, tmp_path):
    one_class = dataclasses.replace(external, evidence=None)
    found = as_json(tmp_path / "e.json", json_results(one_class))
    assert (found["regions"], found["shortcuts"]) == (None, None)


def prediction(probability, heat=1.0):
    """A prediction of covid (0) with that probability, with an even heat."""
    label = 0 if probability >= 0.5 else 1
    image = np.zeros((224, 224, 3), np.uint8)
    warm = np.full((224, 224), heat, np.float32)
    both = np.array([probability, 1 - probability])
    logits = np.full((28, 28), -1, np.float32)
    logits[:14] = 1
    scores = {"whole": both[0], "lungs": 0.5, "outside": 0.5}
    return Prediction(image, both, scores, label, 0.5, "", {}, logits, True, warm)


def collect_gallery(items, classes, positive):
    """The gallery of (class/file, true label, prediction) of each image."""
    collector = GalleryCollector(classes, positive)
    for item in items:
        collector.add(*item)
    return collector.gallery()


def test_the_gallery_keeps_the_most_confident_cases_the_wrong_ones_first():
    items = [(f"right-{i}", 0, prediction(0.5 + i / 20)) for i in range(10)]
    items += [("wrong-sure", 1, prediction(0.9)), ("wrong-unsure", 0, prediction(0.45))]
    gallery = collect_gallery(iter(items), ("covid", "normal"), 0)
    names = [case.name for case in gallery.cases]
    surest = [f"right-{i}" for i in (9, 8, 7, 6)]
    assert names == ["wrong-sure", "wrong-unsure", *surest]
    wrong = gallery.cases[0]
    assert (wrong.truth, wrong.predicted, wrong.probability) == ("normal", "covid", 0.9)


def test_the_probability_of_a_case_is_that_of_the_positive_class():
    gallery = collect_gallery([("a", 0, prediction(0.9))], ("covid", "normal"), positive=1)
    assert gallery.cases[0].probability == pytest.approx(0.1)


def test_the_mean_share_of_heat_is_of_all_images_that_have_any():
    collector = GalleryCollector(("covid", "normal"), 0)
    collector.add("cold", 0, prediction(0.9, heat=0.0))
    cold = collector.gallery()
    assert (cold.heat_in_centre, cold.heat_in_lungs, cold.lung_area) == (None, None, None)
    for i in range(6):
        collector.add(f"{i}", 0, prediction(0.9))
    gallery = collector.gallery()
    assert gallery.heat_in_centre == pytest.approx(0.49, abs=0.01)
    assert (gallery.heat_in_lungs, gallery.lung_area) == (pytest.approx(0.5), 0.5)
    cases = {case.name: case for case in gallery.cases}
    assert math.isnan(cases["cold"].heat_in_lungs)


def test_without_any_image_the_gallery_is_empty():
    gallery = collect_gallery([], ("covid", "normal"), 0)
    assert (gallery.cases, gallery.heat_in_lungs) == ((), None)


def test_versions_are_those_that_run():
    found = results.library_versions()
    assert found["numpy"] == np.__version__
    assert found["keras"] == keras.__version__
    assert found["opencv-python"].startswith(cv2.__version__)
    assert found["pillow"] == PIL.__version__
    assert found["scikit-learn"] == sklearn.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found[keras.config.backend()] == version(keras.config.backend())

"""`train`, `evaluate` and `load_predictor` give what the scripts give, and notebooks show it."""

import json
import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from pages import Page

import covidxray
from covidxray.data.image_file import ImageFile
from covidxray.errors import InputError

QUICK = {"folds": 2, "repeats": 1, "precision": "float32"}  # as fixture `trained` has it
OWN = ("options", "seconds", "versions")  # of metrics.json: what differs by where a run writes


@pytest.fixture(scope="module")
def result(trained):
    """A training by `train` on the drawings that `trained` used."""
    return covidxray.train(trained[1], **QUICK)


@pytest.fixture(scope="module")
def evaluation(trained):
    return covidxray.evaluate(trained[0], trained[1], transplant=0, precision="float32")


@pytest.fixture(scope="module")
def predictor(trained):
    return covidxray.load_predictor(trained[0], precision="float32")


@pytest.fixture(scope="module")
def images(trained):
    """The path of a drawing of each class."""
    return [sorted((trained[1] / name).glob("*.jpg"))[0] for name in ("covid", "normal")]


def read_json(path):
    return {k: v for k, v in json.loads(path.read_text()).items() if k not in OWN}


def test_the_package_is_imported_without_numpy_or_keras():
    code = "import sys, covidxray; dir(covidxray); print({'numpy', 'keras'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
    with pytest.raises(AttributeError, match="has no attribute 'fit'"):
        covidxray.fit  # noqa: B018


@pytest.mark.slow
def test_a_training_is_that_of_the_script_in_numbers_text_and_files(result, trained, tmp_path):
    folder = trained[0].parent
    assert not list(tmp_path.iterdir())
    model = result.save(tmp_path / "new" / "run")
    names = {"plot.png", "covid19.keras", "metrics.json", "report.html"}
    assert {path.name for path in model.parent.iterdir()} == names
    assert read_json(model.parent / "metrics.json") == read_json(folder / "metrics.json")
    printed = (folder / "output.txt").read_text()
    assert str(result) in printed
    assert covidxray.DRAWINGS in str(result)
    assert result.data.classes == ("covid", "normal")


@pytest.mark.slow
def test_a_training_that_cannot_be_saved_leaves_no_file(result, tmp_path):
    folder = tmp_path / "run"
    (folder / "report.html").mkdir(parents=True)
    with pytest.raises(InputError, match=r"report\.html: is a folder"):
        result.save(folder)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be created"):
        result.save(tmp_path / "file")


@pytest.mark.slow
def test_a_training_shows_its_scores_as_a_table_and_as_a_described_figure(result):
    page = Page(f"<table><caption>shown</caption></table>{result._repr_html_()}")
    head, *rows = page.table("shown")
    scores = dict(rows)
    assert head == ["measure", "value (95 % interval)"]
    assert scores["cross-validated"] == result.run.cross_validation.scores.auc.short
    assert {"untouched", "reference's lungs, own chest"} < scores.keys()
    (alt,) = page.described("AUC, with 95 % intervals. Model: cross-validated")
    assert all(f"{name}: {score}" in alt for name, score in rows)
    assert str(result.data) in page.text
    assert covidxray.DISCLAIMER in page.text and covidxray.DRAWINGS in page.text


@pytest.mark.slow
def test_without_cross_validation_the_held_out_scores_are_shown(trained):
    result = covidxray.train(trained[1], **{**QUICK, "repeats": 0})
    page = Page(f"<table><caption>shown</caption></table>{result._repr_html_()}")
    _, *rows = page.table("shown")
    assert [name for name, _ in rows] == [
        f"held-out {name}" for name in ("accuracy", "sensitivity", "specificity")
    ]
    assert page.described("share of the images, with 95 % intervals. held-out accuracy")


@pytest.mark.slow
def test_images_that_are_left_out_are_named(trained, images, tmp_path, caplog):
    (tmp_path / "covid").mkdir()
    shutil.copy(images[0], tmp_path / "covid")
    (tmp_path / "covid" / "broken.png").write_bytes(b"no image")
    (run,) = covidxray.evaluate(trained[0], tmp_path).runs
    assert len(run.data.left_out) == 1
    assert f"left out: {tmp_path / 'covid' / 'broken.png'}: " in caplog.text


@pytest.mark.slow
def test_an_evaluation_is_that_of_the_script_in_numbers_text_and_files(
    evaluation, trained, script, tmp_path
):
    inputs = ("-m", trained[0], "-d", trained[1], "--transplant", 0, "--precision", "float32")
    outputs = ("--json", "e.json", "--report", "e.html")
    done = script("evaluate_covid19.py", *inputs, *outputs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = evaluation.save(tmp_path / "ours")
    assert page.read_text() == (tmp_path / "e.html").read_text()
    assert read_json(page.with_suffix(".json")) == read_json(tmp_path / "e.json")
    assert str(evaluation) in done.stdout


@pytest.mark.slow
def test_an_evaluation_shows_a_verdict_a_figure_and_a_row_for_each_data_set(evaluation, trained):
    page = Page(f"<table><caption>shown</caption></table>{evaluation._repr_html_()}")
    _, row = page.table("shown")
    assert row[:3] == ["drawings", "6 + 6", evaluation.runs[0].scores.auc.short]
    assert "Not excluded:" in page.text and covidxray.DRAWINGS in page.text
    assert len(page.described("AUC, with 95 % intervals. ")) == 1


@pytest.mark.slow
def test_names_are_shown_as_text(trained, tmp_path, predictor, images):
    folder = tmp_path / "<b onclick='x'>"
    (folder / "covid").mkdir(parents=True)
    shutil.copy(images[0], folder / "covid")
    evaluation = covidxray.evaluate(trained[0], folder)
    named = ImageFile(folder / '"><script>.png', images[0].read_bytes())
    for shown in (evaluation, *predictor.predict(named)):
        page = Page(f"<table><caption>shown</caption></table>{shown._repr_html_()}")
        assert {tag for tag, _ in page.elements}.isdisjoint({"b", "script"})
        assert "<b onclick='x'>" in page.text


@pytest.mark.slow
def test_paths_bytes_and_arrays_are_predicted_as_the_script_predicts_files(
    predictor, images, trained, script, tmp_path
):
    options = ("--json", tmp_path / "table.json", "--precision", "float32")
    assert script("predict_covid19.py", "-m", trained[0], *images, *options).returncode == 0
    table = json.loads((tmp_path / "table.json").read_text())
    colour = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in images]
    grey = [array[..., 0] for array in colour]
    found = predictor.predict(*images)
    assert [one.row for one in found] == table
    for others in ([str(path) for path in images], [p.read_bytes() for p in images], colour, grey):
        for one, other in zip(found, predictor.predict(*others), strict=True):
            assert {**other.row, "image": ""} == {**one.row, "image": ""}
            np.testing.assert_array_equal(other.heat_map, one.heat_map)
    assert predictor.predict(images[0].read_bytes())[0].row["image"] == "image 1"
    assert predictor.predict() == []


@pytest.mark.slow
def test_a_prediction_shows_the_lungs_the_heat_map_and_its_row(predictor, images):
    (found,) = predictor.predict(images[0])
    page = Page(f"<table><caption>shown</caption></table>{found._repr_html_()}")
    _, *rows = page.table("shown")
    assert dict(rows)["class"] == found.row["class"]
    assert [row[0] for row in rows] == list(found.row)
    assert len(page.described(f"X-ray {images[0]}")) == len(page.described("The same with")) == 1
    assert found.outlined.shape == found.heat_map.shape == (224, 224, 3)
    assert (found.outlined != found.heat_map).any()
    assert len(repr(found)) < 1000  # no arrays
    assert "most probable class" in predictor.explanation


@pytest.mark.slow
def test_threshold_and_reference_decide_as_in_the_script(trained, images):
    model, drawings = trained
    strict = covidxray.load_predictor(model, threshold=0.999)
    assert [one.row["class"] for one in strict.predict(*images)] == ["normal", "normal"]
    with pytest.raises(InputError, match="trained"):
        covidxray.load_predictor(model, reference=drawings / "normal")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("nowhere.png", r"nowhere\.png: is not a file"),
        (b"no image", "image 1: "),
        (np.zeros((8, 8)), r"image 1: must be uint8 of shape \(H, W\) or \(H, W, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), "image 1: must be uint8"),
        (np.zeros(8, np.uint8), "image 1: must be uint8"),
        (np.zeros((0, 8), np.uint8), "image 1: must be uint8"),
    ],
)
def test_what_is_no_image_is_an_input_error(predictor, image, said):
    with pytest.raises(InputError, match=said):
        predictor.predict(image)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repeat_all": 3}, "unrecognized arguments: --repeat-all=3; see docs/options.md"),
        ({"repeats": "many"}, "argument --repeats: invalid int value: 'many'; see docs"),
        ({"test_size": 2}, "argument --test-size: 2: must be more than 0 and less than 1"),
        ({"fit_all": "yes"}, "argument --fit-all: ignored explicit argument 'yes'"),
        ({"region": "heart"}, "argument --region: invalid choice: 'heart'"),
        ({"stratify": ["view", "age"]}, "argument --stratify: invalid choice: 'age'"),
        ({"add": {"normal": "nowhere"}}, "nowhere: no such folder"),
        ({"repeats": 0, "sensitivity": 0.9}, "--sensitivity: needs the cross-validation"),
        ({"report": "report.html"}, "report: is an option of the script; use `save`"),
    ],
)
def test_a_wrong_option_is_one_line(settings, said):
    with pytest.raises(InputError) as caught:
        covidxray.train(ROOT / "dataset", **settings)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_folder_or_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        covidxray.train("nowhere")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        covidxray.evaluate("m.keras", "nowhere")
    with pytest.raises(InputError, match=r"m\.keras: no such file"):
        covidxray.evaluate(tmp_path / "m.keras", ROOT / "dataset")
    with pytest.raises(InputError, match="json: is an option of the script"):
        covidxray.evaluate("m.keras", ROOT / "dataset", json="e.json")


@pytest.mark.long
def test_type_checkers_see_the_functions(tmp_path):
    lines = (
        "from pathlib import Path\n"
        "from covidxray import evaluate, load_predictor, train\n"
        "path: Path = train('dataset', repeats=0).save('folder')\n"
        "probabilities: list = [one.row for one in load_predictor(path).predict('x.png')]\n"
        "evaluate(path, 'a', 'b').save('folder')\n"
    )
    wrong = ("train('dataset').accuracy\n", "load_predictor('m', threshold='high')\n")
    for code, expected in ((lines, 0), *((lines + line, 1) for line in wrong)):
        (tmp_path / "code.py").write_text(code)
        command = [sys.executable, "-m", "mypy", tmp_path / "code.py"]
        environment = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == expected, done.stdout
        assert done.stdout.count(": error:") == expected


@pytest.mark.long
def test_the_readmes_lines_run(images, trained, tmp_path):
    for name in ("dataset", "elsewhere", "another-hospital"):
        shutil.copytree(trained[1], tmp_path / name)
    shutil.copy(images[0], tmp_path / "x.png")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 data sets, each evaluated for itself" in done.stdout
    assert (tmp_path / "output" / "report.html").is_file()

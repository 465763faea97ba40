"""Figures as files: PNG and SVG of the same figure, each with a description in words."""

import dataclasses
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from example_runs import example_data, external_run, training_run
from PIL import Image

from covidxray import DISCLAIMER, DRAWINGS
from covidxray.errors import InputError
from covidxray.report import external, figures, plots

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return example_data(tmp_path_factory.mktemp("figures") / "drawings")


@pytest.fixture(scope="module")
def run(data):
    return training_run(data)


def files_of(*names):
    """The files in a folder with these figures, sorted."""
    return sorted(["plots.txt", *(f"{name}.{kind}" for name in names for kind in ("png", "svg"))])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def descriptions(folder, name):
    """What PNG and SVG of a figure say that it shows."""
    svg = ElementTree.parse(folder / f"{name}.svg").getroot()
    assert svg.get("role") == "img"
    with Image.open(folder / f"{name}.png") as png:
        assert svg.find(f"{SVG}title").text == png.text["Title"]
        return png.text["Description"], svg.find(f"{SVG}desc").text


def test_every_figure_of_a_training_is_a_png_and_an_svg_that_say_what_they_show(run, tmp_path):
    figures.save_training_figures(tmp_path, run)
    drawn = figures.draw_figures(figures.training_figures(run))
    assert tuple(drawn) == ("forest", "roc", "regions", "calibration", "confusion")
    assert names_in(tmp_path) == files_of(*drawn)
    told = " ".join((tmp_path / "plots.txt").read_text(encoding="utf-8").split())
    for name, picture in drawn.items():
        described = f"{picture.alt} {DRAWINGS}"
        assert descriptions(tmp_path, name) == (described, described)
        assert f"{name}.png, {name}.svg: {described}" in told
    assert f"cross-validated: {run.cross_validation.scores.auc.short}" in drawn["forest"].alt
    assert DISCLAIMER in told


def test_without_cross_validation_its_figures_are_left_out_and_named(run, tmp_path, caplog):
    for name in ("plots.txt", "forest.png", "mine.png"):  # of an earlier run; of somebody else
        (tmp_path / name).touch()
    figures.save_training_figures(tmp_path, dataclasses.replace(run, cross_validation=None))
    assert names_in(tmp_path) == sorted([*files_of("roc", "calibration", "confusion"), "mine.png"])
    (line,) = caplog.messages
    assert line == "--plots: left out forest, regions: there is no cross-validation"


def test_a_file_in_a_folder_that_no_run_has_filled_is_kept(run, tmp_path):
    (tmp_path / "forest.png").touch()
    figures.save_training_figures(tmp_path, dataclasses.replace(run, cross_validation=None))
    assert (tmp_path / "forest.png").exists()


def test_without_a_folder_nothing_is_drawn(run):
    figures.save_training_figures(None, run)


def test_figures_that_cannot_all_be_written_are_not_written_at_all(run, tmp_path):
    (tmp_path / "confusion.svg").mkdir()
    with pytest.raises(InputError, match=r"confusion\.svg: is a folder"):
        figures.save_training_figures(tmp_path, run)
    assert names_in(tmp_path) == ["confusion.svg"]


def test_an_evaluation_has_the_same_figures_in_a_folder_for_each_of_several_data_sets(
    data, tmp_path
):
    run = external_run(data)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, plots=tmp_path))
    external.save_figures({"here": run, "there": run})
    assert names_in(tmp_path / "there") == names_in(tmp_path / "here") == files_of(*figures.NAMES)
    forest, _ = descriptions(tmp_path / "there", "forest")
    assert "Baselines: view classifier: " in forest


@pytest.mark.slow
def test_an_evaluation_of_one_class_leaves_out_what_needs_two(trained, script, tmp_path):
    model, drawings = trained
    assert names_in(model.parent / "plots") == files_of(*figures.NAMES)
    shutil.copytree(drawings / "normal", tmp_path / "one" / "normal")
    arguments = ("-m", model, "-d", "one", "--transplant", 0, "--plots", "new/plots")
    done = script("evaluate_covid19.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "new" / "plots") == files_of("calibration", "confusion")
    line = "[INFO] --plots: left out forest, roc, regions: the images are of one class"
    assert line in done.stderr.splitlines()


@pytest.mark.parametrize("name", ["normal $_{$", "--> <x> &", "a\x07b"])
def test_a_confusion_matrix_tells_its_counts_in_grey_whatever_a_class_is_called(name):
    picture = plots.draw_confusion(np.array([[3, 1], [0, 40]]), ("covid", name), "these images")
    assert picture.alt == (
        f"Confusion matrix, these images. 3 of covid classified as covid, 1 of covid classified as "
        f"{name}, 0 of {name} classified as covid, 40 of {name} classified as {name}."
    )
    shown = [text.get_text() for text in picture.figure.axes[0].texts]
    assert shown == ["3\n(0.75)", "1\n(0.25)", "0\n(0.00)", "40\n(1.00)"]
    svg = picture.svg.decode()
    ElementTree.fromstring(svg)
    assert "3 of covid classified as covid" in svg
    colours = picture.figure.axes[0].images[0].to_rgba(np.array([0.0, 1.0]), bytes=True)[:, :3]
    assert (colours == colours[:, :1]).all()
    assert colours[0, 0] - int(colours[1, 0]) > 80 and colours[1, 0] > 120  # below black letters

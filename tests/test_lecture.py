"""What a lecture shows of a model, without the page that shows it."""

import json
import re
import shutil

import numpy as np
import pytest

from covidxray import load_predictor
from covidxray.api import display, lecture
from covidxray.data.images import read_image
from covidxray.errors import InputError
from covidxray.evaluation.intervals import Estimate
from covidxray.options.app import read_options


@pytest.fixture(scope="module")
def predictor(trained):
    return load_predictor(trained[0])


@pytest.mark.slow
def test_the_numbers_are_read_from_what_the_training_wrote(trained, predictor):
    metrics = trained[0].with_name("metrics.json")
    found = json.loads(metrics.read_text())
    numbers = lecture.read_numbers(metrics, predictor.metadata)
    assert numbers.sentence == found["sentence"]
    assert list(numbers.areas)[:3] == ["whole picture", "lungs alone", "all but the lungs"]
    assert numbers.areas["lungs alone"].value == found["shortcuts"]["regions"]["lungs"]["value"]
    assert "shortcut: thumbnail" in numbers.areas
    assert numbers.plot == trained[0].with_name("plot.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["none", "text", "other", "no plot"])
def test_numbers_that_are_not_of_this_model_are_refused_with_what_to_run(
    trained, predictor, tmp_path, change
):
    metrics = tmp_path / "metrics.json"
    found = json.loads(trained[0].with_name("metrics.json").read_text())
    if change == "text":
        metrics.write_text("{")
    elif change != "none":
        sentence = found["sentence"] if change == "no plot" else "Another model."
        metrics.write_text(json.dumps({**found, "sentence": sentence}))
    with pytest.raises(InputError, match=r"metrics\.json: is not.*; run train_covid19\.py"):
        lecture.read_numbers(metrics, predictor.metadata)


@pytest.mark.slow
def test_a_class_guesses_on_images_that_did_not_train_the_model(trained, predictor):
    held_out = json.loads(trained[0].with_name("metrics.json").read_text())["split"]["test"]
    data = lecture.unseen_images(trained[1], predictor.metadata)
    assert sorted(data.image_names) == sorted(held_out)


@pytest.mark.slow
def test_a_guess_compares_model_and_thumbnail_with_the_truth(trained, predictor):
    data = lecture.unseen_images(trained[1], predictor.metadata)
    guesses = [lecture.guess(predictor, data, i) for i in range(len(data))]
    for i, found in enumerate(guesses):
        score = found.image.prediction.acquisition["thumbnail"]
        assert found.truth == data.classes[data.labels[i]]
        assert found.said == (found.image.row["class"], "covid" if score >= 0.5 else "normal")
        assert found.right == tuple(said == found.truth for said in found.said)
        grey = read_image(data.paths[i]).mean(axis=-1).reshape(8, 28, 8, 28).mean(axis=(1, 3))
        assert np.abs(found.thumbnail[14::28, 14::28, 0] - grey).max() < 2
    shares = lecture.shares_right(data, [(i, *one.right) for i, one in enumerate(guesses)])
    assert shares["the model"].count == sum(one.right[0] for one in guesses)
    assert shares["the 8 x 8 thumbnail"].total == len(data)


@pytest.mark.slow
def test_copies_of_training_images_and_images_without_lungs_do_not_count(
    trained, predictor, picture, tmp_path
):
    (tmp_path / "covid").mkdir()
    trained_on = set(predictor.metadata.trained_on)
    data = lecture.load_dataset(trained[1], b"salt")
    (k, *_) = [k for k, row in enumerate(data.rows) if row.sha256 in trained_on]
    copy = (data.paths[k]).read_bytes() + b"\0"  # another file, the same picture
    (tmp_path / "covid/a.jpg").write_bytes(copy)
    (tmp_path / "covid/b.png").write_bytes(picture(1, size=(256, 256)))
    data = lecture.unseen_images(tmp_path, predictor.metadata)
    said = []
    for i in range(2):
        with pytest.raises(InputError) as error:
            lecture.guess(predictor, data, i)
        said.append(str(error.value))
    assert sorted(said) == [
        "covid/a.jpg: is a copy of a training image; it does not count",
        "covid/b.png: no pair of lungs found; it does not count",
    ]


@pytest.mark.slow
def test_a_data_set_that_trained_the_model_throughout_is_refused(trained, predictor, tmp_path):
    trained_on = set(predictor.metadata.trained_on)
    data = lecture.load_dataset(trained[1], b"salt")
    for path, row in zip(data.paths, data.rows, strict=True):
        if row.sha256 in trained_on:
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / path.parent.name)
    with pytest.raises(InputError, match="all its images trained the model; give others"):
        lecture.unseen_images(tmp_path, predictor.metadata)


def test_a_bar_shows_value_and_interval_and_all_text_is_escaped():
    table = display.bars({"<b>": Estimate(0.7, 0.25, 0.9, 7, 10)}, ("a", "b"))
    assert "7 of 10: 0.70 (0.25 to 0.90)" in table
    assert re.search(r'<i style="left:25\.0%;right:10\.0%"></i><b style="left:70\.0%">', table)
    assert "&lt;b&gt;" in table


def test_the_numbers_are_looked_for_next_to_the_model(tmp_path):
    options = read_options(["--model", str(tmp_path / "x.keras")])
    assert options.metrics == tmp_path / "metrics.json"
    with pytest.raises(InputError, match=r"no such folder; see docs/options\.md"):
        read_options(["--reference", str(tmp_path / "none")])

"""What is held out teaches a model nothing, and no copy or second image of it does.

Ten coloured pictures of noise, each under two patients, in three classes of unequal size: nothing
but memory tells the classes apart.
"""

import io
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from covidxray.data.class_folder import fill_folder
from covidxray.data.folders import list_images
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals, metrics
from covidxray.model.predictor import Predictor

pytestmark = pytest.mark.slow

CLASSES = {"asthma": 3, "covid": 3, "healthy": 4}  # pictures, each of them twice
SECOND = (4, 8)  # pictures whose first patient has another image, too


def png(seed, size=64):
    """Coloured noise."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    noise.resize((size, size), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def fill(root, changed=()):
    """Class folders; files are named picture-copy. Pictures in `changed` are other ones."""
    number = 0
    for name, pictures in CLASSES.items():
        listed = []
        for picture in range(number, number + pictures):
            seed = 1000 + picture if picture in changed else picture
            for copy in range(2):
                row = ManifestRow(f"{picture:02}-{copy}.png", "s", "", f"{picture}-{copy}")
                listed.append((row, png(seed, 64 + 16 * copy)))
            if picture in SECOND:
                row = ManifestRow(f"{picture:02}-x.png", "s", "", f"{picture}-0")
                listed.append((row, png(seed + 500)))
        fill_folder(root / name, listed)
        number += pictures


def picture_of(name):
    """The picture that an image, or its patient's other image, is a copy of."""
    return int(name.split("/")[-1].split("-")[0])


@pytest.fixture(scope="session")
def run(script, tmp_path_factory):
    """The numbers and the folder of a training run in which copies have to be kept together."""
    folder = tmp_path_factory.mktemp("held-out")
    return train(script, folder, folder / "cache")


def train(script, folder, cache, changed=(), repeats=1):
    fill(folder / "set", changed)
    options = (
        "--repeats",
        repeats,
        "--folds",
        3,
        "--augment",
        1,
        "--rotation",
        90,
        "--test-size",
        0.3,
    )
    quick = ("--region", "whole", "--epochs", 10, "--precision", "float32", "--cache", cache)
    done = script("train_covid19.py", "-d", "set", *options, *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "metrics.json").read_text()), folder


def arrays_of(folder):
    """Everything learnt in a saved model: its weights, and the arrays beside them."""
    model = keras.saving.load_model(folder / "covid19.keras", safe_mode=True)
    with zipfile.ZipFile(folder / "covid19.keras") as archive:
        beside = np.load(io.BytesIO(archive.read("covidxray.npz")))
        metadata = json.loads(archive.read("covidxray.json"))
    return model.get_weights(), dict(beside), metadata


def test_other_held_out_images_leave_every_number_of_the_saved_model_as_it_is(
    run, script, tmp_path
):
    first, folder = run
    held_out = {picture_of(name) for name in first["split"]["test"]}
    second, other = train(script, tmp_path, folder / "cache", held_out, repeats=0)
    assert second["split"] == first["split"]
    assert second["dataset"]["sha256"] != first["dataset"]["sha256"]
    weights, beside, metadata = arrays_of(folder)
    weights_again, beside_again, about_again = arrays_of(other)
    for a, b in zip(weights, weights_again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert beside.keys() == beside_again.keys()
    for name, array in beside.items():
        np.testing.assert_array_equal(array, beside_again[name])
    assert metadata["trained_on"] == about_again["trained_on"]
    assert metadata["hashes"] == about_again["hashes"]


def test_copies_and_their_patients_other_images_lie_on_one_side_of_the_split(run):
    split = run[0]["split"]
    sides = [{picture_of(name) for name in split[side]} for side in ("train", "test")]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(range(10))
    for side in split.values():
        assert {name.split("/")[0] for name in side} == set(CLASSES)


def test_patients_who_share_a_picture_are_counted_as_one(run):
    found = run[0]["dataset"]
    assert found["images"] == [6, 7, 9]
    assert found["copies_across_patients"] == 20
    assert found["patients"] == 10


def test_remembering_copies_is_of_no_use_in_cross_validation(run):
    """Copies on both sides of a fold would give an area near 1 to noise."""
    found = run[0]["cross_validation"]
    assert found["auc"]["value"] < 0.7
    for region in ("whole", "lungs", "outside"):
        assert run[0]["shortcuts"]["regions"][region]["value"] < 0.7
    # Three patients against seven are far less sure than seven images against fifteen.
    assert found["auc"]["high"] - found["auc"]["low"] > 0.45


@pytest.fixture(scope="module")
def classifier(run):
    """The saved model."""
    return Predictor(run[1] / "covid19.keras")


def close(estimate):
    """An estimate as it has to stand in JSON."""
    return pytest.approx({key: getattr(estimate, key) for key in vars(estimate)}, abs=1e-6)


def test_the_held_out_numbers_are_the_saved_models_on_the_held_out_images_by_patient(
    run, classifier
):
    found, folder = run
    names = found["split"]["test"]
    predictions = list(classifier.predict_files([folder / "set" / name for name in names]))
    truth = np.array([list(CLASSES).index(name.split("/")[0]) for name in names])
    called = metrics.decide(np.stack([p.probabilities for p in predictions]), 1, 0.5)
    patients = np.array([picture_of(name) for name in names])
    expected = metrics.evaluate(truth, called, tuple(CLASSES), 1, patients)
    held_out = found["held_out"]
    assert held_out["confusion"] == expected.confusion.tolist()
    for name in ("accuracy", "sensitivity", "specificity"):
        assert held_out[name] == close(getattr(expected, name))


@pytest.mark.long
def test_an_evaluation_counts_patients_who_share_a_picture_as_one(
    run, classifier, script, tmp_path
):
    """Two classes of the model's three; and of one image, which cannot be read, nothing is used."""
    _, folder = run
    for name, first in (("covid", 30), ("healthy", 40)):
        listed = [
            (ManifestRow(f"{i:02}-{copy}.png", "t", "", f"{i}-{copy}"), png(i, 64 + 16 * copy))
            for i in (first, first + 1)
            for copy in range(2)
        ]
        listed.append((ManifestRow(f"{first:02}-x.png", "t", "", f"{first}-0"), png(first + 9)))
        damaged = ManifestRow(f"{first + 1:02}-half.png", "t", "", "half")
        listed.append((damaged, png(first + 8)[:4000]))
        fill_folder(tmp_path / "set" / name, listed)
    inputs = ("-m", folder / "covid19.keras", "-d", "set", "--json", "e.json", "--no-cache")
    done = script("evaluate_covid19.py", *inputs, "--precision=float32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["dataset"]["images"] == [0, 5, 5]
    assert (found["dataset"]["left_out"], found["dataset"]["patients"]) == (2, 4)
    assert found["dataset"]["copies_across_patients"] == 8

    paths = [p for name in ("covid", "healthy") for p in list_images(tmp_path / "set" / name)]
    paths = [path for path in paths if "half" not in path.name]
    predictions = list(classifier.predict_files(paths))
    truth = np.array([list(CLASSES).index(path.parent.name) for path in paths])
    patients = np.array([picture_of(path.name) for path in paths])
    probabilities = np.stack([p.probabilities for p in predictions])
    called = metrics.decide(probabilities, 1, classifier.metadata.threshold)
    expected = metrics.evaluate(truth, called, tuple(CLASSES), 1, patients)
    assert found["evaluation"]["confusion"] == expected.confusion.tolist()
    for name in ("accuracy", "sensitivity", "specificity"):
        assert found["evaluation"][name] == close(getattr(expected, name))
    scores = {
        region: np.array([p.scores[region] for p in predictions])
        for region in ("whole", "lungs", "outside")
    }
    for region, score in scores.items():
        assert found["regions"][region] == close(intervals.auc(truth == 1, score, patients))
    pair = scores["lungs"], scores["outside"]
    difference = intervals.auc_difference(truth == 1, *pair, patients)
    assert found["regions"]["difference"] == close(difference)
    assert found["auc"] == found["regions"]["whole"]
    assert found["false_positive_rate"]["total"] == 5

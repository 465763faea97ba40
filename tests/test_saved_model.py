"""What the scripts save and predict, against heads that are fitted apart.

The data set has what a balanced one of two classes would hide: three classes of unequal size, the
positive class in the middle, tinted pictures, and several images of most patients. All images of a
training set fit into one batch and nothing is dropped out or rotated, so that a head depends on its
training images alone, and not on random numbers. One cache folder serves all scripts here, while
the features that the heads apart are fitted on come from no cache.
"""

import json
import shutil
from itertools import combinations
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import ROOT
from planted import draw_phantom
from sklearn.metrics import confusion_matrix, roc_auc_score

from covidxray.data.class_folder import fill_folder
from covidxray.data.images import save_png
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.demo.phantom import Anatomy
from covidxray.evaluation.recalibration import Recalibration
from covidxray.model.cache import Cache
from covidxray.model.features import extract
from covidxray.model.heads import fit_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.lungs import build_region_model, load_segmenter
from covidxray.model.model_file import load_model
from covidxray.model.outliers import fit_outlier_detector
from covidxray.model.predictor import Predictor
from covidxray.model.recipes import RECIPES
from covidxray.model.vgg16 import build_backbone
from covidxray.model.weights import load_weights

pytestmark = pytest.mark.slow

# Class, severity of the drawings, their tint, and how many images each patient has.
CLASSES = (
    ("bacterial", 0.3, (1.0, 0.98, 0.95), (1, 1)),
    ("covid", 0.9, (0.95, 1.0, 1.0), (2, 2)),
    ("normal", 0.0, (1.0, 0.98, 0.95), (1, 1, 1)),
)
CLOSE = 2e-4  # of probabilities and weights, in float32
FEW = [0, 3, 7]  # images of three classes
REGIONS = ("whole", "lungs", "outside")
OPTIONS = RECIPES["portable"].head
COMMON = ("-d", "set", "--precision", "float32", "--cache", "kept", "--seed", 3)
COMMON += ("--test-size", 0.7, "--folds", 2)
# The own region and the label of the positive class of each run's model.
OWN = {"whole": ("whole", 1), "lungs": ("lungs", 1), "all": ("lungs", 2)}
RUNS = {
    "whole": ("--positive", "covid", "--repeats", 2, "--sensitivity", 0.9, "--region", "whole"),
    "lungs": ("--positive", "covid", "--repeats", 0, "--region", "lungs"),
    "all": ("--positive", "normal", "--repeats", 0, "--region", "lungs", "--fit-all"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data set, where every script of these tests runs."""
    folder, rng = tmp_path_factory.mktemp("saved"), np.random.default_rng(11)
    for name, severity, tint, images in CLASSES:
        rows = []
        for patient, n in enumerate(images):
            anatomy = Anatomy(rng)
            for i in range(n):
                shortcut = "border" if name == "covid" else None
                drawn = draw_phantom(
                    rng, anatomy, size=224, severity=severity, shortcut=shortcut
                ).image
                pixels = (drawn[..., None] * np.array(tint)).astype(np.uint8)
                path = folder / f"{name}-{patient}-{i}.png"
                save_png(path, pixels)
                row = ManifestRow(
                    path.name, "drawn", path.stem, f"{name}{patient}", synthetic="yes"
                )
                rows.append((row, path))
        fill_folder(folder / "set" / name, rows)
    odd = draw_phantom(rng, size=224).image
    odd[::16], odd[:, ::16] = 255, 255
    save_png(folder / "odd.png", np.repeat(odd[..., None], 3, axis=2))
    return folder


@pytest.fixture(scope="module")
def runs(folder, script):
    """By name of the run: what was printed, metrics.json, the model's path, its training images."""
    found = {}
    for name, chosen in RUNS.items():
        files = ("-m", f"{name}.keras", "--metrics", f"{name}.json")
        done = script("train_covid19.py", *COMMON, *chosen, *files, cwd=folder)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((folder / f"{name}.json").read_text())
        found[name] = SimpleNamespace(
            stdout=done.stdout, metrics=metrics, path=folder / f"{name}.keras"
        )
    return found


@pytest.fixture(scope="module")
def data(folder):
    return load_dataset(folder / "set", b"salt")


@pytest.fixture(scope="module")
def features(data):
    """The features of the data set by region, (N, 512) each; no cache is used."""
    recipe = RECIPES["portable"]
    backbone = build_backbone(load_weights(), recipe)
    unchanged = np.empty((len(data), 0))
    found = extract(
        lambda: build_region_model(backbone, recipe, load_segmenter()), data.paths, unchanged
    )
    return found.regions


@pytest.fixture(scope="module")
def training_images(data, runs):
    """A function from a run's name to the indices of the images that its model is trained on."""
    names = data.names(range(len(data)))

    def of(name):
        if name == "all":
            return np.arange(len(data))
        return np.array([names.index(image) for image in runs[name].metrics["split"]["train"]])

    return of


@pytest.fixture(scope="module")
def heads_apart(data, features, training_images):
    """A function from a run's name to the heads of the three regions, fitted apart."""
    known = {}

    def of(name):
        train = tuple(training_images(name))
        if train not in known:
            stacked = np.concatenate([features[region] for region in REGIONS])[:, None]
            indices = [np.array(train) + k * len(data) for k in range(len(REGIONS))]
            labels = np.tile(data.labels, len(REGIONS))
            both = LabelledFeatures.of(stacked, labels)
            known[train] = fit_heads(both, indices, OPTIONS, np.random.default_rng(99))
        return known[train]

    return of


@pytest.fixture(scope="module")
def recalibration_of(runs, heads_apart):
    """A function from a run's name to what recalibrates the head fitted apart as in the model."""

    def of(name):
        heads, fit = heads_apart(name), REGIONS.index(OWN[name][0])
        kernel, bias = load_model(runs[name].path)[0].layers[-1].get_weights()
        apart = heads.kernels[0][fit]
        slope = (kernel * apart).sum() / np.square(apart).sum()
        return Recalibration(slope, bias - slope * heads.biases[0][fit])

    return of


@pytest.fixture(scope="module")
def probabilities_apart(features, heads_apart, recalibration_of):
    """A function from a run's name to probabilities (N, C) by region, of heads fitted apart."""

    def of(name):
        heads = heads_apart(name)
        found = {region: heads.predict(features[region], fit) for fit, region in enumerate(REGIONS)}
        own = OWN[name][0]
        found[own] = recalibration_of(name).apply(found[own])
        return found

    return of


@pytest.fixture(scope="module")
def predicted(folder, script, runs, data):
    """By run: the tables of predictions, each with what was printed.

    One model predicts few images and a picture under a bright grid, before and after the other one
    predicts all images.
    """
    few = [*(data.paths[i] for i in FEW), folder / "odd.png"]
    found = {"whole": [], "all": []}
    for name, images in (("all", few), ("whole", data.paths), ("all", few)):
        table = ("--json", "table.json", "--cache", "kept")
        done = script(
            "predict_covid19.py",
            "-m",
            runs[name].path,
            *images,
            "--precision=float32",
            *table,
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
        rows = json.loads((folder / "table.json").read_text())
        assert [row["image"].split("/")[-1] for row in rows] == [path.name for path in images]
        found[name].append((rows, done.stdout))
    return found


@pytest.fixture(scope="module")
def predictions(folder, predicted, runs, data):
    """A function from a run's name to its model's predictions of the images that it predicted
    before: what is in the cache is not computed again."""

    def of(name):
        images = FEW if name == "all" else range(len(data))
        classifier = Predictor(runs[name].path, Cache(folder / "kept"))
        return list(images), list(classifier.predict_files([data.paths[i] for i in images]))

    return of


def called(probabilities, positive, threshold):
    """The class of one image by the rule that is documented, and whether rounding can change it."""
    if threshold is None:
        second, first = np.argsort(probabilities)[-2:]
        return first, probabilities[first] - probabilities[second] > CLOSE
    others = [k for k in range(len(probabilities)) if k != positive]
    second, first = sorted(others, key=probabilities.__getitem__)
    away = abs(probabilities[positive] - threshold)
    if probabilities[positive] >= threshold:
        return positive, away > CLOSE
    return first, min(away, probabilities[first] - probabilities[second]) > CLOSE


def test_the_regions_and_the_models_that_are_compared_here_differ(probabilities_apart):
    """Otherwise the other tests of this file would not notice an exchange."""
    found = [p[:, 1] for name in ("whole", "all") for p in probabilities_apart(name).values()]
    for one, other in combinations(found, 2):
        assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("name", ["whole", "lungs"])
def test_the_test_size_is_the_share_of_each_class_that_is_held_out(name, runs, data):
    split = runs[name].metrics["split"]
    test = [image.split("/")[0] for image in split["test"]]
    # 0.7 of 2, 4 and 3 images, whole patients of 1, 2 and 1 images; 0.2 would be 1, 2 and 1.
    assert [test.count(name) for name in data.classes] == [1, 2, 2]
    assert sorted([*split["train"], *split["test"]]) == data.names(range(len(data)))


@pytest.mark.parametrize("name", OWN)
def test_a_saved_head_is_that_of_its_region_and_its_training_images(
    name, runs, heads_apart, recalibration_of
):
    heads, fit = heads_apart(name), REGIONS.index(OWN[name][0])
    kernel, _ = load_model(runs[name].path)[0].layers[-1].get_weights()
    recalibration = recalibration_of(name)
    if name != "all":  # one patient of a class trains: there is nothing to recalibrate with
        assert (recalibration.slope, *recalibration.offsets) == pytest.approx(
            (1, 0, 0, 0), abs=CLOSE
        )
    assert recalibration.slope > 0
    expected = heads.kernels[0][fit] * recalibration.slope
    np.testing.assert_allclose(kernel, expected, atol=CLOSE * recalibration.slope)
    assert recalibration.offsets.sum() == pytest.approx(0, abs=CLOSE)


@pytest.mark.parametrize("name", ["whole", "all"])
def test_every_region_of_a_saved_model_has_the_scores_of_a_head_fitted_apart(
    name, predictions, probabilities_apart
):
    own, positive = OWN[name]
    expected = probabilities_apart(name)
    images, predictions = predictions(name)
    for i, prediction in zip(images, predictions, strict=True):
        np.testing.assert_allclose(prediction.probabilities, expected[own][i], atol=CLOSE)
        found = [prediction.scores[region] for region in REGIONS]
        np.testing.assert_allclose(
            found, [expected[region][i, positive] for region in REGIONS], atol=CLOSE
        )


@pytest.mark.parametrize("name", ["whole", "all"])
def test_models_that_share_a_cache_folder_predict_the_class_of_positive_each_by_its_own_head(
    name, predicted, runs, data, probabilities_apart
):
    own, positive = OWN[name]
    expected = probabilities_apart(name)[own]
    expected = expected[FEW] if name == "all" else expected
    threshold, unclear = runs[name].metrics["threshold"], 0
    for rows, stdout in predicted[name]:
        assert f"P({data.classes[positive]})" in stdout.splitlines()[0]
        for row, each in zip(rows, expected, strict=False):
            assert row["probability"] == pytest.approx(each[positive], abs=CLOSE)
            label, clear = called(each, positive, threshold)
            assert row["class"] == data.classes[label] or not clear
            unclear += not clear
    assert unclear <= 2


def test_the_held_out_scores_are_of_the_class_of_positive(runs, data, probabilities_apart):
    for name in ("whole", "lungs"):
        own, positive = OWN[name]
        names = data.names(range(len(data)))
        test = [names.index(image) for image in runs[name].metrics["split"]["test"]]
        probabilities = probabilities_apart(name)[own][test]
        labels, clear = zip(
            *(called(each, positive, runs[name].metrics["threshold"]) for each in probabilities),
            strict=True,
        )
        assert all(clear)
        table = confusion_matrix(data.labels[test], labels, labels=range(3))
        scores = runs[name].metrics["held_out"]
        assert scores["confusion"] == table.tolist()
        positives = table[positive].sum()
        assert scores["sensitivity"]["count"] == table[positive, positive]
        assert scores["sensitivity"]["total"] == positives
        negatives = np.delete(table, positive, axis=0)
        assert scores["specificity"]["total"] == len(test) - positives
        assert scores["specificity"]["count"] == np.delete(negatives, positive, axis=1).sum()


def test_the_areas_of_a_training_run_are_of_the_class_of_positive(runs):
    # A bright frame marks the positive class alone; nothing else tells it from the other two.
    metrics = runs["whole"].metrics
    assert metrics["cross_validation"]["auc"]["value"] == 1
    assert metrics["shortcuts"]["regions"]["whole"]["value"] == 1
    assert metrics["shortcuts"]["baselines"][0]["auc"]["value"] == 1
    assert metrics["cross_validation"]["sensitivity"]["value"] >= 0.9
    assert f"\nstored threshold: {metrics['threshold']:.4f}\n" in runs["whole"].stdout


@pytest.mark.long
def test_evaluation_scores_the_class_of_positive_in_every_region(
    folder, script, runs, predicted, data, probabilities_apart
):
    table = ("--json", "evaluation.json", "--cache", "kept")
    done = script(
        "evaluate_covid19.py",
        "-m",
        runs["whole"].path,
        "-d",
        "set",
        "--precision=float32",
        *table,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "evaluation.json").read_text())
    own, positive = OWN["whole"]
    scores = {region: p[:, positive] for region, p in probabilities_apart("whole").items()}
    areas = {region: roc_auc_score(data.labels == positive, s) for region, s in scores.items()}
    assert areas["lungs"] != areas["outside"]
    assert found["auc"]["value"] == pytest.approx(areas[own])
    for region in REGIONS:
        assert found["regions"][region]["value"] == pytest.approx(areas[region])
    rows, _ = predicted["whole"][0]
    labels = [data.classes.index(row["class"]) for row in rows]
    table = confusion_matrix(data.labels, labels, labels=range(3))
    assert found["evaluation"]["confusion"] == table.tolist()
    assert found["evaluation"]["sensitivity"]["count"] == table[positive, positive]
    unlike = [row["warning"] for row in rows]
    assert found["unlike_the_training_images"] == len(unlike) - unlike.count("")


def test_fit_all_names_every_image_as_trained_on_and_a_plain_run_its_training_images(
    runs, data, training_images
):
    for name in OWN:
        metadata = load_model(runs[name].path)[1]
        train = training_images(name)
        assert metadata.trained_on == [data.rows[i].sha256 for i in train]
        assert len(metadata.hashes) == len(train)
        assert len(metadata.patients) == len(np.unique(data.groups[train]))
        assert metadata.positive == data.classes[OWN[name][1]]


@pytest.mark.parametrize("name", ["whole", "all"])
def test_the_distance_of_an_image_is_from_the_training_images_alone(
    name, predictions, data, features, training_images
):
    train = training_images(name)
    images, predictions = predictions(name)
    found = np.array([prediction.distance for prediction in predictions])
    fitted = [
        fit_outlier_detector(
            features["whole"][train], data.groups[train], np.random.default_rng(seed)
        )
        for seed in range(10)
    ]
    ratio = fitted[0].distance(features["whole"][images]) / found
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=5e-3)
    # How patients are parted at random is all that moves the limit.
    limits = [float(one.limit) for one in fitted]
    assert min(limits) * 0.995 <= ratio.mean() <= max(limits) * 1.005


def test_an_image_farther_than_the_training_images_is_said_to_be_unlike_them(predicted):
    rows, stdout = predicted["all"][0]
    assert rows[-1]["distance"] > 1
    assert rows[-1]["warning"] == "unlike the training images"
    assert "unlike the training images" in stdout
    for row in rows:
        assert (row["warning"] == "unlike the training images") == (row["distance"] > 1)
    assert {row["warning"] for row in rows[:-1]} >= {""}


def test_options_of_head_and_augmentations_reach_the_saved_model(folder, script, data, features):
    few = [0, 1, 2, 4]
    for i in few:
        place = folder / "few" / data.classes[data.labels[i] and 1]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(data.paths[i], place)
    chosen = ("--augment", 1, "--rotation", 25, "--units", 5, "--dropout", 0.25, "--fit-all")
    quick = (
        "--region",
        "whole",
        "--repeats",
        0,
        "--epochs",
        2,
        "--cache",
        "kept",
        "-m",
        "few.keras",
        "--metrics",
        "few.json",
    )
    done = script("train_covid19.py", "-d", "few", *chosen, *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    layers = load_model(folder / "few.keras")[0].layers
    dense = [layer.units for layer in layers if isinstance(layer, keras.layers.Dense)]
    assert dense == [5, 2]
    dropout = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
    assert dropout == [0.25]
    standardise = [layer for layer in layers if isinstance(layer, keras.layers.Rescaling)][-1]
    mean = -np.array(standardise.offset) / np.array(standardise.scale)
    clean = features["whole"][few].mean(axis=0)
    change = np.linalg.norm(mean - clean) / np.linalg.norm(clean)
    assert 0.03 < change < 0.5


def test_bfloat16_changes_probabilities_by_little_and_no_other_part_of_the_model(runs):
    path, images = runs["whole"].path, sorted((ROOT / "dataset" / "covid").glob("*.jpg"))[:6]
    exact, fast = Predictor(path), Predictor(path, precision="bfloat16")
    assert exact.metadata == fast.metadata
    computed = [layer.compute_dtype for layer in fast.network.layers if "conv" in layer.name]
    assert set(computed) == {"bfloat16"}
    for one, other in zip(exact.predict_files(images), fast.predict_files(images), strict=True):
        np.testing.assert_allclose(other.probabilities, one.probabilities, rtol=0, atol=0.02)
        assert not np.array_equal(other.probabilities, one.probabilities)

"""Heads that are trained together learn what each learns alone; VGG16 is that of Keras."""

from dataclasses import replace
from itertools import combinations

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn.linear_model import LogisticRegression

from covidxray.data.images import read_image, save_png
from covidxray.demo.phantom import draw_class
from covidxray.errors import InputError
from covidxray.evaluation.metrics import LabelledProbabilities, score_repeats
from covidxray.evaluation.splits import repeated_folds
from covidxray.model.features import draw_angles, extract, rotate
from covidxray.model.head_solver import SolverTraining
from covidxray.model.heads import (
    HeadOptions,
    Heads,
    cross_validate,
    default_batch_size,
    fit_heads,
    fit_with_history,
)
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.lungs import build_region_model, load_segmenter
from covidxray.model.model_file import build_model
from covidxray.model.recipes import FEATURES, RECIPES, Recipe
from covidxray.model.vgg16 import build_backbone, resolve_precision
from covidxray.model.weights import load_weights
from covidxray.options.training import make_parser
from covidxray.pipeline.runs import TrainConfig
from covidxray.pipeline.training import head_options

PLAIN = HeadOptions(units=8, dropout=0.0, epochs=10, learning_rate=0.01)
LINEAR = HeadOptions(units=0, dropout=0.0, l2=0.1, learning_rate=0.1)
UNPENALISED = HeadOptions(units=0, dropout=0.0, epochs=40, learning_rate=0.05)


def cohort(n=30, augmentations=2, width=16, shift=2.0, seed=0, classes=2):
    """Features (n, 1 + augmentations, width) of classes whose means differ by `shift`, and
    labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, 1 + augmentations, width)) + shift * labels[:, None, None]
    return features.astype(np.float32), labels


def fit(features, labels, train, options, seed=1):
    data = LabelledFeatures.of(features, labels)
    return fit_heads(data, train, options, np.random.default_rng(seed))


@pytest.mark.parametrize("options", [PLAIN, LINEAR])
def test_the_loss_and_accuracy_of_each_epoch_are_what_keras_evaluates_without_the_penalty(options):
    features, labels = cohort(shift=0.3)
    labels[:4] = 0  # classes of unequal size, each with the same weight
    train, held_out = np.arange(20), np.arange(20, 30)
    data = LabelledFeatures.of(features, labels)
    heads, history = fit_with_history(data, train, held_out, options, np.random.default_rng(1))
    assert {len(values) for values in history.values()} == {options.epochs}
    model = keras.Sequential([keras.Input((16,))])
    for k, b in zip(heads.kernels, heads.biases, strict=True):
        kind = "softmax" if b is heads.biases[-1] else "relu"
        model.add(keras.layers.Dense(k.shape[2], kind))
        model.layers[-1].set_weights([k[0], b[0]])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    for prefix, images in (("", train), ("val_", held_out)):
        x, y = (features[images, 0] - heads.mean) / heads.scale, labels[images]
        weight = len(y) / (2 * np.bincount(y)[y])
        loss, accuracy = model.evaluate(x, y, sample_weight=weight, verbose=0)
        assert accuracy > 0
        assert history[f"{prefix}loss"][-1] == pytest.approx(loss, abs=1e-3)
        assert history[f"{prefix}accuracy"][-1] == pytest.approx(accuracy)


@pytest.mark.parametrize("options", [PLAIN, LINEAR])
def test_a_head_in_a_stack_learns_what_it_learns_alone(options):
    features, labels = cohort()
    train = [np.arange(20), np.arange(5, 25), np.arange(3, 20)]
    stacked = fit(features, labels, train, options)
    alone = fit(features, labels, train[:1], options)
    np.testing.assert_allclose(
        stacked.predict(features[:, 0], 0), alone.predict(features[:, 0], 0), atol=1e-4
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_a_head_without_hidden_units_is_penalised_balanced_logistic_regression(classes, l2):
    features, labels = cohort(60, augmentations=0, shift=0.6, classes=classes)
    train = np.flatnonzero((labels == 0) | (np.arange(60) % 5 != 0))
    heads = fit(features, labels, [train], replace(LINEAR, l2=l2))
    x = (features[:, 0].astype(float) - heads.mean[0]) / heads.scale[0]
    # Two opposite columns of weights pay half of what one of their difference would.
    strength = 1 / (l2 * len(train) * (1 if classes == 2 else 2))
    reference = LogisticRegression(C=strength, class_weight="balanced", tol=1e-8)
    reference.fit(x[train], labels[train])
    expected = reference.predict_proba(x)
    np.testing.assert_allclose(heads.predict(features[:, 0], 0), expected, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_solved_head_is_the_minimum_of_the_documented_objective(classes):
    features, labels = cohort(40, augmentations=2, shift=0.4, classes=classes)
    train = np.flatnonzero((labels == 0) | (np.arange(40) % 4 != 0))
    heads = fit(features, labels, [train], LINEAR)
    rows = features[train].astype(float)
    x = (rows - rows.mean(axis=(0, 1))) / rows.std(axis=(0, 1))
    n = np.bincount(labels[train])

    def objective(kernel, bias):
        logits = x @ kernel + bias
        log_p = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        losses = -log_p[np.arange(len(train)), :, labels[train]].mean(axis=1)
        weights = 1 / (classes * n[labels[train]])
        return losses @ weights + LINEAR.l2 * np.square(kernel).sum()

    kernel, bias = heads.kernels[0][0].astype(float), heads.biases[0][0].astype(float)
    least, rng = objective(kernel, bias), np.random.default_rng(0)
    for _ in range(30):
        moved = 0.01 * rng.normal(size=kernel.shape), 0.01 * rng.normal(size=bias.shape)
        assert objective(kernel + moved[0], bias + moved[1]) > least


def test_a_solved_head_depends_on_neither_seed_nor_order():
    features, labels = cohort(50, shift=0.3, width=200)
    order = np.random.default_rng(5).permutation(50)
    one = fit(features, labels, [np.arange(40)], LINEAR, seed=1)
    place = np.argsort(order)
    other = fit(features[order], labels[order], [place[:40]], LINEAR, seed=2)
    shown = features[:, 0]
    np.testing.assert_allclose(one.predict(shown, 0), other.predict(shown, 0), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_training_that_is_plotted_ends_at_the_solution(classes):
    features, labels = cohort(60, augmentations=1, shift=0.3, width=40, classes=classes)
    data, options = LabelledFeatures.of(features, labels), RECIPES["portable"].head
    train = np.arange(48)
    training = SolverTraining(data, train, options)
    training.fit(lambda: None)
    found, solved = Heads(*training.weights()), fit(features, labels, [train], options)
    shown = features[:, 0]
    np.testing.assert_allclose(found.predict(shown, 0), solved.predict(shown, 0), atol=1e-3)


def test_epochs_and_learning_rate_of_a_solved_head_shape_its_curve_alone():
    features, labels = cohort(shift=0.3)
    data, parts = LabelledFeatures.of(features, labels), (np.arange(20), np.arange(20, 30))
    curves, heads = [], []
    for options in (LINEAR, replace(LINEAR, epochs=5, learning_rate=0.5)):
        found, curve = fit_with_history(data, *parts, options, np.random.default_rng(1))
        heads.append(found)
        curves.append(curve["loss"])
    assert [len(curve) for curve in curves] == [25, 5]
    assert abs(curves[0][0] - curves[1][0]) > 0.05
    np.testing.assert_array_equal(heads[0].kernels[0], heads[1].kernels[0])


def test_a_class_that_a_fold_lacks_is_not_predicted_by_it():
    features, labels = cohort(30, classes=3)
    train = [np.flatnonzero(labels < 2), np.flatnonzero(labels == 1)]
    heads = fit(features, labels, train, LINEAR)
    assert heads.predict(features[:, 0], 0)[:, 2].max() < 1e-9
    assert heads.predict(features[:, 0], 1)[:, 1].min() > 1 - 1e-9


def test_a_training_that_diverges_is_named_with_the_remedy():
    features, labels = cohort()
    data, parts = LabelledFeatures.of(features, labels), (np.arange(20), np.arange(20, 30))
    options = replace(PLAIN, learning_rate=1e30)
    with pytest.raises(InputError, match="--lr: is too large"):
        fit_with_history(data, *parts, options, np.random.default_rng(1))


def test_a_cross_validation_that_diverges_is_named_too():
    features, labels = cohort()
    data = {"whole": LabelledFeatures.of(features, labels)}
    folds = [(0, np.arange(15), np.arange(15, 30)), (0, np.arange(15, 30), np.arange(15))]
    options = replace(PLAIN, learning_rate=1e30)
    with pytest.raises(InputError, match="--lr: is too large"):
        cross_validate(data, folds, options, np.random.default_rng(1))


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    features, _ = cohort(128, augmentations=0, shift=0.0)
    labels = (np.arange(128) % 4 == 0).astype(int)  # 96 and 32, and nothing tells them apart
    trained = replace(PLAIN, epochs=20, learning_rate=0.001)
    for options in (replace(LINEAR, l2=10.0), trained):
        heads = fit(features, labels, [np.arange(128)], options)
        np.testing.assert_allclose(heads.predict(features[:, 0], 0).mean(axis=0), 0.5, atol=0.05)


def test_two_more_copies_of_one_class_change_the_predictions_little():
    features, labels = cohort(40, augmentations=0, shift=0.7)
    copied = np.concatenate([np.arange(40), *[np.flatnonzero(labels == 0)] * 2])
    heads = fit(features, labels, [np.arange(40), copied], LINEAR)
    called = [heads.predict(features[:, 0], fit)[:, 1] for fit in (0, 1)]
    assert abs(called[0].mean() - called[1].mean()) < 0.01
    assert np.abs(called[0] - called[1]).max() < 0.05


@pytest.mark.parametrize("n", [50, 640, 5_000, 300_000])
def test_an_epoch_of_four_fifths_of_the_images_has_at_most_about_64_steps(n):
    size = default_batch_size(n)
    assert size == 8 or 0.8 * n / size == pytest.approx(64, rel=0.02)
    assert size > 8 or n < 720


def test_test_images_do_not_change_the_trained_head():
    features, labels = cohort()
    train = np.arange(24)
    before = fit(features, labels, [train], PLAIN)
    features[24:] = 1e6
    after = fit(features, labels, [train], PLAIN)
    np.testing.assert_array_equal(before.kernels[0], after.kernels[0])
    np.testing.assert_array_equal(before.mean, after.mean)


def test_two_fits_from_one_seed_are_the_same():
    features, labels = cohort()
    options = HeadOptions(units=8, epochs=3)
    heads = [fit(features, labels, [np.arange(30)], options) for _ in range(2)]
    np.testing.assert_array_equal(heads[0].kernels[0], heads[1].kernels[0])


@pytest.mark.parametrize(("shift", "low", "high"), [(2.0, 0.95, 1.0), (0.0, 0.3, 0.7)])
def test_cross_validation_finds_a_difference_between_classes_only_if_there_is_one(shift, low, high):
    features, labels = cohort(80, shift=shift)
    rng = np.random.default_rng(3)
    folds = list(repeated_folds(labels, np.arange(80), 5, 3, rng))
    data = {"whole": LabelledFeatures.of(features, labels)}
    regions, fold, _ = cross_validate(data, folds, PLAIN, rng)
    probabilities = regions["whole"]
    assert low <= (probabilities.argmax(axis=2) == labels).mean() <= high
    assert [len(np.unique(f)) for f in fold] == [5, 5, 5]


def test_three_classes_work():
    features, _ = cohort(30, shift=0.0)
    labels = np.arange(30) % 3
    features[np.arange(30), :, labels] += 6
    heads = fit(features, labels, [np.arange(30)], PLAIN)
    probabilities = heads.predict(features[:, 0], 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.9


def test_every_rate_of_dropout_gives_another_head():
    views, labels = cohort(shift=0.5)
    predicted = []
    for rate in (0.0, 0.2, 0.5):
        options = HeadOptions(units=8, dropout=rate, epochs=3, learning_rate=0.01)
        heads = fit(views, labels, [np.arange(30)], options)
        predicted.append(heads.predict(views[:, 0], 0))
    for one, other in combinations(predicted, 2):
        assert np.abs(one - other).max() > 1e-3


def test_training_takes_a_step_of_the_learning_rate_for_every_batch_of_every_epoch():
    # Adam's step is the learning rate for as long as a gradient hardly changes.
    labels = np.repeat([0, 1], [14, 16])
    views = np.where(labels == 1, 1.0, -1.0)[:, None, None].astype(np.float32)
    options = HeadOptions(
        units=0, dropout=0.0, l2=0.0, epochs=4, batch_size=10, learning_rate=0.002
    )
    heads = fit(views, labels, [np.arange(30)], options)
    np.testing.assert_allclose(heads.kernels[0][0, 0], [-0.024, 0.024], rtol=0.1)


def test_dropout_is_for_training_and_not_for_prediction():
    views, labels = cohort()
    options = HeadOptions(units=8, dropout=0.8, epochs=2)
    heads = fit(views, labels, [np.arange(30)], options)
    x = (views[:, 0] - heads.mean[0]) / heads.scale[0]
    hidden = np.maximum(x @ heads.kernels[0][0] + heads.biases[0][0], 0)
    raised = np.exp(hidden @ heads.kernels[1][0] + heads.biases[1][0])
    expected = raised / raised.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(heads.predict(views[:, 0], 0), expected, rtol=1e-4)


def test_every_row_of_an_image_is_drawn_in_some_epochs():
    # Feature k tells the classes apart in row k alone and is 0 in the other rows: the head weighs
    # it only if row k was drawn. Two images that kept their rows throughout would leave out one.
    labels = np.array([0, 1])
    views = np.stack([-np.eye(3), np.eye(3)]).astype(np.float32)
    options = replace(UNPENALISED, epochs=60, learning_rate=0.01)
    heads = fit(views, labels, [np.arange(2)], options)
    weight = heads.kernels[0][0, :, 1] - heads.kernels[0][0, :, 0]
    assert weight.min() > 0.3 * weight.max() > 0


def test_classes_of_unequal_size_keep_their_labels_in_every_row_of_an_image():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [4, 7, 13])
    views = rng.normal(0, 0.1, (24, 3, 3)).astype(np.float32)
    views[np.arange(24), :, labels] += 3
    train = [np.flatnonzero(np.arange(24) % 3), np.arange(3, 24)]
    for options in (LINEAR, UNPENALISED):
        heads = fit(views, labels, train, options)
        for f, indices in enumerate(train):
            for row in range(3):
                predicted = heads.predict(views[:, row], f).argmax(axis=1)
                np.testing.assert_array_equal(predicted, labels)
            rows = views[indices].reshape(-1, 3).astype(np.float64)
            np.testing.assert_allclose(heads.mean[f], rows.mean(axis=0), rtol=1e-4)
            np.testing.assert_allclose(heads.scale[f], rows.std(axis=0), rtol=1e-4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Six small pictures on disk."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i in range(6):
        pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
        path = folder / f"{i}.png"
        keras.utils.save_img(path, np.kron(pixels, np.ones((20, 20)))[..., None], scale=False)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def weights():
    return load_weights()


@pytest.fixture(scope="module")
def maps(weights, images):
    """What Keras' own VGG16 makes of the pictures: the maps that the recipes pool, by recipe."""
    reference = keras.applications.VGG16(include_top=False, weights=None)
    layers = [layer for layer in reference.layers if "conv" in layer.name]
    for layer, kernel, bias in zip(layers, weights.kernels, weights.biases, strict=True):
        layer.set_weights([kernel, bias])
    names = {"portable": "block4_conv3", "tutorial": "block5_pool"}
    outputs = {recipe: reference.get_layer(name).output for recipe, name in names.items()}
    pixels = np.stack([read_image(path) for path in images]).astype(np.float32)
    return keras.Model(reference.input, outputs).predict(
        (pixels - weights.mean) / weights.std, verbose=0
    )


def features_of(weights, recipe, precision, images, augmentations=1):
    """The backbone of a recipe, and the features of the whole picture (N, 1 + A, 512)."""
    backbone = build_backbone(weights, RECIPES[recipe], precision)
    angles = draw_angles(len(images), augmentations, 15, np.random.default_rng(5))
    features = extract(
        lambda: build_region_model(backbone, RECIPES[recipe], load_segmenter()), images, angles
    )
    variants = features.regions["whole"].reshape(1 + augmentations, len(images), -1)
    return backbone, variants.swapaxes(0, 1)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Two smooth pictures in colour, of the size that VGG16 takes, on disk."""
    rng = np.random.default_rng(4)
    folder = tmp_path_factory.mktemp("coloured")
    for i in range(2):
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC)
        large.save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def test_a_coloured_picture_is_normalised_as_torchvision_does(weights, coloured):
    # The first block is enough to see how the picture goes in.
    recipe = Recipe(1, pooled=False, power=1, head=HeadOptions())
    pixels = np.stack([np.asarray(Image.open(path)) for path in coloured]).astype(np.float32)
    x = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for kernel, bias in zip(weights.kernels[:2], weights.biases[:2], strict=True):
        x = keras.ops.relu(keras.ops.conv(x.astype("float32"), kernel, padding="same") + bias)
        x = np.asarray(x)
    ours = build_backbone(weights, recipe).predict_on_batch(pixels)
    np.testing.assert_allclose(ours, x.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_rows_after_the_first_are_of_the_rotated_image_and_the_lungs_of_the_clean_one(
    weights, coloured, tmp_path
):
    recipe, image = RECIPES["portable"], coloured[0]
    angles = draw_angles(4, 2, 40.0, np.random.default_rng(6))
    paths = [image, image, tmp_path / "first.png", tmp_path / "second.png"]
    for path, angle in zip(paths[2:], angles[1], strict=True):
        save_png(path, rotate(read_image(image), angle))
    found = extract(
        lambda: build_region_model(build_backbone(weights, recipe), recipe, load_segmenter()),
        paths,
        angles,
    )
    close = {"rtol": 1e-3, "atol": 1e-3}
    for rows in found.regions.values():
        features = rows.reshape(3, 4, FEATURES).swapaxes(0, 1)
        np.testing.assert_allclose(features[0, 0], features[1, 0], **close)
        np.testing.assert_allclose(features[1, 1:], features[2:, 0], **close)
        assert np.abs(np.diff(features, axis=1)).max(axis=2).min() > 0.1
    np.testing.assert_allclose(found.lungs[0], found.lungs[1], rtol=1e-3, atol=1e-2)
    assert np.abs(found.lungs[1] - found.lungs[2]).max() > 0.1


def test_angles_go_to_either_side_up_to_the_largest():
    angles = draw_angles(200, 3, 15.0, np.random.default_rng(0))
    assert angles.shape == (200, 3)
    assert -15 <= angles.min() < -14 and 14 < angles.max() <= 15
    assert abs(angles.mean()) < 1.5
    assert len(np.unique(angles)) == 600
    assert not draw_angles(5, 2, 0.0, np.random.default_rng(0)).any()


def test_a_positive_angle_turns_the_image_counterclockwise_about_its_centre():
    image = np.zeros((223, 223, 3), np.uint8)
    image[20:30, 105:118, 1] = 200  # a green mark in the middle of the upper part
    turned = rotate(image, 90.0)
    np.testing.assert_array_equal(turned, np.rot90(image))


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "power"), [("portable", 3), ("tutorial", 1)])
def test_the_backbone_is_keras_own_vgg16_pooled_over_the_whole_map(
    weights, images, maps, recipe, power
):
    own, ours = features_of(weights, recipe, "float32", images, augmentations=0)
    whole = maps[recipe].astype(np.float64)
    expected = (whole**power).mean(axis=(1, 2)) ** (1 / power)
    assert ours.shape == (len(images), 1, FEATURES)
    np.testing.assert_allclose(ours[:, 0], expected, rtol=1e-3, atol=1e-4)
    assert not own.trainable_variables


no_bfloat16 = pytest.mark.skipif(
    resolve_precision("auto") == "float32", reason="this CPU does not compute bfloat16 natively"
)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["portable", pytest.param("tutorial", marks=pytest.mark.long)])
@no_bfloat16
def test_bfloat16_features_differ_by_less_than_2_percent(weights, images, recipe):
    _, exact = features_of(weights, recipe, "float32", images)
    _, fast = features_of(weights, recipe, "bfloat16", images)
    assert np.linalg.norm(fast - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.long
@no_bfloat16
def test_bfloat16_changes_one_class_in_a_hundred_at_most_and_hardly_the_auc(weights, tmp_path):
    paths, labels, patients = [], [], []
    for label, name in enumerate(("covid", "normal")):
        drawn = draw_class(np.random.default_rng(label), 50, 256, diseased=name == "covid")
        for row, content in drawn:
            paths.append(tmp_path / row.filename)
            paths[-1].write_bytes(content)
            labels.append(label)
            patients.append(row.patient_id)
    labels, groups = np.array(labels), np.unique(patients, return_inverse=True)[1]
    folds = list(repeated_folds(labels, groups, 5, 4, np.random.default_rng(0)))
    options = RECIPES["portable"].head
    called, areas = [], []
    for precision in ("float32", "bfloat16"):
        _, features = features_of(weights, "portable", precision, paths, augmentations=0)
        rng = np.random.default_rng(1)
        data = {"whole": LabelledFeatures.of(features, labels)}
        found, fold, _ = cross_validate(data, folds, options, rng)
        probabilities = found["whole"]
        labelled = LabelledProbabilities(
            labels, probabilities, groups, 0, None, ("covid", "normal")
        )
        scores = score_repeats(labelled, probabilities, fold)
        called.append(probabilities.argmax(axis=2))
        areas.append(scores.auc.value)
    assert (called[0] == called[1]).mean(axis=1).min() >= 0.99
    assert abs(areas[0] - areas[1]) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "options"),
    [("portable", LINEAR), pytest.param("tutorial", PLAIN, marks=pytest.mark.long)],
)
def test_plain_keras_loads_the_saved_model_and_predicts_what_the_head_predicts(
    weights, images, tmp_path, recipe, options
):
    backbone, features = features_of(weights, recipe, "float32", images)
    labels = np.array([0, 1] * 3)
    heads = fit(features, labels, [np.arange(6)], options)
    model = build_model(backbone, backbone.output, heads, options.dropout)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    pixels = np.stack([read_image(image) for image in images])
    np.testing.assert_allclose(
        loaded.predict(pixels, verbose=0), heads.predict(features[:, 0], 0), atol=1e-3
    )


def test_options_that_are_not_given_are_taken_from_the_recipe():
    parser = make_parser(None)

    def options(*given):
        arguments = vars(parser.parse_args(["--dataset", str(ROOT / "dataset"), *given]))
        config = TrainConfig(**{**arguments, "add": ()})
        return head_options(config)

    portable = RECIPES["portable"].head
    assert (portable.units, portable.l2 > 0) == (0, True)
    assert options() == portable
    assert options("--recipe", "tutorial") == HeadOptions()
    named = ["--units", "16", "--dropout", "0.2", "--lr", "0.01"]
    named += ["--epochs", "3", "--batch-size", "4"]
    expected = HeadOptions(16, 0.2, 0.0, epochs=3, batch_size=4, learning_rate=0.01)
    assert options(*named) == expected
    linear = options("--recipe", "tutorial", "--units", "0", "--dropout", "0")
    assert linear == HeadOptions(units=0, dropout=0.0)


def test_rotating_by_0_changes_nothing_and_pixels_of_the_edge_fill_the_corners(images):
    image = read_image(images[0])
    np.testing.assert_array_equal(rotate(image, 0.0), image)
    white = np.full((224, 224, 3), 255, np.uint8)
    assert rotate(white, 15).min() == 255

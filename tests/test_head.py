"""Many heads trained as one learn what each would alone, and the saved file is all one needs."""

import json
import zipfile

import keras
import numpy as np
import pytest

from covidxray import head
from covidxray.backbone import build_backbone, native_bfloat16
from covidxray.features import extract, rotate
from covidxray.images import read_image
from covidxray.splits import repeated_folds
from covidxray.weights import load_weights

PLAIN = head.HeadOptions(units=8, dropout=0.0, epochs=10, learning_rate=0.01)


def cohort(n=30, views=2, width=16, shift=2.0, seed=0):
    """Features (n, 1 + views, width) of two classes whose means differ by `shift`, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    views = rng.normal(size=(n, 1 + views, width)) + shift * labels[:, None, None]
    return views.astype(np.float32), labels


def test_a_head_in_a_stack_learns_what_it_learns_alone():
    views, labels = cohort()
    train = [np.arange(20), np.arange(5, 25), np.arange(3, 20)]
    stacked = head.fit_heads(views, labels, train, PLAIN, np.random.default_rng(1))
    alone = head.fit_heads(views, labels, train[:1], PLAIN, np.random.default_rng(1))
    np.testing.assert_allclose(
        stacked.predict(views[:, 0], 0), alone.predict(views[:, 0], 0), atol=1e-4
    )


def test_nothing_of_a_test_image_reaches_its_training():
    views, labels = cohort()
    train = np.arange(24)
    before = head.fit_heads(views, labels, [train], PLAIN, np.random.default_rng(1))
    views[24:] = 1e6
    after = head.fit_heads(views, labels, [train], PLAIN, np.random.default_rng(1))
    np.testing.assert_array_equal(before.kernels[0], after.kernels[0])
    np.testing.assert_array_equal(before.mean, after.mean)


def test_two_fits_from_one_seed_are_the_same():
    views, labels = cohort()
    options = head.HeadOptions(units=8, epochs=3)
    heads = [
        head.fit_heads(views, labels, [np.arange(30)], options, np.random.default_rng(1))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(heads[0].kernels[0], heads[1].kernels[0])


@pytest.mark.parametrize(("shift", "low", "high"), [(2.0, 0.95, 1.0), (0.0, 0.3, 0.7)])
def test_cross_validation_finds_a_difference_and_invents_none(shift, low, high):
    views, labels = cohort(80, shift=shift)
    rng = np.random.default_rng(3)
    folds = list(repeated_folds(labels, np.arange(80), 5, 3, rng))
    probabilities, fit = head.cross_validate(views, labels, folds, PLAIN, rng)
    assert low <= (probabilities.argmax(axis=2) == labels).mean() <= high
    assert [len(np.unique(f)) for f in fit] == [5, 5, 5]


def test_three_classes_work():
    views, _ = cohort(30, shift=0.0)
    labels = np.arange(30) % 3
    views[np.arange(30), :, labels] += 6
    heads = head.fit_heads(views, labels, [np.arange(30)], PLAIN, np.random.default_rng(1))
    probabilities = heads.predict(views[:, 0], 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.9


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


def features_of(weights, precision, images, views=1):
    backbone = build_backbone(weights, precision)
    rng = np.random.default_rng(5)
    return backbone, extract(backbone, images, views=views, rotation=15, rng=rng).views


@pytest.mark.slow
def test_the_backbone_is_keras_own_vgg16_averaged_over_the_whole_map(weights, images):
    own, ours = features_of(weights, "float32", images, views=0)
    reference = keras.applications.VGG16(include_top=False, weights=None, pooling="avg")
    layers = [layer for layer in reference.layers if "conv" in layer.name]
    for layer, kernel, bias in zip(layers, weights.kernels, weights.biases, strict=True):
        layer.set_weights([kernel, bias])
    pixels = np.stack([read_image(path) for path in images]).astype(np.float32)
    expected = reference.predict((pixels - weights.mean) / weights.std, verbose=0)
    np.testing.assert_allclose(ours[:, 0], expected, rtol=1e-3, atol=1e-4)
    assert not own.trainable_variables


@pytest.mark.slow
@pytest.mark.skipif(not native_bfloat16(), reason="this CPU does not compute bfloat16 natively")
def test_bfloat16_features_differ_by_less_than_2_percent(weights, images):
    _, exact = features_of(weights, "float32", images)
    _, fast = features_of(weights, "bfloat16", images)
    assert np.linalg.norm(fast - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.slow
def test_the_saved_file_is_all_that_plain_keras_needs(weights, images, tmp_path):
    backbone, views = features_of(weights, "float32", images)
    labels = np.array([0, 1] * 3)
    heads = head.fit_heads(views, labels, [np.arange(6)], PLAIN, np.random.default_rng(1))
    about = {"classes": ["covid", "normal"], "positive": "covid", "threshold": 0.5}
    path = tmp_path / "m.keras"
    head.save_model(head.build_model(backbone, heads, 0.5), path, about)
    loaded = keras.saving.load_model(path, safe_mode=True)
    pixels = np.stack([read_image(image) for image in images])
    np.testing.assert_allclose(
        loaded.predict(pixels, verbose=0), heads.predict(views[:, 0], 0), atol=1e-3
    )
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read(head.MEMBER)) == about


def test_a_rotation_by_nothing_changes_nothing_and_its_rim_is_continued(images):
    image = read_image(images[0])
    np.testing.assert_array_equal(rotate(image, 0.0), image)
    white = np.full((224, 224, 3), 255, np.uint8)
    assert rotate(white, 15).min() == 255

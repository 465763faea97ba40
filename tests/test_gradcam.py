"""Heat maps equal those of Grad-CAM by automatic differentiation."""

from itertools import pairwise

import cv2
import keras
import numpy as np
import pytest
from conftest import ROOT

from covidxray.data import SIZE
from covidxray.data.images import read_image
from covidxray.data.lung_masks import CENTRAL_SIDE, enlarge, heat_in_centre
from covidxray.model import gradcam
from covidxray.model.heads import Heads
from covidxray.model.model_file import build_model
from covidxray.model.recipes import FEATURES, RECIPES
from covidxray.model.vgg16 import LAST, build_backbone
from covidxray.model.weights import load_weights


def heat_map(model, power, features, maps, label, within=None):
    coarse = gradcam.coarse_heat(model, power, features, maps, label, within)
    return gradcam.enlarge_heat(coarse, within)


@pytest.fixture(scope="module", params=RECIPES)
def model(request):
    """VGG16 with a random head of three classes, and the exponent of its pooling."""
    recipe, rng = RECIPES[request.param], np.random.default_rng(0)
    widths = [FEATURES, *([recipe.head.units] if recipe.head.units else []), 3]
    pairs = list(pairwise(widths))
    heads = Heads(
        rng.uniform(0, 1, (1, FEATURES)).astype(np.float32),
        rng.uniform(0.5, 2, (1, FEATURES)).astype(np.float32),
        tuple(rng.normal(0, n**-0.5, (1, n, m)).astype(np.float32) for n, m in pairs),
        tuple(rng.normal(0, 0.1, (1, m)).astype(np.float32) for _, m in pairs),
    )
    backbone = build_backbone(load_weights(), recipe)
    return build_model(backbone, backbone.output, heads, recipe.head.dropout), recipe.power


@pytest.fixture(scope="module")
def outputs(model):
    """An X-ray's probabilities, features and maps."""
    image = read_image(sorted((ROOT / "dataset" / "covid").glob("*.jpg"))[0])
    layers = [model[0].get_layer(name).output for name in ("features", LAST)]
    opened = keras.Model(model[0].input, [model[0].output, *layers])
    return [a[0] for a in opened.predict_on_batch(image[None].astype("float32"))]


def logits(model, maps):
    """The softmax's input by the maps of the last convolution."""
    output = model.get_layer("probabilities")
    tail = keras.Model(model.get_layer(LAST).output, output.input)
    return (tail(maps) @ output.kernel + output.bias)[0]


def gradient(function, at):
    """Of a scalar function of an array, by the backend's own automatic differentiation."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(at))
    if backend == "torch":
        import torch

        x = torch.tensor(at, requires_grad=True)
        function(x).backward()
        return x.grad.numpy()
    import tensorflow as tf

    x = tf.constant(at)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def by_differentiation(model, maps, label):
    """ReLU(sum of the maps, each weighed by the mean gradient of the class's score), (h, w)."""

    def score(x):
        y = logits(model, x)
        return y[label] - keras.ops.mean(y)

    # The root of a map that is zero everywhere has no gradient, and such a map adds no heat.
    weights = np.nan_to_num(gradient(score, maps[None])[0].mean(axis=(0, 1)))
    return np.maximum(maps @ weights, 0)


@pytest.mark.slow
def test_the_reference_scores_give_the_models_probabilities(model, outputs):
    raised = np.exp(keras.ops.convert_to_numpy(logits(model[0], outputs[2][None])))
    assert raised / raised.sum() == pytest.approx(outputs[0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("label", range(3))
def test_heat_is_grad_cam_by_automatic_differentiation(model, outputs, label):
    _, features, maps = outputs
    expected = by_differentiation(model[0], maps, label)
    assert expected.any()
    expected = np.maximum(cv2.resize(expected, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), 0)
    heat = heat_map(*model, features, maps, label)
    assert heat == pytest.approx(expected / expected.max(), abs=1e-3)


@pytest.mark.slow
def test_heat_of_two_classes_differs(model, outputs):
    heats = [heat_map(*model, *outputs[1:], label).ravel() for label in (0, 1)]
    assert np.corrcoef(*heats)[0, 1] < 0.9


@pytest.mark.slow
def test_a_picture_without_features_has_no_heat(model):
    nothing = np.zeros(FEATURES, np.float32), np.zeros((4, 4, FEATURES), np.float32)
    heat = heat_map(*model, *nothing, 0)
    assert heat.shape == (SIZE, SIZE)
    assert not heat.any()


def test_evenly_spread_heat_is_in_the_centre_in_proportion_to_its_area():
    share = heat_in_centre(np.ones((SIZE, SIZE), np.float32))
    assert share == pytest.approx(CENTRAL_SIDE**2, abs=0.01)


def test_the_fraction_of_heat_in_the_centre_is_nan_0_or_1_for_no_outer_or_central_heat():
    heat = np.zeros((SIZE, SIZE), np.float32)
    assert np.isnan(heat_in_centre(heat))
    heat[0, 0] = 1
    assert heat_in_centre(heat) == 0
    heat[0, 0], heat[SIZE // 2, SIZE // 2] = 0, 1
    assert heat_in_centre(heat) == 1


@pytest.mark.slow
def test_a_model_that_pools_the_lungs_has_heat_in_the_lungs_only(model, outputs):
    _, features, maps = outputs
    within = np.full((28, 28), -1.0, np.float32)
    within[8:20, 4:11] = 1
    heat = heat_map(*model, features, maps, 0, within)
    assert heat.max() == 1
    assert not heat[~enlarge(within)].any()


@pytest.mark.slow
def test_if_no_lungs_are_found_the_heat_is_that_of_the_whole_picture(model, outputs):
    none = np.full((28, 28), -1.0, np.float32)
    whole = heat_map(*model, *outputs[1:], 0)
    np.testing.assert_array_equal(heat_map(*model, *outputs[1:], 0, none), whole)

"""The segmenter finds lungs, and features are pooled over the regions it finds."""

import keras
import numpy as np
import pytest
from conftest import ROOT

from covidxray.data.folders import list_images
from covidxray.data.images import read_image, read_mask
from covidxray.data.lung_masks import dice, enlarge, is_pair_of_lungs
from covidxray.demo.phantom import draw_phantom
from covidxray.model import lungs
from covidxray.model.features import extract
from covidxray.model.lungs import build_region_model
from covidxray.model.recipes import RECIPES
from covidxray.model.vgg16 import build_backbone
from covidxray.model.weights import load_weights


@pytest.fixture(scope="module")
def weights():
    return load_weights()


@pytest.fixture(scope="module")
def find(weights):
    """A function from pictures (n, 224, 224, 3) to logits (n, 28, 28), by the default recipe."""
    backbone = build_backbone(weights, RECIPES["portable"])
    model = keras.Model(backbone.input, lungs.find_lungs(backbone, lungs.load_segmenter()))
    return lambda images: model.predict(np.asarray(images, np.float32), verbose=0)


def grey(image):
    return np.repeat(image[..., None], 3, axis=2)


@pytest.mark.slow
def test_lungs_of_drawings_are_found(find):
    rng = np.random.default_rng(100)
    drawn = [draw_phantom(rng, size=224, severity=s) for s in np.linspace(0, 0.8, 8)]
    found = [enlarge(z) for z in find([grey(d.image) for d in drawn])]
    assert min(dice(a, d.lungs) for a, d in zip(found, drawn, strict=True)) > 0.85
    assert all(map(is_pair_of_lungs, found))


@pytest.mark.slow
@pytest.mark.parametrize("step", [20, pytest.param(3, marks=pytest.mark.release)])
def test_the_segmenter_trained_on_drawings_finds_the_lungs_of_real_xrays(find, real_data, step):
    masks = sorted((real_data / "covid-chestxray-dataset/annotations/lungVAE-masks").iterdir())
    folder = real_data / "covid-chestxray-dataset/images"
    pairs = []
    for mask in masks:
        stem = mask.name.removesuffix("_mask.png")
        images = [folder / f"{stem}{suffix}" for suffix in (".jpg", ".png", ".jpeg")]
        pairs += [(image, mask) for image in images if image.is_file()]
    pairs = pairs[::step]
    found = find([read_image(image) for image, _ in pairs])
    overlaps = [dice(enlarge(z), read_mask(m)) for z, (_, m) in zip(found, pairs, strict=True)]
    assert len(overlaps) > 100 // step
    assert np.median(overlaps) >= 0.8


@pytest.mark.slow
def test_no_pair_of_lungs_is_found_in_noise_or_on_a_blank(find):
    rng = np.random.default_rng(0)
    noise, blank = rng.integers(0, 256, (224, 224, 3)), np.full((224, 224, 3), 90)
    ramp = np.broadcast_to(np.arange(224)[:, None, None], (224, 224, 3))
    assert not any(is_pair_of_lungs(enlarge(z)) for z in find([noise, blank, ramp]))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_features_of_a_region_are_means_over_its_cells(weights, recipe):
    """The expected means are computed with NumPy from the maps and the lungs of the same model."""
    paths = list_images(ROOT / "dataset" / "covid")[:3]
    made = RECIPES[recipe]
    backbone, segmenter = build_backbone(weights, made), lungs.load_segmenter()
    found = extract(
        lambda: build_region_model(backbone, made, segmenter), paths, np.zeros((len(paths), 0))
    )
    pixels = np.stack([read_image(path) for path in paths]).astype(np.float32)
    maps = keras.Model(backbone.input, backbone.get_layer("maps").output).predict(pixels, verbose=0)
    cells = 28 // maps.shape[1]
    inside = (found.lungs > 0).reshape(len(paths), maps.shape[1], cells, maps.shape[1], cells)
    inside = inside.mean(axis=(2, 4))[..., None]
    raised = maps.astype(np.float64) ** made.power
    shares = {"whole": np.ones_like(inside), "lungs": inside, "outside": 1 - inside}
    for name, share in shares.items():
        mean = (raised * share).sum(axis=(1, 2)) / share.sum(axis=(1, 2))
        expected = mean ** (1 / made.power)
        np.testing.assert_allclose(found.regions[name], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_where_no_lung_is_found_the_lungs_are_the_whole_picture(weights):
    made, segmenter = RECIPES["portable"], lungs.load_segmenter()
    *others, last = segmenter.biases
    blind = lungs.Segmenter(
        segmenter.mean, segmenter.scale, segmenter.kernels, (*others, last - np.float32(1e6))
    )
    paths = list_images(ROOT / "dataset" / "covid")[:2]
    found = extract(
        lambda: build_region_model(build_backbone(weights, made), made, blind),
        paths,
        np.zeros((len(paths), 0)),
    )
    assert (found.lungs < 0).all()
    np.testing.assert_allclose(found.regions["lungs"], found.regions["whole"], rtol=1e-3)
    np.testing.assert_allclose(found.regions["outside"], found.regions["whole"], rtol=1e-3)


def test_a_segmenter_is_the_same_after_writing_and_reading_a_file(tmp_path):
    segmenter = lungs.load_segmenter()
    np.savez(tmp_path / "a.npz", **segmenter.to_arrays())
    with np.load(tmp_path / "a.npz") as arrays:
        loaded = lungs.Segmenter.from_arrays(dict(arrays))
    for name, array in segmenter.to_arrays().items():
        np.testing.assert_array_equal(loaded.to_arrays()[name], array)

"""The lungs are found, also where nobody drew them, and what is pooled there is theirs."""

import keras
import numpy as np
import pytest
from conftest import ROOT

from covidxray import lungs
from covidxray.backbone import RECIPES, build_backbone
from covidxray.features import extract
from covidxray.images import list_images, read_image, save_png
from covidxray.masks import dice, enlarge, is_pair_of_lungs, read_mask, share_inside
from covidxray.phantom import draw_phantom
from covidxray.weights import load_weights


@pytest.fixture(scope="module")
def weights():
    return load_weights()


@pytest.fixture(scope="module")
def find(weights):
    """A function from pictures (n, 224, 224, 3) to logits (n, 28, 28), by the default recipe."""
    backbone = build_backbone(weights, RECIPES["portable"])
    model = keras.Model(backbone.input, lungs.attach(backbone, lungs.load_segmenter()))
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
@pytest.mark.parametrize("step", [20, pytest.param(3, marks=pytest.mark.long)])
def test_lungs_of_real_xrays_are_found_by_who_has_seen_drawings_only(find, real_data, step):
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


def ellipses(*places):
    y, x = np.mgrid[:224, :224]
    mask = np.zeros((224, 224), bool)
    for cx, cy, rx, ry in places:
        mask |= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    return mask


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(70, 110, 30, 60), (154, 110, 30, 60)], True),
        ([(70, 110, 30, 60), (154, 120, 24, 45)], True),
        ([(70, 110, 30, 60), (154, 110, 30, 60), (112, 60, 40, 5)], True),  # a narrow bridge
        ([], False),
        ([(70, 110, 30, 60)], False),
        ([(70, 110, 30, 60), (154, 110, 6, 8)], False),  # one of them far too small
        ([(110, 60, 30, 30), (110, 160, 30, 30)], False),  # above each other
        ([(70, 110, 8, 12), (154, 110, 8, 12)], False),  # tiny
        ([(70, 110, 30, 60), (154, 110, 30, 60), (112, 200, 40, 20)], False),  # and a third
        ([(70, 110, 30, 60), (154, 110, 30, 60), (112, 200, 20, 10)], True),  # a small third
        ([(60, 60, 30, 40), (164, 160, 30, 40)], False),  # one far lower than the other
        ([(60, 160, 30, 40), (164, 60, 30, 40)], False),
        ([(60, 100, 30, 40), (164, 130, 30, 40)], True),  # a little lower
        ([(60, 110, 40, 60), (164, 110, 15, 25)], False),  # one of them a sixth of the other
        ([(60, 110, 40, 60), (164, 110, 20, 40)], True),  # a third of it
        ([(56, 112, 54, 108), (168, 112, 54, 108)], False),  # larger than a chest
        ([(60, 112, 45, 100), (164, 112, 45, 100)], True),
        ([(100, 60, 40, 40), (124, 165, 40, 40)], False),  # hardly beside each other
    ],
)
def test_two_parts_beside_each_other_are_a_pair_of_lungs(places, expected):
    assert is_pair_of_lungs(ellipses(*places)) is expected


def test_a_part_inside_a_ring_is_no_lung_beside_it():
    ring = ellipses((112, 112, 90, 90)) & ~ellipses((112, 112, 60, 60))
    assert not is_pair_of_lungs(ring | ellipses((112, 112, 45, 45)))


def test_a_mask_is_what_is_brighter_than_middle_grey(tmp_path):
    values = np.array([0, 1, 100, 127, 128, 150, 254, 255], np.uint8)
    bands = np.repeat(np.repeat(values, 28)[None], 224, axis=0)
    save_png(tmp_path / "mask.png", grey(bands))
    mask = read_mask(tmp_path / "mask.png")
    assert mask.shape == (224, 224) and mask.dtype == bool
    np.testing.assert_array_equal(mask, bands > 127)


def test_logits_above_nought_are_lungs_where_they_stand():
    logits = np.full((28, 28), -1.0, np.float32)
    assert not enlarge(logits).any()
    logits[4:8, 15:25] = 1.0
    mask = enlarge(logits)
    np.testing.assert_array_equal(mask[36:60, 124:196], True)
    assert mask.mean() == pytest.approx(40 / 784, rel=0.1)
    assert enlarge(0 * logits + 0.01).all()


def test_dice_is_one_for_the_same_and_nought_apart():
    left, right = ellipses((70, 110, 30, 60)), ellipses((154, 110, 30, 60))
    assert dice(left, left) == 1
    assert dice(left, right) == 0
    assert dice(left, left | right) == pytest.approx(2 / 3, abs=0.01)


def test_the_share_of_heat_inside_is_counted_and_unknown_without_heat():
    mask, heat = np.zeros((4, 4), bool), np.ones((4, 4))
    mask[:2] = True
    assert share_inside(heat, mask) == 0.5
    assert np.isnan(share_inside(0 * heat, mask))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_three_poolings_are_means_over_their_places(weights, recipe):
    """Checked against NumPy on the maps and the lungs that the model itself found."""
    paths = list_images(ROOT / "dataset" / "covid")[:3]
    made = RECIPES[recipe]
    backbone, segmenter = build_backbone(weights, made), lungs.load_segmenter()
    rng = np.random.default_rng(0)
    found = extract(backbone, made, segmenter, paths, views=0, rotation=0, rng=rng)
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
        np.testing.assert_allclose(found.views[name][:, 0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_where_no_lung_is_found_the_lungs_are_the_whole_picture(weights):
    made, segmenter = RECIPES["portable"], lungs.load_segmenter()
    *others, last = segmenter.biases
    blind = lungs.Segmenter(
        segmenter.mean, segmenter.scale, segmenter.kernels, (*others, last - np.float32(1e6))
    )
    paths = list_images(ROOT / "dataset" / "covid")[:2]
    rng = np.random.default_rng(0)
    found = extract(build_backbone(weights, made), made, blind, paths, views=0, rotation=0, rng=rng)
    assert (found.lungs < 0).all()
    np.testing.assert_allclose(found.views["lungs"], found.views["whole"], rtol=1e-3)
    np.testing.assert_allclose(found.views["outside"], found.views["whole"], rtol=1e-3)


def test_a_segmenter_survives_a_file(tmp_path):
    segmenter = lungs.load_segmenter()
    np.savez(tmp_path / "a.npz", **lungs.to_arrays(segmenter))
    with np.load(tmp_path / "a.npz") as arrays:
        again = lungs.from_arrays(dict(arrays))
    for name, array in lungs.to_arrays(segmenter).items():
        np.testing.assert_array_equal(lungs.to_arrays(again)[name], array)

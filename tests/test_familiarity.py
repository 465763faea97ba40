"""The distance knows what is far from training images, and only that; two kinds need no distance.

The features here are drawn: positive, skewed, correlated through a few hidden causes, as the means
over a rectified convolution are.
"""

import numpy as np
import pytest
from conftest import ROOT

from covidxray.familiarity import fit_familiarity, unlike_an_xray
from covidxray.images import read_image

CAUSES = np.random.default_rng(0).normal(0, 0.3, (5, 128))


def draw(rng, patients, images=2, shift=0.0):
    """Features (patients * images, 128) and their patients; a patient's images are much alike."""
    own = rng.normal(size=(patients, 5)) @ CAUSES + rng.normal(0, 0.2, (patients, 128))
    logs = np.repeat(own, images, axis=0) + rng.normal(0, 0.1, (patients * images, 128))
    features = np.exp(logs + shift * np.sign(np.sin(np.arange(128))))
    return features.astype(np.float32), np.repeat(np.arange(patients), images)


@pytest.fixture(scope="module")
def usual():
    rng = np.random.default_rng(1)
    return fit_familiarity(*draw(rng, 200), rng)


def test_about_one_in_twenty_new_patients_is_beyond_the_limit(usual):
    new, _ = draw(np.random.default_rng(2), 1000, images=1)
    assert 0.02 < (usual.distance(new) > usual.limit).mean() < 0.08


def test_every_image_of_another_kind_is_beyond_it(usual):
    other, _ = draw(np.random.default_rng(3), 100, shift=0.5)
    assert (usual.distance(other) > usual.limit).all()


def test_with_many_images_a_patient_new_patients_are_still_usual():
    # Were a patient's images measured by that patient's others, the limit would be too near.
    rng = np.random.default_rng(4)
    fitted = fit_familiarity(*draw(rng, 40, images=8), rng)
    new, _ = draw(rng, 500, images=1)
    assert (fitted.distance(new) > fitted.limit).mean() < 0.15


def test_the_distance_of_an_image_does_not_depend_on_the_others(usual):
    new, _ = draw(np.random.default_rng(5), 4)
    alone = [usual.distance(row[None])[0] for row in new]
    assert usual.distance(new) == pytest.approx(alone, rel=1e-4)


def test_a_feature_silent_in_all_but_one_of_few_images_does_not_set_the_limit():
    rng = np.random.default_rng(9)
    features, groups = draw(rng, 12, images=1)
    without = fit_familiarity(features, groups, np.random.default_rng(0)).limit
    features[:, 0] = np.eye(12)[0]
    limit = fit_familiarity(features, groups, np.random.default_rng(0)).limit
    assert limit < 2 * without


def test_a_feature_that_never_fires_in_training_is_no_division_by_zero():
    rng = np.random.default_rng(6)
    features, groups = draw(rng, 20)
    features[:, 0] = 0
    fitted = fit_familiarity(features, groups, rng)
    assert np.isfinite(fitted.distance(features)).all()
    assert np.isfinite(fitted.limit)


def test_a_colour_photograph_and_a_blank_picture_are_no_xray():
    colours = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert unlike_an_xray(colours) == "not a chest X-ray: in colour"
    assert unlike_an_xray(np.full((64, 64, 3), 90, np.uint8)) == "not a chest X-ray: blank"


def test_grey_noise_and_drawings_may_be_one():
    grey = np.random.default_rng(8).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    assert unlike_an_xray(np.repeat(grey, 3, axis=2)) == ""
    for path in sorted((ROOT / "dataset").glob("*/*.jpg")):
        assert unlike_an_xray(read_image(path)) == ""


def test_a_tinted_radiograph_may_be_one():
    path = sorted((ROOT / "dataset" / "covid").glob("*.jpg"))[0]
    blueish = (read_image(path) * [0.95, 0.97, 1.0]).astype(np.uint8)
    assert unlike_an_xray(blueish) == ""

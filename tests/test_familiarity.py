"""The outlier detector finds images unlike the training images, and few others.

The features are random: positive, skewed, and correlated through a few hidden causes, like the
means of a rectified convolution.
"""

import numpy as np
import pytest
from conftest import ROOT

from covidxray.data.images import read_image
from covidxray.model.outliers import fit_outlier_detector, non_radiograph_warning

CAUSES = np.random.default_rng(0).normal(0, 0.3, (5, 128))


def draw(rng, patients, images=2, shift=0.0):
    """Features (patients * images, 128), similar within a patient, and their patients."""
    own = rng.normal(size=(patients, 5)) @ CAUSES + rng.normal(0, 0.2, (patients, 128))
    logs = np.repeat(own, images, axis=0) + rng.normal(0, 0.1, (patients * images, 128))
    features = np.exp(logs + shift * np.sign(np.sin(np.arange(128))))
    return features.astype(np.float32), np.repeat(np.arange(patients), images)


@pytest.fixture(scope="module")
def detector():
    rng = np.random.default_rng(1)
    return fit_outlier_detector(*draw(rng, 200), rng)


def test_about_one_in_twenty_new_patients_is_beyond_the_limit(detector):
    new, _ = draw(np.random.default_rng(2), 1000, images=1)
    assert 0.02 < (detector.distance(new) > detector.limit).mean() < 0.08


def test_every_image_of_another_kind_is_beyond_the_limit(detector):
    other, _ = draw(np.random.default_rng(3), 100, shift=0.5)
    assert (detector.distance(other) > detector.limit).all()


def test_the_limit_holds_for_new_patients_if_training_patients_have_many_images():
    # A limit from distances to images of the same patient would be too small.
    rng = np.random.default_rng(4)
    fitted = fit_outlier_detector(*draw(rng, 40, images=8), rng)
    new, _ = draw(rng, 500, images=1)
    assert (fitted.distance(new) > fitted.limit).mean() < 0.15


def test_the_distance_of_an_image_does_not_depend_on_the_others(detector):
    new, _ = draw(np.random.default_rng(5), 4)
    alone = [detector.distance(row[None])[0] for row in new]
    assert detector.distance(new) == pytest.approx(alone, rel=1e-4)


def test_a_feature_that_is_0_in_all_but_one_image_does_not_determine_the_limit():
    rng = np.random.default_rng(9)
    features, groups = draw(rng, 12, images=1)
    without = fit_outlier_detector(features, groups, np.random.default_rng(0)).limit
    features[:, 0] = np.eye(12)[0]
    limit = fit_outlier_detector(features, groups, np.random.default_rng(0)).limit
    assert limit < 2 * without


def test_a_feature_that_is_0_in_all_training_images_causes_no_division_by_zero():
    rng = np.random.default_rng(6)
    features, groups = draw(rng, 20)
    features[:, 0] = 0
    fitted = fit_outlier_detector(features, groups, rng)
    assert np.isfinite(fitted.distance(features)).all()
    assert np.isfinite(fitted.limit)


def test_a_colour_photograph_and_a_blank_picture_are_reported():
    colours = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert non_radiograph_warning(colours) == "not a chest X-ray: in colour"
    assert non_radiograph_warning(np.full((64, 64, 3), 90, np.uint8)) == "not a chest X-ray: blank"


def test_grey_noise_and_drawings_are_not_reported():
    grey = np.random.default_rng(8).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    assert non_radiograph_warning(np.repeat(grey, 3, axis=2)) == ""
    for path in sorted((ROOT / "dataset").glob("*/*.jpg")):
        assert non_radiograph_warning(read_image(path)) == ""


def test_a_tinted_radiograph_is_not_reported():
    path = sorted((ROOT / "dataset" / "covid").glob("*.jpg"))[0]
    blueish = (read_image(path) * [0.95, 0.97, 1.0]).astype(np.uint8)
    assert non_radiograph_warning(blueish) == ""

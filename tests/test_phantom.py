"""A drawing has two lungs, opacities only where it is told, and a shortcut only when asked."""

import cv2
import numpy as np
import pytest
from planted import SHORTCUTS, draw_phantom, encode_jpeg

from covidxray.demo.phantom import Anatomy


def draw(seed, **options):
    return draw_phantom(np.random.default_rng(seed), **options)


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def boxed(mask):
    """What is in the mask's bounding box, 64 x 64: its shape without the pose."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return cv2.resize(mask[y : y + height, x : x + width].astype(np.uint8), (64, 64)) > 0


def separation(feature, shortcut):
    """AUC of `feature` between 15 pictures with the shortcut and 15 of others without."""
    planted = [feature(draw(seed, size=128, shortcut=shortcut).image) for seed in range(15)]
    clean = [feature(draw(seed, size=128).image) for seed in range(15, 30)]
    return np.mean(np.greater.outer(planted, clean))


def test_a_seed_makes_the_picture():
    one, same, other = draw(1, severity=0.5), draw(1, severity=0.5), draw(2, severity=0.5)
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.lesions, same.lesions)
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("size", [64, 200])
def test_a_picture_is_grey_and_square_with_masks_of_its_shape(size):
    phantom = draw(0, size=size, severity=0.5)
    assert phantom.image.dtype == np.uint8
    assert phantom.lungs.dtype == phantom.lesions.dtype == bool
    assert phantom.image.shape == phantom.lungs.shape == phantom.lesions.shape == (size, size)


@pytest.mark.parametrize("seed", range(12))
def test_there_are_two_lungs_one_on_either_side(seed):
    count, _, stats, centres = cv2.connectedComponentsWithStats(
        draw(seed).lungs.astype(np.uint8), connectivity=8
    )
    assert count == 3  # with the background
    (left_x, left_y), (right_x, right_y) = sorted(centres[1:] / 256, key=lambda at: at[0])
    assert 0.15 < left_x < 0.4 and 0.55 < right_x < 0.85
    assert 0.3 < left_y < 0.6 and 0.3 < right_y < 0.6
    assert (stats[1:, cv2.CC_STAT_AREA] > 0.06 * 256**2).all()


@pytest.mark.parametrize("seed", range(6))
def test_lungs_are_darker_than_what_lies_between_them(seed):
    phantom = draw(seed)
    columns = np.flatnonzero(phantom.lungs.any(axis=0))
    rows = np.flatnonzero(phantom.lungs.any(axis=1))
    inside = np.zeros_like(phantom.lungs)
    inside[rows[0] : rows[-1], columns[0] : columns[-1]] = True
    middle = inside & ~phantom.lungs
    middle[:, : columns[0] + 80] = middle[:, columns[-1] - 80 :] = False
    assert np.median(phantom.image[phantom.lungs]) < np.median(phantom.image[middle]) - 40


def test_health_has_no_lesions():
    assert not any(draw(seed, size=64).lesions.any() for seed in range(10))


@pytest.mark.parametrize("severity", [0.1, 0.5, 1.0])
def test_lesions_lie_in_both_lungs_and_nowhere_else(severity):
    for seed in range(5):
        phantom = draw(seed, severity=severity)
        assert not (phantom.lesions & ~phantom.lungs).any()
        _, labels = cv2.connectedComponents(phantom.lungs.astype(np.uint8))
        assert set(labels[phantom.lesions]) == {1, 2}


def test_lesions_brighten_the_picture_there_and_leave_the_rest():
    healthy, ill = draw(3), draw(3, severity=0.6)
    change = ill.image.astype(float) - healthy.image
    away = cv2.dilate(ill.lungs.astype(np.uint8), np.ones((9, 9))) == 0
    assert change[ill.lesions].mean() > 10
    assert np.abs(change[away]).max() <= 25  # sharpening reaches a little beyond


@pytest.mark.parametrize("seed", range(4))
def test_lesions_spread_with_severity(seed):
    areas = [draw(seed, severity=severity).lesions.sum() for severity in (0.2, 0.4, 0.7, 1.0)]
    assert areas == sorted(set(areas))


def test_lesions_prefer_the_lower_zones():
    below = []
    for seed in range(10):
        phantom = draw(seed, severity=0.4)
        middle = np.median(np.nonzero(phantom.lungs)[0])
        below.append(np.mean(np.nonzero(phantom.lesions)[0] > middle))
    assert np.mean(below) > 0.6


@pytest.mark.parametrize("seed", range(4))
def test_size_changes_resolution_and_no_shape(seed):
    small, large = (draw(seed, size=size, severity=0.6) for size in (128, 512))
    for name in ("lungs", "lesions"):
        shrunk = cv2.resize(
            getattr(large, name).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA
        )
        assert overlap(getattr(small, name), shrunk > 0.5) > 0.9


def test_a_patient_is_known_again_in_another_picture():
    rng = np.random.default_rng(0)
    patients = [Anatomy(rng) for _ in range(12)]
    first, second = ([draw_phantom(rng, anatomy) for anatomy in patients] for _ in range(2))
    lungs = [[boxed(phantom.lungs) for phantom in visit] for visit in (first, second)]
    same = [overlap(a, b) for a, b in zip(*lungs, strict=True)]
    other = [overlap(a, b) for a, b in zip(lungs[0], lungs[1][1:], strict=False)]
    assert np.mean(same) > np.mean(other)
    assert all(
        np.abs(a.image.astype(float) - b.image).mean() > 3
        for a, b in zip(first, second, strict=True)
    )


def test_a_marker_can_be_read_off_a_thumbnail():
    def corner(image):
        return cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA)[0, 7]

    assert separation(corner, "marker") > 0.9


def test_a_border_can_be_read_off_the_outer_frame():
    def frame(image):
        return image[:4].mean() + image[-4:].mean() + image[:, :4].mean() + image[:, -4:].mean()

    assert separation(frame, "border") > 0.9


def test_brightness_can_be_read_off_the_histogram():
    assert separation(np.median, "brightness") > 0.9


def test_jpeg_can_be_read_off_the_size_of_the_file():
    def nbytes(image, shortcut=None):
        return len(encode_jpeg(image, shortcut=shortcut))

    images = [draw(seed).image for seed in range(30)]
    planted = [nbytes(image, "jpeg") for image in images[:15]]
    clean = [nbytes(image) for image in images[15:]]
    assert np.mean(np.less.outer(planted, clean)) > 0.9


def test_a_jpeg_shortcut_leaves_the_drawing_alone():
    assert np.array_equal(draw(0, shortcut="jpeg").image, draw(0).image)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_moves_no_anatomy(shortcut):
    clean, planted = draw(5, severity=0.4), draw(5, severity=0.4, shortcut=shortcut)
    assert np.array_equal(clean.lungs, planted.lungs)
    assert np.array_equal(clean.lesions, planted.lesions)


@pytest.mark.parametrize("shortcut", [None, "jpeg"])
def test_a_jpeg_decodes_to_nearly_the_picture(shortcut):
    image = draw(0).image
    coded = np.frombuffer(encode_jpeg(image, shortcut=shortcut), np.uint8)
    decoded = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    assert np.abs(decoded.astype(float) - image).mean() < 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"severity": -0.1}, "severity.*-0.1"),
        ({"severity": 1.1}, "severity.*1.1"),
        ({"severity": float("nan")}, "severity.*nan"),
        ({"size": 63}, "size.*63"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(options, words):
    with pytest.raises(ValueError, match=words) as error:
        draw(0, **options)
    assert "\n" not in str(error.value)

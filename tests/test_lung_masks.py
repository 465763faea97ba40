"""Masks of lungs, and the shares of a heat map in them and in the central part of the picture."""

import cv2
import numpy as np
import pytest

from covidxray.data import SIZE
from covidxray.data.images import read_mask, save_png
from covidxray.data.lung_masks import (
    CENTRAL_SIDE,
    dice,
    enlarge,
    heat_in_centre,
    heat_in_mask,
    is_pair_of_lungs,
)


def test_the_central_share_of_even_heat_is_the_area_of_the_central_part():
    share = heat_in_centre(np.ones((SIZE, SIZE), np.float32))
    assert share == pytest.approx(CENTRAL_SIDE**2, abs=0.01)


def test_without_heat_the_central_share_is_not_a_number():
    assert np.isnan(heat_in_centre(np.zeros((SIZE, SIZE), np.float32)))


@pytest.mark.parametrize(("row", "column", "share"), [(0, 0, 0), (SIZE // 2, SIZE // 2, 1)])
def test_heat_of_one_pixel_is_in_the_central_part_or_not(row, column, share):
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[row, column] = 1
    assert heat_in_centre(heat) == share


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
def test_two_parts_side_by_side_are_a_pair_of_lungs(places, expected):
    assert is_pair_of_lungs(ellipses(*places)) is expected


@pytest.mark.parametrize(("width", "expected"), [(11, True), (18, False)])
def test_a_slanted_bridge_joins_two_lungs_unless_it_is_narrow(width, expected):
    mask = ellipses((60, 110, 30, 60), (164, 110, 30, 60)).astype(np.uint8)
    cv2.line(mask, (60, 60), (164, 160), 1, width)
    assert is_pair_of_lungs(mask > 0) is expected


def test_dice_is_one_for_equal_masks_and_zero_for_disjoint_masks():
    left, right = ellipses((70, 110, 30, 60)), ellipses((154, 110, 30, 60))
    assert dice(left, left) == 1
    assert dice(left, right) == 0
    assert dice(left, left | right) == pytest.approx(2 / 3, abs=0.01)


def test_the_fraction_of_heat_inside_a_mask_is_nan_without_heat():
    mask, heat = np.zeros((4, 4), bool), np.ones((4, 4))
    mask[:2] = True
    assert heat_in_mask(heat, mask) == 0.5
    assert np.isnan(heat_in_mask(0 * heat, mask))


def test_two_empty_masks_are_equal():
    assert dice(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1


def test_positive_logits_become_the_mask_of_their_part_of_the_image():
    logits = np.full((28, 28), -1.0)
    logits[:14, :7] = 1
    mask = enlarge(logits)
    expected = np.zeros((SIZE, SIZE), bool)
    expected[: SIZE // 2, : SIZE // 4] = True
    assert mask.shape == (SIZE, SIZE)
    assert (mask != expected).mean() < 0.01


def test_a_mask_is_what_is_brighter_than_mid_grey_in_its_file(tmp_path):
    grey = np.zeros((SIZE, SIZE, 3), np.uint8)
    grey[:100], grey[100:150] = 128, 127
    save_png(tmp_path / "mask.png", grey)
    expected = np.zeros((SIZE, SIZE), bool)
    expected[:100] = True
    assert (read_mask(tmp_path / "mask.png") == expected).all()

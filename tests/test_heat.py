"""The share of a heat map that lies in the central part of the picture."""

import numpy as np
import pytest

from covidxray.data import SIZE
from covidxray.data.lung_masks import CENTRAL_SIDE, heat_in_centre


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

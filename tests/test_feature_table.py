"""The features of a data set are held once, in memory or in a mapped file, whatever came first."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from covidxray.data.image_statistics import ImageStatistics
from covidxray.errors import InputError
from covidxray.model import feature_table
from covidxray.model.feature_table import Features, ImageFeatures
from covidxray.model.recipes import FEATURES, REGIONS

PATHS = [Path(f"{i}.png") for i in range(5)]


def image(i):
    """Features of image number `i` and one augmentation, which tell where they come from."""
    regions = np.full((3, 2, FEATURES), i, np.float32) + np.array([0, 0.5])[:, None]
    parts = (np.full(n, i, np.float32) for n in (64, 56, 23))
    statistics = ImageStatistics(*parts, {"width": i}, np.full(4, i, np.uint64))
    pixels = np.full((224, 224, 3), i, np.uint8) if i == 1 else None
    return ImageFeatures(regions, np.full((28, 28), i, np.float32), statistics, pixels)


def make(order=(3, 0, 4, 1), unread=(2,)):
    found = [(i, image(i)) for i in order] + [(i, InputError(f"{i}")) for i in unread]
    return Features.of(iter(found), PATHS)


def test_rows_are_in_the_order_of_the_paths_without_the_images_that_cannot_be_read():
    features = make()
    assert list(features.unread) == [2]
    for region in REGIONS:
        expected = [0, 1, 3, 4, 0.5, 1.5, 3.5, 4.5]  # the unchanged images first
        np.testing.assert_array_equal(features.regions[region][:, 7], expected)
    np.testing.assert_array_equal(features.lungs[:, 0, 0], [0, 1, 3, 4])
    assert [one.file["width"] for one in features.image_statistics] == [0, 1, 3, 4]
    assert list(features.pixels) == [PATHS[1]]


def test_selected_images_keep_their_augmentations():
    features = make().select([3, 1])
    np.testing.assert_array_equal(features.regions["lungs"][:, 0], [4, 1, 4.5, 1.5])
    assert features.hashes[:, 0].tolist() == [4, 1]
    labelled = features.labelled(np.array([1, 0]))["whole"]
    assert labelled.image.tolist() == [0, 1, 0, 1]


def test_all_images_are_selected_without_a_copy():
    features = make(order=range(5), unread=())
    assert features.select(range(5)).table is features.table
    assert all(np.shares_memory(rows, features.table) for rows in features.regions.values())


def test_features_of_many_images_lie_in_a_mapped_file(monkeypatch):
    in_memory = make()
    monkeypatch.setattr(feature_table, "MAPPED", 2)
    mapped = make()
    assert isinstance(mapped.table, np.memmap) and not isinstance(in_memory.table, np.memmap)
    np.testing.assert_array_equal(mapped.table, in_memory.table)
    assert isinstance(mapped.select([0, 1, 3]).table, np.memmap)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room cannot be reserved here")
def test_a_full_disk_is_named_before_anything_is_computed(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_table, "MAPPED", 2)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"has no room for 0\.0 GB of features \(No space"):
        make()


def test_a_data_set_without_one_readable_image_has_no_rows():
    features = make(order=(), unread=range(5))
    assert len(features.unread) == 5 and features.image_statistics == []

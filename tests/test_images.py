"""An image file is read once and decoded to uint8 RGB (224, 224, 3), or refused."""

import hashlib
import sys
import warnings
from collections import Counter
from os import PathLike
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_dicom import save_dicom

from covidxray.audit.feature_tables import feature_tables
from covidxray.data import SIZE
from covidxray.data.duplicates import DUPLICATE_BITS, hash_distance, perceptual_hash
from covidxray.data.folders import list_images, list_tree
from covidxray.data.grey import scale_to_uint8, value_range
from covidxray.data.image_file import ImageFile, strict_warnings
from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.images import decode, read_image, read_with_statistics, save_png
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError

RAMP = np.tile(np.arange(256, dtype=np.uint8), (256, 1))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_grey_looks_the_same(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(RAMP.astype(np.uint16) * 257)
    elif mode in "IF":
        image = Image.fromarray(RAMP.astype(np.int32 if mode == "I" else np.float32) * 16)
    else:
        image = Image.fromarray(RAMP).convert(mode)
    path = tmp_path / "x.tif"
    image.save(path)
    plain = tmp_path / "plain.png"
    Image.fromarray(RAMP).save(plain)
    pixels = read_image(path)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - read_image(plain)).max() <= 2


def test_the_exif_orientation_is_applied(tmp_path):
    turned = Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "x.png", exif=exif)
    assert read_image(tmp_path / "x.png")[100, 10, 0] < 30


def test_a_small_image_in_colour_is_enlarged_to_the_whole_square(tmp_path):
    quarters = np.zeros((20, 30, 3), np.uint8)
    quarters[:10, :15], quarters[:10, 15:] = (250, 20, 20), (20, 250, 20)
    quarters[10:, :15], quarters[10:, 15:] = (20, 20, 250), (240, 240, 20)
    Image.fromarray(quarters).save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png")
    assert pixels.shape == (224, 224, 3)
    for (top, left), colour in (
        ((0, 0), (250, 20, 20)),
        ((0, 120), (20, 250, 20)),
        ((120, 0), (20, 20, 250)),
        ((120, 120), (240, 240, 20)),
    ):
        corner = pixels[top : top + 104, left : left + 104].astype(int)
        assert np.median(np.abs(corner - colour)) <= 2
        assert (np.abs(corner - colour).mean(axis=(0, 1)) < 8).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_half_an_image_is_no_image(tmp_path, picture, kind, kept):
    content = picture(1, kind, (300, 300))
    path = tmp_path / "x"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="not an image that can be decoded"):
        read_image(path)


def test_the_hash_survives_another_size_and_quality_but_not_another_picture(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture(1, size=(400, 400)))
    (tmp_path / "b.png").write_bytes(picture(2, size=(400, 400)))
    Image.open(tmp_path / "a.png").resize((150, 170)).save(tmp_path / "c.jpg", quality=50)
    a, b, c = (perceptual_hash(read_image(tmp_path / name)) for name in ("a.png", "b.png", "c.jpg"))
    assert hash_distance(a, c) <= DUPLICATE_BITS < hash_distance(a, b)


def test_a_file_of_more_than_one_gigabyte_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(InputError, match=r"x\.png: is larger than 1 GiB; scale it down"):
        read_image(tmp_path / "x.png")


def test_one_reading_gives_digest_format_size_and_pixels(tmp_path, picture):
    content = picture(1, "JPEG", (320, 240))
    (tmp_path / "x.png").write_bytes(content)
    file = ImageFile.read(tmp_path / "x.png")
    pixels, facts = decode(file)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert [facts[name] for name in ("format", "bits", "channels")] == ["JPEG", 8, 1]
    assert (facts["width"], facts["height"]) == (np.log2(320), np.log2(240))
    assert facts["bytes per pixel"] == np.log2(len(content) / (320 * 240))
    assert (pixels == read_image(tmp_path / "x.png")).all()


@pytest.fixture
def tree(tmp_path):
    """Images and other files, in a folder and below it."""
    for folder in ("below", ".hidden", "__MACOSX"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").touch()
    for name in ("b.JPG", "a.png", "c.dcm", "manifest.csv", "notes.txt", ".d.png"):
        (tmp_path / name).touch()
    for name in ("IM0001", "1.2.840.113", "DICOMDIR"):
        save_dicom(tmp_path / name, RAMP)
    return tmp_path


def test_images_are_found_by_extension_and_dicom_by_content(tree):
    names = [path.name for path in list_images(tree)]
    assert names == ["1.2.840.113", "IM0001", "a.png", "b.JPG", "c.dcm"]


def test_images_below_are_found_on_demand_but_not_hidden_ones(tree):
    more = set(list_tree(tree)[0]) - set(list_images(tree))
    assert more == {tree / "below" / "x.png"}


@pytest.mark.parametrize("size", [(300, 260), (448, 448), (1000, 231), (100, 90)])
def test_a_grey_picture_becomes_what_its_copy_in_colour_becomes(tmp_path, size):
    grey = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png"), read_image(tmp_path / "rgb.png")
    )


@pytest.fixture
def opened(tmp_path):
    """How often each file below the test's own folder was opened since it began."""
    counts = Counter()

    def count(event, arguments):
        if event == "open" and isinstance(arguments[0], str | PathLike) and counts.active:
            path = Path(arguments[0])
            counts[path.name] += path.is_relative_to(tmp_path)

    counts.active = True
    sys.addaudithook(count)  # a hook cannot be removed again
    yield counts
    counts.active = False


@pytest.fixture
def one_of_each_format(tmp_path):
    """A data set of two classes, each with three JPEG, three PNG and three DICOM files."""
    root = tmp_path / "set"
    for name in ("covid", "normal"):
        (root / name).mkdir(parents=True)
        drawings = sorted((ROOT / "dataset" / name).glob("*.jpg"))[:9]
        for i, path in enumerate(drawings):
            grey = Image.open(path).convert("L")
            if i % 3 == 0:
                save_dicom(root / name / f"{name}{i}.dcm", np.asarray(grey))
            else:
                grey.save(root / name / f"{name}{i}.{'png' if i % 3 == 1 else 'jpg'}")
    return root


@pytest.mark.parametrize(
    "command",
    [
        ("audit_dataset.py",),
        pytest.param(
            ("train_covid19.py", "--folds", 2, "--repeats", 1, "--no-cache"),
            marks=[pytest.mark.slow, pytest.mark.long],
        ),
    ],
    ids=lambda command: command[0],
)
def test_an_image_file_is_opened_once_to_inspect_it_and_once_to_decode_it(
    one_of_each_format, script, tmp_path, opened, command
):
    done = script(*command, "-d", one_of_each_format, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    images = [path.name for folder in one_of_each_format.iterdir() for path in folder.iterdir()]
    assert len(images) == 18
    assert {name: opened[name] for name in images} == dict.fromkeys(images, 2)


def test_statistics_worked_out_by_hand(tmp_path):
    """Of a grey picture of 224 pixels: 8 x 8 means, 14 means along each side, and the histogram."""
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = read_with_statistics(tmp_path / "x.png")[1]
    assert found.thumbnail == pytest.approx(means(pixels, 8, 8).ravel(), abs=0.01)
    sides = pixels[:8], pixels[-8:], pixels[:, :8].T, pixels[:, -8:].T
    frame = np.concatenate([means(side, 1, 14).ravel() for side in sides])
    assert found.frame == pytest.approx(frame, abs=0.01)
    shares = [(pixels // 16 == level).mean() for level in range(16)]
    quantiles = np.percentile(pixels, (1, 5, 25, 50, 75, 95, 99))
    assert found.histogram == pytest.approx(np.r_[shares, quantiles])
    for measured in (found.thumbnail, found.frame, found.histogram):
        assert measured.dtype == np.float32


def test_a_table_of_features_has_a_mean_of_0_and_a_deviation_of_1(tmp_path, picture):
    found = []
    for i in range(6):
        (tmp_path / "x.png").write_bytes(picture(i, size=(64 + i, 80)))
        found.append(read_with_statistics(tmp_path / "x.png")[1])
    rows = [ManifestRow("x.png", "s", "x", "", age=str(30 + i)) for i in range(6)]
    tables = feature_tables(found, rows)
    assert list(tables) == ["frame", "histogram", "file", "thumbnail", "manifest"]
    for table in tables.values():
        assert table.dtype == np.float32
        assert np.abs(table.mean(axis=0)).max() < 1e-5
        assert table.std(axis=0) == pytest.approx(1)
    assert tables["manifest"].shape == (6, 1)


def test_the_facts_of_a_dicom_file_are_those_of_its_header(tmp_path):
    save_dicom(tmp_path / "x.dcm", np.arange(512, dtype=np.uint16).reshape(16, 32), bits=12)
    facts = decode(ImageFile.read(tmp_path / "x.dcm"))[1]
    size = facts.pop("bytes per pixel")
    assert size == pytest.approx(np.log2((tmp_path / "x.dcm").stat().st_size / 512))
    assert facts == {
        **{"width": 5, "height": 4, "aspect": 1, "bits": 12, "channels": 1, "JPEG quality": 0},
        "format": "DICOM 1.2.840.10008.1.2.1",
    }


def means(pixels, rows, columns):
    """The means of equal parts of an array of two axes."""
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    return pixels.reshape(rows, height, columns, width).mean(axis=(1, 3))


def test_filters_of_warnings_are_restored_by_the_last_that_leaves():
    before = list(warnings.filters)
    for _ in range(2):
        with strict_warnings:
            with strict_warnings:
                pass
            assert warnings.filters != before
        assert warnings.filters == before


def test_values_beyond_the_range_are_black_or_white_and_what_is_no_number_is_black():
    values = np.array([-300.0, 0.0, 0.4, 51.0, 255.0, 400.0, np.nan])
    assert scale_to_uint8(values, 0, 255).tolist() == [0, 0, 0, 51, 255, 255, 0]
    assert scale_to_uint8(np.array([10.0, 30.0, 50.0]), 10, 50).tolist() == [0, 128, 255]


@pytest.mark.parametrize(("marker", "white"), [(200, 200), (201, 100)])
def test_a_marker_is_farther_above_all_others_than_they_span(marker, white):
    values = np.r_[0, np.full(1998, 100), marker]
    assert value_range(values, deep=True) == (0, white)
    assert value_range(values, deep=False) == (0, marker)


def test_a_png_holds_the_pixels_and_their_colours(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    save_png(tmp_path / "x.png", pixels)
    assert (read_image(tmp_path / "x.png") == pixels).all()


def test_statistics_come_back_from_their_arrays(tmp_path, picture):
    (tmp_path / "x.jpg").write_bytes(picture(1, "JPEG", (320, 240)))
    _, statistics = read_with_statistics(tmp_path / "x.jpg")
    arrays = statistics.arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = ImageStatistics.of(dict(arrays))
    assert again.file == statistics.file
    for name in ("thumbnail", "frame", "histogram", "hash"):
        np.testing.assert_array_equal(getattr(again, name), getattr(statistics, name))

"""Pixels that a file describes in an unusual way are shown as the standard says."""

import shutil
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import ExifTags, Image
from pydicom import uid
from pydicom.encaps import encapsulate, get_frame
from test_dicom import alter, compress, grey, lut, read_pixels, save_dicom

from covidxray.data.image_file import ImageFile
from covidxray.data.images import decode, read_image, read_with_statistics
from covidxray.errors import InputError

VALUES = np.arange(1000, 3400, 8).reshape(15, 20)  # of 12 bits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.dcm"


@pytest.fixture
def plain(tmp_path):
    """What a file shows that holds `VALUES` and nothing else."""
    save_dicom(tmp_path / "plain.dcm", VALUES.astype(np.uint16), bits=12)
    return read_pixels(tmp_path / "plain.dcm")


def stream_of(path):
    return get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", ["native", "RLELossless"])
def test_a_value_may_lie_anywhere_in_its_word(path, plain, signed, syntax):
    values = (VALUES - 2200 * signed) & 0xFFF
    words = (values << 3) | 0x8005  # other bits above and below the value
    save_dicom(path, words.astype(np.int16 if signed else np.uint16), bits=16)
    if syntax != "native":
        compress(path, syntax)
    alter(path, BitsStored=12, HighBit=14)
    assert (read_pixels(path) == plain).all()


def test_the_sign_of_a_value_is_its_highest_stored_bit(path, plain):
    save_dicom(path, ((VALUES - 2200) & 0xFFF).astype(np.int16), bits=16)
    alter(path, BitsStored=12, HighBit=11)
    assert (read_pixels(path) == plain).all()


@pytest.mark.parametrize("syntax", ["JPEGLSLossless", "JPEGLosslessSV1", "JPEG2000Lossless"])
def test_bits_above_a_value_do_not_count_in_a_stream(path, plain, syntax):
    save_dicom(path, (VALUES | 0x2000).astype(np.uint16), bits=16)
    compress(path, syntax)
    alter(path, BitsStored=12, HighBit=11)
    assert (read_pixels(path) == plain).all()


def test_a_stream_of_8_bits_may_have_16_allocated(path):
    values = np.arange(240, dtype=np.uint8).reshape(15, 16)
    save_dicom(path, values.astype(np.uint16), bits=16)
    ds = pydicom.dcmread(path)
    ds.PixelData = encapsulate([imagecodecs.jpeg8_encode(values, lossless=True)])
    ds.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    ds.BitsStored, ds.HighBit = 8, 7
    ds.save_as(path, implicit_vr=False, little_endian=True)
    assert (
        read_pixels(path)[..., 0].ravel().tolist() == np.round(np.arange(240) / 239 * 255).tolist()
    )


def test_the_first_value_of_a_voi_lut_has_a_sign_where_values_below_0_enter_it(path):
    table = lut(0xFFF6, [0, 100, 255], 8)  # -10 as two's complement
    options = {"RescaleSlope": 1, "RescaleIntercept": -10, "VOILUTSequence": table}
    assert grey(path, [0, 1, 2, 9], **options) == [0, 100, 255, 255]


def test_the_first_value_of_a_voi_lut_has_no_sign_where_no_value_is_below_0(path):
    table = lut(40000, [0, 100, 255], 8)
    assert grey(path, [0, 40001, 40002], VOILUTSequence=table) == [0, 100, 255]


def test_the_first_value_of_a_modality_lut_has_the_sign_of_the_pixels(path):
    table = lut(0, [0, 100, 255], 8)
    del table[0].LUTDescriptor
    table[0].add_new("LUTDescriptor", "US", [3, 0xFFFF, 8])
    assert grey(path, [-1, 0, 1], dtype=np.int16, ModalityLUTSequence=table) == [0, 100, 255]
    table = lut(25000, [0, 100, 255], 8)  # the highest bit is not set
    values = [24999, 25000, 25001, 25002]
    assert grey(path, values, dtype=np.int16, ModalityLUTSequence=table) == [0, 0, 100, 255]


def test_a_voi_lut_has_the_sign_of_the_lowest_value_that_the_rescaling_could_give(path):
    table = lut(0xFFF6, [0, 100, 255], 8)
    options = {"RescaleSlope": -1, "RescaleIntercept": 1000, "VOILUTSequence": table}
    assert grey(path, [1010, 1009, 1008, 1000], **options) == [0, 100, 255, 255]


def test_entries_of_a_lut_have_no_sign(path):
    table = lut(0, [0, 1, 2], 16)
    table[0]["LUTDescriptor"].VR = "SS"
    del table[0].LUTData
    table[0].add_new("LUTData", "SS", [0, 0x7FFF, -1])
    assert grey(path, [0, 1, 2], VOILUTSequence=table) == [0, 127, 255]


def test_the_bits_of_a_voi_lut_decide_what_is_white(path):
    table = lut(0, [1000, 2500], 12)
    assert grey(path, [0, 1], VOILUTSequence=table) == [62, 156]


def test_a_voi_lut_with_higher_entries_than_its_bits_allow_has_the_bits_that_hold_them(path):
    table = lut(0, [0, 2047, 4095], 8)
    assert grey(path, [0, 1, 2], VOILUTSequence=table) == [0, 127, 255]


def test_entries_of_8_bits_may_be_two_in_a_word(path):
    table = lut(0, [0x6400, 0x00FF], 8)
    table[0].LUTDescriptor = [4, 0, 8]
    assert grey(path, [0, 1, 2, 3], VOILUTSequence=table) == [0, 100, 255, 0]


@pytest.mark.parametrize("missing", ["LUTDescriptor", "LUTData"])
def test_a_lut_without_data_or_descriptor_is_none(path, missing):
    table = lut(0, [255, 0], 8)
    delattr(table[0], missing)
    window = {"WindowCenter": 150.5, "WindowWidth": 101}
    assert grey(path, [100, 150, 200], VOILUTSequence=table, **window) == [0, 128, 255]
    second = lut(0, [10, 20], 8)
    assert grey(path, [0, 1], VOILUTSequence=[*table, *second]) == [10, 20]


def test_a_slope_of_0_is_none_and_its_intercept_stays(path):
    window = {"WindowCenter": 150.5, "WindowWidth": 101, "RescaleSlope": 0, "RescaleIntercept": 50}
    assert grey(path, [50, 100, 150], **window) == [0, 128, 255]


@pytest.mark.parametrize("centre", [["", ""], "wide", "1e400"])
def test_a_window_that_is_no_number_is_none(path, centre):
    save_dicom(path, np.array([[100, 200]] * 2, np.uint16))
    ds = pydicom.dcmread(path)
    ds.WindowWidth = 10
    with pydicom.config.disable_value_validation():
        ds.add_new("WindowCenter", "LO", centre)
        ds["WindowCenter"].VR = "DS"
        ds.save_as(path)
    assert read_pixels(path)[0, :, 0].tolist() == [0, 255]


def test_an_exact_window_may_be_narrower_than_1(path):
    window = {"WindowCenter": 150, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}
    assert grey(path, [100, 150, 200], **window) == [0, 128, 255]


def test_padding_of_signed_pixels_may_be_written_without_a_sign(path):
    save_dicom(path, np.array([[-2000, 0, 51, 255]] * 2, np.int16))
    ds = pydicom.dcmread(path)
    ds.add_new("PixelPaddingValue", "US", 63536)
    ds.save_as(path)
    assert read_pixels(path)[0, :, 0].tolist() == [0, 0, 51, 255]


@pytest.mark.parametrize("syntax", ["JPEGBaseline8Bit", "JPEGLosslessSV1", "JPEGLSLossless"])
@pytest.mark.parametrize("end", [b"  ", b"\0\0\0\0"])
def test_bytes_after_the_end_of_a_stream_do_not_matter(path, syntax, end):
    save_dicom(path, np.arange(240, dtype=np.uint8).reshape(15, 16))
    compress(path, syntax)
    before = read_pixels(path)
    alter(path, PixelData=encapsulate([stream_of(path) + end]))
    assert (read_pixels(path) == before).all()


def test_fill_bytes_before_a_marker_do_not_matter(path):
    save_dicom(path, np.arange(240, dtype=np.uint8).reshape(15, 16))
    compress(path, "JPEGBaseline8Bit")
    before, stream = read_pixels(path), stream_of(path)
    for marker in (b"\xff\xdb", b"\xff\xc0", b"\xff\xda"):
        stream = stream.replace(marker, b"\xff\xff\xff" + marker, 1)
    alter(path, PixelData=encapsulate([stream]))
    assert (read_pixels(path) == before).all()


def test_the_number_of_samples_may_be_missing_and_letters_be_small(path, plain):
    save_dicom(path, VALUES.astype(np.uint16), bits=12)
    alter(path, SamplesPerPixel=None, PhotometricInterpretation="monochrome2")
    assert (read_pixels(path) == plain).all()
    colours = np.arange(240, dtype=np.uint8).reshape(8, 10, 3)
    save_dicom(path, colours, "RGB")
    alter(path, SamplesPerPixel=None, PhotometricInterpretation="rgb")
    assert (read_pixels(path) == colours).all()


@pytest.mark.parametrize(
    "name",
    ["Rows", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"],
)
def test_a_tag_that_is_needed_and_missing_is_named(path, name):
    save_dicom(path, VALUES.astype(np.uint16), bits=12)
    alter(path, **{name: None})
    with pytest.raises(InputError, match=f"has no {name}, which an image needs; fetch it again"):
        read_pixels(path)


def shown(path):
    """The grey of an image file at its own size."""
    file = ImageFile.read(path)
    height, width = VALUES.shape
    whole = decode(file, 300)[0]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)[..., 0].astype(int)


def deep_grey(tmp_path):
    Image.fromarray(VALUES.astype(np.uint16)).save(tmp_path / "grey.png")
    return shown(tmp_path / "grey.png")


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_colours_of_16_bits_keep_them(tmp_path, name):
    colours = np.repeat(VALUES[..., None], 3, axis=2).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / name), colours)
    assert np.abs(shown(tmp_path / name) - deep_grey(tmp_path)).max() <= 1
    assert decode(ImageFile.read(tmp_path / name))[1]["bits"] == 16


def test_colours_of_16_bits_stay_in_their_order_and_what_is_transparent_is_black(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint16)  # OpenCV writes blue, green, red and opacity
    pixels[:4, :, 2], pixels[4:, :, 1] = 65535, 65535
    pixels[:, :4, 3] = 65535
    assert cv2.imwrite(str(tmp_path / "x.png"), pixels)
    found = read_image(tmp_path / "x.png")
    assert found[10, 10].tolist() == [255, 0, 0]
    assert found[200, 10].tolist() == [0, 255, 0]
    assert found[10, 200].tolist() == [0, 0, 0]


def test_colours_of_16_bits_are_turned_as_the_file_says(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint16)
    pixels[:4, :, 2] = 65535  # the upper half is red
    png = cv2.imencode(".png", pixels)[1].tobytes()
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # to be shown turned to the right
    content = b"eXIf" + turned.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    place = png.index(b"IDAT") - 4
    (tmp_path / "x.png").write_bytes(png[:place] + chunk + png[place:])
    found = read_image(tmp_path / "x.png")
    assert found[100, 200].tolist() == [255, 0, 0]
    assert found[100, 20].tolist() == [0, 0, 0]


def test_16_bits_of_which_0_is_white_are_inverted(tmp_path):
    Image.fromarray(VALUES.astype(np.uint16)).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert np.abs(shown(tmp_path / "x.tif") + deep_grey(tmp_path) - 255).max() <= 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_not_count(tmp_path, odd):
    values = VALUES.astype(np.float32)
    values[0, 0] = odd
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert np.abs(shown(tmp_path / "x.tif") - deep_grey(tmp_path))[2:, 2:].max() <= 1


@pytest.mark.parametrize(("marker", "white"), [(60000, 3999), (6000, 6000)])
def test_a_few_values_far_above_all_others_do_not_darken_the_rest(tmp_path, marker, white):
    values = np.tile(np.arange(1000, 4000, 15, dtype=np.uint16), (200, 1))
    values[0, :20] = marker
    Image.fromarray(values).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=200)[..., 0]
    expected = ((values.astype(float) - 1000) * 255 / (white - 1000)).clip(0, 255)
    assert np.abs(found - expected).max() <= 2


def test_a_blank_image_is_refused_where_it_would_be_a_number(tmp_path):
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").mean() == 90
    with pytest.raises(InputError, match=r"x\.png: is blank or nearly blank; remove it"):
        read_with_statistics(tmp_path / "x.png")


@pytest.fixture
def with_blank(trained, tmp_path):
    """The drawings of the trained model, and a blank image among the normal ones."""
    unlisted = shutil.ignore_patterns("manifest.csv")
    shutil.copytree(trained[1], tmp_path / "set", ignore=unlisted)
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / "set" / "normal" / "blank.png")
    return tmp_path / "set"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "audit_dataset.py",
        pytest.param("evaluate_covid19.py", marks=pytest.mark.long),
        pytest.param("train_covid19.py", marks=pytest.mark.long),
    ],
)
def test_a_blank_image_is_named_and_left_out(with_blank, trained, script, tmp_path, name):
    options = {
        "audit_dataset.py": (),
        "evaluate_covid19.py": ("-m", trained[0]),
        "train_covid19.py": ("--repeats", 0, "--epochs", 1),
    }
    done = script(name, "-d", with_blank, *options[name], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "set: 6 covid + 6 normal images, 12 patients; 1 left out" in done.stdout
    assert "normal/blank.png: is blank or nearly blank; remove it" in done.stderr


@pytest.mark.slow
def test_a_blank_image_is_predicted_with_a_warning(with_blank, trained, script):
    done = script("predict_covid19.py", "-m", trained[0], with_blank / "normal" / "blank.png")
    assert done.returncode == 0, done.stderr
    assert "not a chest X-ray: blank" in done.stdout

"""DICOM files are shown as a viewer shows them; of their patient no more than is needed is told."""

import re
import subprocess
import sys

import imagecodecs
import numpy as np
import pydicom
import pytest
from conftest import ROOT
from pydicom import uid
from pydicom.dataset import FileMetaDataset

from covidxray.data import dicom
from covidxray.data.grey import scale_to_uint8
from covidxray.data.image_file import ImageFile
from covidxray.data.images import read_image, read_with_statistics
from covidxray.data.patients import patient_digest
from covidxray.demo.phantom import Anatomy, draw_phantom
from covidxray.errors import InputError

SALT = b"salt"
IDENTIFIERS = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-7731",
    "PatientBirthDate": "19610704",
    "StudyDate": "20200319",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.777",
    "AccessionNumber": "ACC4711",
    "ReferringPhysicianName": "Roe^Richard",
    "InstitutionName": "Saint Elsewhere",
}

LOSSLESS = ("RLELossless", "JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless")
LOSSLESS += ("JPEG2000Lossless",)


def save_dicom(path, pixels, kind="MONOCHROME2", bits=None, **tags):
    """Write pixels, uncompressed, and any further tags to a DICOM file."""
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = uid.generate_uid()
    ds.set_pixel_data(pixels, kind, bits or 8 * pixels.dtype.itemsize)
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def lossless_jpeg(pixels, bits):
    return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=bits)


def jpeg_ls(pixels, error):
    room = 2 * pixels.nbytes + 1000  # noise grows
    return imagecodecs.jpegls_encode(pixels, level=error, out=room)


def lossy_jpeg(pixels, bits):
    return imagecodecs.jpeg8_encode(pixels, level=100, bitspersample=bits)


ENCODERS = {
    uid.JPEGBaseline8Bit: lossy_jpeg,
    uid.JPEGExtended12Bit: lossy_jpeg,
    uid.JPEGLossless: lossless_jpeg,
    uid.JPEGLosslessSV1: lossless_jpeg,
    uid.JPEGLSLossless: lambda pixels, bits: jpeg_ls(pixels, 0),
    uid.JPEGLSNearLossless: lambda pixels, bits: jpeg_ls(pixels, 1),
    uid.JPEG2000Lossless: lambda pixels, bits: imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat="j2k", bitspersample=bits
    ),
    uid.JPEG2000: lambda pixels, bits: imagecodecs.jpeg2k_encode(
        pixels, level=70, codecformat="j2k", bitspersample=bits
    ),
}


def compress(path, name):
    """Compress a file's pixels, by the name of pydicom for the syntax."""
    syntax, ds = getattr(uid, name), pydicom.dcmread(path)
    if syntax == uid.RLELossless:
        ds.compress(syntax, encoding_plugin="pydicom")
    else:
        pixels = ds.pixel_array
        if ds.PixelRepresentation and "2000" not in name:  # the others know no sign
            bits = 16 if "LS" in name else ds.BitsStored
            pixels = pixels.view(np.uint16) & (2**bits - 1)
        ds.PixelData = pydicom.encaps.encapsulate([ENCODERS[syntax](pixels, ds.BitsStored)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, implicit_vr=False, little_endian=True)


def alter(path, **tags):
    """Set, or with None remove, tags of a DICOM file."""
    ds = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path)


def lut(first, entries, bits):
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return [item]


def write_in_order(path, ds, values, order):
    """Write a file with these stored values in little-endian ("<") or big-endian (">") order."""
    ds.PixelData = values.astype(f"{order}u2").tobytes()
    little = order == "<"
    syntax = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=little)


def read_pixels(path):
    return dicom.decode(ImageFile.read(path))[0]


def read_header(path):
    return dicom.read_header(ImageFile.read(path), SALT)


def grey(path, values, *, dtype=np.uint16, **options):
    """What becomes of a row of stored values."""
    save_dicom(path, np.array([values] * 2, dtype), **options)
    return read_pixels(path)[0, :, 0].tolist()


@pytest.fixture(scope="module")
def drawing():
    """A phantom from black to white, uint8 (224, 224)."""
    rng = np.random.default_rng(0)
    image = draw_phantom(rng, Anatomy(rng), size=224).image
    return scale_to_uint8(image, image.min(), image.max())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.dcm"


@pytest.mark.parametrize(("bits", "signed"), [(8, 0), (10, 0), (12, 0), (16, 0), (12, 1), (16, 1)])
def test_any_depth_without_a_window_spans_black_to_white(path, drawing, bits, signed):
    span = 2**bits - 1
    stored = np.round(drawing / 255 * span) - signed * 2 ** (bits - 1)
    dtype = np.uint8 if bits == 8 else np.int16 if signed else np.uint16
    save_dicom(path, stored.astype(dtype), bits=bits)
    pixels = read_image(path)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == drawing[..., None]).all()


def test_monochrome1_is_inverted(path, drawing):
    save_dicom(path, 255 - drawing, "MONOCHROME1")
    assert (read_pixels(path) == drawing[..., None]).all()


def test_the_first_window_decides_what_is_black_and_what_white(path):
    window = {"WindowCenter": [150.5, 0], "WindowWidth": [101, 9]}
    assert grey(path, [0, 100, 125, 150, 200, 300], **window) == [0, 0, 64, 128, 255, 255]


def test_a_window_is_of_rescaled_values(path):
    window = {"WindowCenter": 150.5, "WindowWidth": 101, "RescaleSlope": 2, "RescaleIntercept": -50}
    assert grey(path, [50, 75, 100, 125], **window) == [0, 0, 128, 255]


def test_a_negative_slope_turns_the_picture_round_once(path):
    window = {"WindowCenter": -49.5, "WindowWidth": 101}
    shown = grey(path, [0, 50, 100], RescaleSlope=-1, RescaleIntercept=0, **window)
    assert shown == [255, 128, 0]


@pytest.mark.parametrize(
    ("function", "shown"),
    [("LINEAR_EXACT", [0, 0, 128, 255, 255]), ("SIGMOID", [5, 30, 128, 225, 250])],
)
def test_a_window_may_have_another_form(path, function, shown):
    window = {"WindowCenter": 150, "WindowWidth": 100, "VOILUTFunction": function}
    assert grey(path, [50, 100, 150, 200, 250], **window) == shown


def test_a_slope_without_an_intercept_adds_nothing(path):
    window = {"WindowCenter": 100.5, "WindowWidth": 101, "RescaleSlope": 2}
    assert grey(path, [25, 50, 75], **window) == [0, 128, 255]


def test_a_window_may_be_one_value_wide(path):
    window = {"WindowCenter": 150, "WindowWidth": 1}
    assert grey(path, [100, 149, 150, 200], **window) == [0, 0, 255, 255]


def test_a_centre_without_a_width_is_no_window(path):
    assert grey(path, [100, 200], WindowCenter=300) == [0, 255]


def test_an_empty_window_is_none(path):
    assert grey(path, [100, 200], WindowCenter=None, WindowWidth=None) == [0, 255]


def test_a_window_without_width_is_none(path):
    assert grey(path, [100, 200], WindowCenter=0, WindowWidth=0) == [0, 255]


def test_a_voi_lut_goes_before_a_window(path):
    table = lut(1000, np.linspace(0, 255, 1001).round(), 8)
    window = {"WindowCenter": 0, "WindowWidth": 1}
    shown = grey(path, [0, 1000, 1500, 2000, 4000], VOILUTSequence=table, **window)
    assert shown == [0, 0, 128, 255, 255]


def test_a_modality_lut_goes_before_all_else(path):
    table = lut(0, [0, 1000, 200, 500], 16)
    assert grey(path, [0, 1, 2, 3], ModalityLUTSequence=table) == [0, 255, 51, 128]


def test_padding_is_black_and_does_not_count(path):
    assert grey(path, [0, 100, 140, 200], PixelPaddingValue=0) == [0, 0, 102, 255]
    limits = {"PixelPaddingValue": 9, "PixelPaddingRangeLimit": 0}
    assert grey(path, [0, 100, 200, 9], kind="MONOCHROME1", **limits) == [0, 255, 0, 0]


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_colours_become_rgb(path, kind):
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 90, 90]]], np.uint8)
    stored = colours if kind == "RGB" else pydicom.pixels.convert_color_space(colours, "RGB", kind)
    save_dicom(path, stored, kind)
    assert np.abs(read_pixels(path).astype(int) - colours).max() <= 2


def test_a_palette_becomes_rgb(path):
    save_dicom(path, np.array([[0, 1], [2, 2]], np.uint8))
    alter(path, PhotometricInterpretation="PALETTE COLOR")
    ds = pydicom.dcmread(path)
    for i, entries in enumerate((b"\0\xff\1\0", b"\0\0\2\0", b"\0\0\3\0")):
        ds.add_new(0x00281101 + i, "US", [4, 0, 8])
        ds.add_new(0x00281201 + i, "OW", entries)
    ds.save_as(path)
    assert read_pixels(path).tolist() == [[[0, 0, 0], [255, 0, 0]], [[1, 2, 3], [1, 2, 3]]]


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("syntax", [*LOSSLESS, "JPEGLSNearLossless", "JPEG2000"])
def test_compression_changes_nothing(path, drawing, syntax, signed):
    stored = drawing.astype(np.int16 if signed else np.uint16) * 16 - 2048 * signed
    save_dicom(path, stored, bits=12)
    before = read_pixels(path)
    compress(path, syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    assert np.abs(read_pixels(path).astype(int) - before).max() <= 1


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [("JPEGBaseline8Bit", 8), ("JPEGExtended12Bit", 8), ("JPEGExtended12Bit", 12)],
)
def test_lossy_jpeg_is_read(path, drawing, syntax, bits):
    stored = drawing if bits == 8 else drawing.astype(np.uint16) * 16
    save_dicom(path, stored, bits=bits)
    compress(path, syntax)
    assert np.abs(read_pixels(path).astype(int) - drawing[..., None]).max() <= 3


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_is_every_value(path, syntax, bits):
    noise = np.random.default_rng(0).integers(0, 256, (100, 90), dtype=f"u{bits // 8}")
    # In 16 bits so narrow a range that each value has a grey of its own.
    save_dicom(path, noise + (40000 if bits == 16 else 0))
    before = read_pixels(path)
    assert len(np.unique(before)) > 200
    compress(path, syntax)
    np.testing.assert_array_equal(read_pixels(path), before)


DECODE_DAMAGED = """
import sys
from pathlib import Path
from covidxray.errors import InputError
from covidxray.data.images import read_image
content = Path(sys.argv[1]).read_bytes()
start = content.rindex(b"\\xe0\\x7f\\x10\\0") + 12  # of the pixel data: a table, the stream
damaged, refused = Path(sys.argv[1] + "-damaged"), 0
for at in range(start, start + 100):
    for value in (0, 0x9E, 0xFF):
        damaged.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
        try:
            read_image(damaged)
        except InputError:
            refused += 1
print(refused)
"""


@pytest.mark.parametrize("syntax", [*LOSSLESS, "JPEGBaseline8Bit"])
def test_no_damage_to_a_stream_ends_the_process(path, drawing, syntax):
    stored = drawing if "Baseline" in syntax else drawing.astype(np.uint16) * 16
    save_dicom(path, stored, bits=8 if "Baseline" in syntax else 12)
    compress(path, syntax)
    command = [sys.executable, "-c", DECODE_DAMAGED, path]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    assert b"Traceback" not in done.stderr


def test_a_stream_of_thousands_of_scans_is_refused(path, drawing):
    save_dicom(path, drawing)
    compress(path, "JPEGBaseline8Bit")
    stream = pydicom.encaps.get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)
    scan = stream.index(b"\xff\xda")
    stream = stream[:-2] + stream[scan:-2] * 200 + b"\xff\xd9"
    alter(path, PixelData=pydicom.encaps.encapsulate([stream]))
    with pytest.raises(InputError, match="not a DICOM image that can be decoded"):
        read_image(path)


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        (uid.HTJ2KLossless, "High-Throughput JPEG 2000"),
        (uid.MPEG4HP41, "MPEG-4"),
        (uid.DeflatedExplicitVRLittleEndian, "Deflated Explicit VR"),
        (uid.UID("1.2.826.0.1.3680043.8.498.1"), "an unknown transfer syntax"),
    ],
)
def test_a_syntax_that_cannot_be_read_is_named_with_the_remedy(path, drawing, syntax, named):
    save_dicom(path, drawing)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_private and not syntax.is_deflated:
        ds.PixelData = pydicom.encaps.encapsulate([ds.PixelData])
    ds.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match=f"stored as {named}.*; convert it to Explicit VR Little"):
        read_image(path)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless"])
@pytest.mark.parametrize("planar", [0, 1])  # an element that says nothing of a stream
def test_the_colours_of_a_compressed_image_keep_their_places(path, syntax, planar):
    pixels = np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    save_dicom(path, pixels, "RGB")
    compress(path, syntax)
    alter(path, PlanarConfiguration=planar)
    np.testing.assert_array_equal(read_pixels(path), pixels)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_lut_may_be_bytes_in_the_order_of_the_file(path, order, bits):
    entries, values = [0, 51, 102, 255], np.array([[0, 1, 2, 3]] * 2, f"{order}u2")
    ds = pydicom.dcmread(save_dicom(path, values.astype(np.uint16)))
    ds.VOILUTSequence = lut(0, entries, bits)
    del ds.VOILUTSequence[0].LUTData
    stored = np.array(entries) * (257 if bits == 16 else 1)  # 255 becomes the largest of 16 bits
    content = stored.astype(f"{order}u{bits // 8}").tobytes()
    ds.VOILUTSequence[0].add_new("LUTData", "OW", content)
    write_in_order(path, ds, values, order)
    assert read_pixels(path)[0, :, 0].tolist() == entries


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_that_does_not_name_its_byte_order_is_read(path, order):
    values = np.array([[0, 256, 512, 1024]] * 2, f"{order}u2")
    ds = pydicom.dcmread(save_dicom(path, values.astype(np.uint16)))
    write_in_order(path, ds, values, order)
    content = path.read_bytes()
    start = content.index(b"\x02\x00\x10\x00UI")
    end = start + 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    path.write_bytes(content[:start] + content[end:])
    assert read_pixels(path)[0, :, 0].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize("name", ["x", "x.png", "x.jpg", "1.2.826.0.1"])
def test_dicom_is_known_by_its_content(tmp_path, drawing, name):
    save_dicom(tmp_path / name, drawing)
    assert (read_image(tmp_path / name) == drawing[..., None]).all()


@pytest.mark.parametrize(("implicit", "meta"), [(True, False), (False, False), (False, True)])
def test_the_preamble_may_be_missing(path, drawing, implicit, meta):
    save_dicom(path, drawing)
    ds = pydicom.dcmread(path)
    syntax = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    start = 132 if meta else content.index(b"\x08\0\x16\0")
    path.write_bytes(content[start:])
    assert (read_image(path) == drawing[..., None]).all()
    assert read_with_statistics(path)[1].file["bits"] == 8


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_no_other_image_is_taken_for_dicom(path, picture, kind):
    path.write_bytes(picture(1, kind))
    assert not ImageFile.read(path).is_dicom
    assert read_image(path).shape == (224, 224, 3)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("syntax", [None, "JPEGBaseline8Bit", "JPEG2000Lossless"])
def test_a_file_cut_short_is_no_image(path, drawing, syntax, kept):
    save_dicom(path, drawing)
    if syntax:
        compress(path, syntax)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"cut short|can be decoded"):
        read_image(path)


@pytest.mark.parametrize("syntax", [*LOSSLESS, "JPEGBaseline8Bit"])
def test_a_stream_cut_short_in_a_whole_file_is_no_image(path, drawing, syntax):
    save_dicom(path, drawing)
    compress(path, syntax)
    frame = pydicom.encaps.get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)
    alter(path, PixelData=pydicom.encaps.encapsulate([frame[: len(frame) * 9 // 10]]))
    with pytest.raises(InputError, match="not a DICOM image that can be decoded"):
        read_image(path)


def test_no_pixels_are_refused(path, drawing):
    save_dicom(path, drawing)
    alter(path, PixelData=None)
    with pytest.raises(InputError, match="holds no pixels"):
        read_image(path)


def test_several_frames_are_refused_with_the_remedy_and_one_is_not(path, drawing):
    save_dicom(path, np.stack([drawing, drawing]))
    with pytest.raises(InputError, match="several frames; save each as a file of its own"):
        read_image(path)
    save_dicom(path, drawing, NumberOfFrames=1)
    assert (read_image(path) == drawing[..., None]).all()


@pytest.mark.parametrize("tags", [{"Rows": 60000, "Columns": 60000}, {"NumberOfFrames": 9000}])
def test_too_many_pixels_are_refused_before_they_are_there(path, drawing, tags):
    save_dicom(path, drawing, **tags)
    with pytest.raises(InputError, match="too many pixels"):
        read_image(path)


@pytest.mark.parametrize("syntax", ["JPEGBaseline8Bit", "JPEGLSLossless"])
def test_a_stream_larger_than_its_file_says_is_refused(path, drawing, syntax):
    save_dicom(path, drawing)
    compress(path, syntax)
    size = (224).to_bytes(2) * 2
    path.write_bytes(path.read_bytes().replace(size, b"\xff\xff\xff\xff"))
    with pytest.raises(InputError, match="not a DICOM image that can be decoded"):
        read_image(path)


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ("045Y", "45"),
        ("62", "62"),
        ("006M", "0.5"),
        ("026W", "0.498"),
        ("073D", "0.2"),
        ("089Y", "89"),
        ("090Y", "90"),
        ("103Y", "90"),
        ("", ""),
    ],
)
def test_ages_are_years_and_the_oldest_are_90(path, drawing, stored, given):
    with pytest.warns(UserWarning) if stored == "62" else pytest.MonkeyPatch.context():
        save_dicom(path, drawing, PatientAge=stored)
    assert read_header(path)["age"] == given


def test_the_header_gives_patient_sex_and_view(path, drawing):
    save_dicom(path, drawing, PatientID=" 17 ", PatientSex="F", ViewPosition="PA")
    patient = patient_digest("17", SALT)
    kept = {"patient_id": patient, "device": "", "sex": "F", "view": "PA", "age": ""}
    assert read_header(path) == kept


def test_the_device_is_a_salted_digest_of_maker_model_and_station(path, drawing):
    machine = {"Manufacturer": "Acme", "ManufacturerModelName": "X1", "StationName": "ROOM2"}

    def device(salt=SALT, **changed):
        save_dicom(path, drawing, PatientID="1", **{**machine, **changed})
        return dicom.read_header(ImageFile.read(path), salt)["device"]

    assert re.fullmatch("[0-9a-f]{32}", device())
    assert device() == device()
    others = [device(b"other"), device(Manufacturer="B"), device(StationName="ROOM3")]
    others.append(device(ManufacturerModelName="X2"))
    assert device() not in others


def test_an_id_with_and_without_its_issuer_is_one_patient(path, drawing):
    save_dicom(path, drawing, PatientID="17", IssuerOfPatientID="north")
    north = read_header(path)["patient_id"]
    save_dicom(path, drawing, PatientID="17")
    assert read_header(path)["patient_id"] == north


def test_without_an_id_the_study_tells_the_patient(path, drawing):
    save_dicom(path, drawing, StudyInstanceUID="1.2.3")
    assert read_header(path)["patient_id"] == patient_digest("1.2.3", SALT)
    save_dicom(path, drawing, StudyInstanceUID="1.2.3", PatientID="17")
    assert read_header(path)["patient_id"] == patient_digest("17", SALT)


def test_an_identifier_in_the_wrong_tag_is_not_given(path, drawing):
    save_dicom(path, drawing, ViewPosition="MRN 7731", PatientSex="J", PatientAge="")
    assert read_header(path)["view"] == read_header(path)["sex"] == ""


@pytest.mark.parametrize(
    "damage",
    [
        {"PixelData": None},
        {"NumberOfFrames": 3},
        {"Columns": None},
        {"PhotometricInterpretation": "MRN-7731"},
        {"VOILUTFunction": "MRN-7731"},
    ],
)
def test_nothing_that_tells_the_patient_is_said(path, drawing, damage, capfd, caplog, recwarn):
    charset = {"SpecificCharacterSet": "ISO_IR 100"}
    save_dicom(path, drawing, WindowCenter=1, WindowWidth=2, **charset, **IDENTIFIERS)
    alter(path, **damage)
    # pydicom warns of a character set that it does not know, and quotes it.
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"MRN-7731  "))
    recwarn.clear()
    caplog.clear()
    said = [repr(read_header(path))]
    try:
        read_image(path)
    except InputError as error:
        said += [str(error), repr(error)]
    said += [*capfd.readouterr(), caplog.text, *(str(w.message) for w in recwarn)]
    for value in (*IDENTIFIERS.values(), "Doe", "MRN", "Elsewhere"):
        assert value not in "".join(said)


def test_real_files_are_read_by_what_their_tags_say(real_data):
    plain, fake = (
        read_image(real_data / "dicom" / name).astype(int)
        for name in (
            "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm",
            "Fake_MONOHR1.dcm",
        )
    )
    lungs, spine = plain[70:140, 50:80].mean(), plain[120:200, 105:118].mean()
    assert lungs < spine - 60
    # The same pixels, only called MONOCHROME1.
    assert np.abs(plain + fake - 255).max() <= 1


def colours(path, values, dtype):
    """The pixels of a colour image with these stored values, (n, 3)."""
    save_dicom(path, np.array([values] * 2, dtype), "RGB")
    return read_pixels(path)[0].tolist()


def test_colours_of_8_bits_stay_as_they_are(path):
    values = [[10, 20, 30], [40, 50, 60]]
    assert colours(path, values, np.uint8) == values


def test_colours_of_16_bits_span_black_to_white(path):
    values = [[1000, 2000, 2000], [3000, 2000, 1000]]
    assert colours(path, values, np.uint16) == [[0, 128, 128], [255, 128, 0]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_lut_of_bytes_is_in_the_order_of_its_file(path, order):
    save_dicom(path, np.zeros((2, 3), np.uint16))
    ds = pydicom.dcmread(path)
    item = pydicom.Dataset()
    item.LUTDescriptor = [3, 0, 16]
    item.add_new("LUTData", "OW", np.array([0, 1000, 500], f"{order}u2").tobytes())
    ds.ModalityLUTSequence = [item]
    write_in_order(path, ds, np.array([[0, 1, 2]] * 2), order)
    assert read_pixels(path)[0, :, 0].tolist() == [0, 255, 128]


@pytest.mark.parametrize("sex", ["F", "M", "O"])
def test_the_sexes_that_the_standard_defines_are_kept(path, drawing, sex):
    save_dicom(path, drawing, PatientSex=sex)
    assert read_header(path)["sex"] == sex


def test_the_bits_that_are_told_are_those_stored(path):
    save_dicom(path, np.arange(4, dtype=np.uint16).reshape(2, 2), bits=12)
    facts = dicom.decode(ImageFile.read(path))[1]
    assert (facts["bits"], facts["channels"]) == (12, 1)
    assert facts["format"] == f"DICOM {uid.ExplicitVRLittleEndian}"

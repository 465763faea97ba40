"""A class folder is filled as a whole, and only where nothing of others would be lost."""

import os
import sys

import pytest

from covidxray.data.class_folder import check_replaceable, fill_folder
from covidxray.data.folders import mask_of
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import (
    EXCLUDED,
    NAME,
    OPTIONAL,
    ManifestRow,
    read_exclusions,
    read_manifest,
)
from covidxray.errors import InputError


def row(name):
    return ManifestRow(name, "test", name, "1")


def test_what_is_written_is_read_back(tmp_path, picture):
    fill_folder(tmp_path / "a", [(ManifestRow("x.png", "s", "i/x", "7", age="3,5"), picture(1))])
    read = read_manifest(tmp_path / "a")["x.png"]
    assert (read.source, read.source_id, read.patient_id, read.age) == ("s", "i/x", "7", "3,5")
    assert len(read.sha256) == 64


def test_a_second_filling_removes_what_the_first_wrote(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    fill_folder(tmp_path / "a", [(row("y.png"), picture(2))])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"y.png", NAME}


def test_a_file_of_others_stops_it_and_stays(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    (tmp_path / "a" / "mine.png").write_bytes(picture(2))
    with pytest.raises(InputError, match=r"mine\.png.*not written by this program"):
        fill_folder(tmp_path / "a", [(row("y.png"), picture(3))])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"x.png", "mine.png", NAME}


def test_a_folder_of_others_stops_it_and_stays(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    (tmp_path / "a" / "mine").mkdir()
    with pytest.raises(InputError, match=r"mine: was not written by this program"):
        fill_folder(tmp_path / "a", [(row("y.png"), picture(3))])
    assert (tmp_path / "a" / "mine").is_dir()


def test_a_file_changed_since_stops_it(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    (tmp_path / "a" / "x.png").write_bytes(picture(2))
    with pytest.raises(InputError, match="changed since"):
        check_replaceable(tmp_path / "a")


def test_a_file_or_a_link_in_place_of_the_folder_stops_it_and_stays(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(InputError, match=f"{name}: is not a plain folder; choose another"):
            check_replaceable(tmp_path / name)
    with pytest.raises(InputError, match=r"below: cannot be created in .*file \(Not a directory\)"):
        check_replaceable(tmp_path / "file" / "below")


def test_a_failure_half_way_leaves_the_old_folder(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    with pytest.raises(InputError):
        fill_folder(tmp_path / "a", [(row("y.png"), picture(2)), (row("z.png"), tmp_path / "no")])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"x.png", NAME}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_was_left_out_is_read_back_with_its_reason(tmp_path, picture):
    left_out = [('a,"b".png', "damaged"), ("c.png", "not drawn")]
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))], left_out)
    assert read_exclusions(tmp_path / "a") == left_out


@pytest.mark.skipif(sys.platform != "linux", reason="file names are no bytes on this system")
def test_a_name_that_is_not_utf_8_is_found_again(tmp_path, picture):
    name = os.fsdecode(b"\xff.png")
    fill_folder(tmp_path / "a", [(row(name), picture(1))], [(name, "damaged")])
    assert list(read_manifest(tmp_path / "a")) == [name]
    assert (tmp_path / "a" / name).read_bytes() == picture(1)
    assert read_exclusions(tmp_path / "a") == [("?.png", "damaged")]


def test_the_exclusions_of_an_earlier_run_do_not_stop_the_next_and_go(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))], [("c.png", "damaged")])
    fill_folder(tmp_path / "a", [(row("y.png"), picture(2))])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"y.png", NAME}
    assert read_exclusions(tmp_path / "a") == []


@pytest.mark.parametrize("content", [b"", b"my,notes\n", b"filename,reason\nx.png\n", b"\xff\xfe"])
def test_another_table_of_that_name_stops_it_and_stays(tmp_path, picture, content):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    (tmp_path / "a" / EXCLUDED).write_bytes(content)
    with pytest.raises(InputError, match=rf"{EXCLUDED}: .*; remove it"):
        fill_folder(tmp_path / "a", [(row("y.png"), picture(2))])
    assert (tmp_path / "a" / EXCLUDED).read_bytes() == content


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filename,source\nx.png,s\n", "no column"),
        (",".join(ManifestRow.__dataclass_fields__) + "\nx.png,s\n", "line 2 is damaged"),
        (
            ",".join(ManifestRow.__dataclass_fields__) + 2 * "\nx.png,s,,,,,,,,,,no,,," + "\n",
            "two rows",
        ),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, text, said):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=said):
        read_manifest(tmp_path)


def test_a_manifest_from_before_sites_and_masks_is_read(tmp_path):
    columns = [f for f in ManifestRow.__dataclass_fields__ if f not in OPTIONAL]
    (tmp_path / NAME).write_text(",".join(columns) + "\nx.png,s,,,PA,,,,,,,no\n")
    found = read_manifest(tmp_path)["x.png"]
    assert (found.view, found.site, found.device, found.mask_sha256) == ("PA", "", "", "")


@pytest.fixture
def masked(tmp_path, picture):
    """A class folder of two images, one of them with a mask."""
    (tmp_path / "given.png").write_bytes(picture(9))
    images = [(row("x.jpg"), picture(1)), (row("y.png"), picture(2))]
    fill_folder(tmp_path / "a", images, masks={"x.jpg": tmp_path / "given.png"})
    return tmp_path / "a"


def test_a_mask_lies_beside_its_image_and_is_in_the_manifest(masked, picture):
    assert mask_of(masked / "x.jpg").read_bytes() == picture(9)
    assert not mask_of(masked / "y.png").exists()
    rows = read_manifest(masked)
    assert len(rows["x.jpg"].mask_sha256) == 64
    assert rows["y.png"].mask_sha256 == ""


def test_each_image_has_a_mask_of_its_own(tmp_path, picture):
    (tmp_path / "given.png").write_bytes(picture(9))
    (tmp_path / "other.png").write_bytes(picture(8))
    masks = {"x.png": tmp_path / "given.png", "y.png": tmp_path / "other.png"}
    images = [(row(name), picture(k)) for k, name in enumerate(masks)]
    fill_folder(tmp_path / "a", images, masks=masks)
    for name, mask in masks.items():
        assert mask_of(tmp_path / "a" / name).read_bytes() == mask.read_bytes()


def test_masks_are_no_images_of_the_class(masked, picture):
    fill_folder(masked.parent / "b", [(row("z.png"), picture(3))])
    data = load_dataset(masked.parent, b"salt", classes=("a", "b"))
    assert [path.name for path in data.paths] == ["x.jpg", "y.png", "z.png"]
    assert data.masks == [mask_of(masked / "x.jpg"), None, None]


def test_a_second_filling_removes_the_masks_of_the_first(masked, picture):
    fill_folder(masked, [(row("y.png"), picture(2))])
    assert {p.name for p in masked.iterdir()} == {"y.png", NAME}


@pytest.mark.parametrize("name", ["x.jpg.png", "mine.png"])
def test_a_mask_that_is_anothers_stops_it_and_stays(masked, picture, name):
    (masked / "masks" / name).write_bytes(picture(4))
    with pytest.raises(InputError, match="not written by this program, or changed since"):
        fill_folder(masked, [(row("y.png"), picture(2))])
    assert (masked / "masks" / name).read_bytes() == picture(4)


def test_a_mask_that_is_gone_is_named(masked, picture):
    mask_of(masked / "x.jpg").unlink()
    fill_folder(masked.parent / "b", [(row("z.png"), picture(3))])
    with pytest.raises(InputError, match=r"x\.jpg\.png: is listed in manifest.csv but missing"):
        load_dataset(masked.parent, b"salt", classes=("a", "b"))

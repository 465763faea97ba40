"""A class folder is filled as a whole, and only where nothing of others would be lost."""

import pytest

from covidxray.errors import InputError
from covidxray.manifest import (
    EXCLUDED,
    NAME,
    Row,
    check_ours,
    fill_folder,
    read_exclusions,
    read_manifest,
)


def row(name):
    return Row(name, "test", name, "1")


def test_what_is_written_is_read_back(tmp_path, picture):
    fill_folder(tmp_path / "a", [(Row("x.png", "s", "i/x", "7", age="3,5"), picture(1))])
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


def test_a_file_changed_since_stops_it(tmp_path, picture):
    fill_folder(tmp_path / "a", [(row("x.png"), picture(1))])
    (tmp_path / "a" / "x.png").write_bytes(picture(2))
    with pytest.raises(InputError, match="changed since"):
        check_ours(tmp_path / "a")


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
        (",".join(Row.__dataclass_fields__) + "\nx.png,s\n", "line 2 is damaged"),
        (",".join(Row.__dataclass_fields__) + 2 * "\nx.png,s,,,,,,,,,,no" + "\n", "two rows"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, text, said):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=said):
        read_manifest(tmp_path)

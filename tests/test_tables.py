"""Tables go through a spreadsheet and come back; those from elsewhere can be anything."""

import csv
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidxray.data import cohen
from covidxray.data.class_folder import fill_folder
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import (
    FIELDS,
    NAME,
    OPTIONAL,
    ManifestRow,
    read_exclusions,
    read_manifest,
)
from covidxray.data.spreadsheet_cells import from_cell, to_cell
from covidxray.errors import InputError
from covidxray.report.prediction_table import write_prediction_tables

BEGINS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
FORMULAS = [f"{begin}cmd|'/c calc'!A0" for begin in BEGINS]
FORMULAS += ["a;=1+1", "a\n=1+1", "'=1+1", "-5", '=HYPERLINK("http://x","y")']


def prediction_row(*values):
    """A row of the table of predictions with these values."""
    columns = ("image", "class", "probability", "distance", "warning")
    columns += ("heat_in_lungs", "heat_in_centre", "heat_map")
    return dict(zip(columns, values, strict=True))


def calculated(text, separator):
    """The cells of a table that a spreadsheet would calculate, if `separator` parts its cells."""
    rows = csv.reader(text.splitlines(), delimiter=separator)
    return [cell for row in rows for cell in row if cell[:1] and cell[0] in BEGINS]


@pytest.mark.parametrize("separator", [",", ";"])
def test_no_cell_of_a_table_that_is_written_is_calculated(tmp_path, picture, separator):
    rows = [
        (ManifestRow(f"{i}.png", "s", f, f, age=f, url=f), picture(i))
        for i, f in enumerate(FORMULAS)
    ]
    fill_folder(tmp_path / "a", rows, [(formula, formula) for formula in FORMULAS])
    predictions = [prediction_row(f, f, 0.5, 1.0, f, None, None, f) for f in FORMULAS]
    write_prediction_tables(predictions, tmp_path / "a" / "t.csv", None)
    for name in (NAME, "excluded.csv", "t.csv"):
        text = (tmp_path / "a" / name).read_bytes().decode()
        assert "calc" in text
        assert calculated(text, separator) == []


def test_what_a_spreadsheet_would_calculate_is_read_back_as_it_was(tmp_path, picture):
    rows = [
        (ManifestRow(f"{i}.png", "s", f, f, age=f, url=f), picture(i))
        for i, f in enumerate(FORMULAS)
    ]
    fill_folder(tmp_path / "a", rows, [(formula, formula) for formula in FORMULAS])
    read = read_manifest(tmp_path / "a").values()
    assert [(r.source_id, r.patient_id, r.age, r.url) for r in read] == [(f,) * 4 for f in FORMULAS]
    assert read_exclusions(tmp_path / "a") == [(f, f) for f in FORMULAS]


PREDICTIONS = [
    prediction_row("a.png", "covid", 0.75, 0.5, "", 0.25, 0.5, "heat/00001-a.png"),
    prediction_row("b, c.png", "=1+1", 0.125, 1.25, 'far, "very"', None, None, None),
]


def test_the_tables_of_predictions_have_a_row_for_each_image(tmp_path):
    write_prediction_tables(PREDICTIONS, tmp_path / "t.csv", tmp_path / "t.json")
    assert (tmp_path / "t.csv").read_bytes().decode() == (
        "image,class,probability,distance,warning,heat_in_lungs,heat_in_centre,heat_map\r\n"
        "a.png,covid,0.75,0.5,,0.25,0.5,heat/00001-a.png\r\n"
        '"b, c.png",\'=1+1,0.125,1.25,"far, ""very""",,,\r\n'
    )
    assert (
        (tmp_path / "t.json").read_bytes().decode()
        == """[
 {
  "image": "a.png",
  "class": "covid",
  "probability": 0.75,
  "distance": 0.5,
  "warning": "",
  "heat_in_lungs": 0.25,
  "heat_in_centre": 0.5,
  "heat_map": "heat/00001-a.png"
 },
 {
  "image": "b, c.png",
  "class": "=1+1",
  "probability": 0.125,
  "distance": 1.25,
  "warning": "far, \\"very\\"",
  "heat_in_lungs": null,
  "heat_in_centre": null,
  "heat_map": null
 }
]
"""
    )


def test_only_the_tables_that_are_asked_for_are_written(tmp_path):
    write_prediction_tables(PREDICTIONS, None, None)
    assert list(tmp_path.iterdir()) == []
    write_prediction_tables([], None, tmp_path / "t.json")
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    assert (tmp_path / "t.json").read_text() == "[]\n"


def test_where_one_table_cannot_be_written_neither_is_there(tmp_path):
    with pytest.raises(InputError, match=r"t\.json"):
        write_prediction_tables(PREDICTIONS, tmp_path / "t.csv", tmp_path / "none" / "t.json")
    assert list(tmp_path.iterdir()) == []


@given(st.text(alphabet=st.sampled_from("a';=-@\t\r\n,\" ")))
def test_every_text_comes_back_from_its_cell(text):
    assert from_cell(to_cell(text)) == text


@pytest.fixture
def folder(tmp_path, picture):
    """A class folder of two images, `x.png` and `y.png`, beside one of one image."""
    fill_folder(tmp_path / "b", [(ManifestRow("z.png", "s", "z", "9"), picture(3))])
    rows = [
        (ManifestRow("x.png", "s", "x", "1"), picture(1)),
        (ManifestRow("y.png", "s", "y", "2"), picture(2)),
    ]
    fill_folder(tmp_path / "a", rows)
    return tmp_path / "a"


def test_a_manifest_that_a_spreadsheet_saved_is_read(folder):
    text = (folder / NAME).read_text().replace("\n", "\r\n")
    (folder / NAME).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert set(read_manifest(folder)) == {"x.png", "y.png"}
    (folder / NAME).write_bytes(text.replace(",", ";").encode("utf-16"))
    assert set(read_manifest(folder)) == {"x.png", "y.png"}


def test_a_manifest_in_half_a_utf_16_is_named(folder):
    (folder / NAME).write_bytes((folder / NAME).read_text().encode("utf-16")[:-1])
    with pytest.raises(InputError, match=r"manifest\.csv: .*build the folder again"):
        read_manifest(folder)


@pytest.mark.parametrize("column", [name for name in FIELDS if name not in OPTIONAL])
def test_a_column_that_is_missing_is_named(folder, column):
    text = (folder / NAME).read_text()
    (folder / NAME).write_text(text.replace(column, "renamed", 1))
    with pytest.raises(InputError, match=rf"manifest\.csv: has no column '{column}'; build the"):
        load_dataset(folder.parent, b"salt")


def second_line(change):
    """A function from a manifest's text to one whose second line is changed."""

    def damage(text):
        first, second, rest = text.split("\n", 2)
        return "\n".join([first, change(second), rest])

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (second_line(lambda line: line[:10]), "line 2 is damaged"),
        (second_line(lambda line: line + ",more"), "line 2 is damaged"),
        (second_line(lambda line: line.replace("x.png", "")), "line 2 is damaged"),
        (second_line(lambda line: line.replace("s,x", '"s,x')), "is damaged"),
        (second_line(lambda line: "\xff" + line), "x.png: is listed in manifest.csv but missing"),
        (second_line(lambda line: line + "x" * 200_000), "cannot be read"),
        (second_line(lambda line: line + "\n" + line), "x.png is in two rows"),
        (
            lambda text: text.split("\n")[0] + "\n" + text,
            "filename: is listed in manifest.csv but missing",
        ),
        (
            second_line(lambda line: line.replace("x.png", "../a/y.png")),
            "listed in manifest.csv but missing",
        ),
        (
            second_line(lambda line: line.replace("x.png", "x\0.png")),
            "listed in manifest.csv but missing",
        ),
        (lambda text: "", "has no column"),
        (lambda text: "\0" * 100, "has no column"),
    ],
    ids=[
        "short",
        "long",
        "nameless",
        "unclosed",
        "bytes",
        "huge",
        "twice",
        "headers",
        "outside",
        "nul",
        "empty",
        "zeros",
    ],
)
def test_a_damaged_manifest_is_said_with_its_name(folder, damage, said):
    damaged = damage((folder / NAME).read_text())
    (folder / NAME).write_bytes(damaged.encode("latin-1"))
    with pytest.raises(InputError, match=said) as caught:
        load_dataset(folder.parent, b"salt")
    assert str(caught.value).startswith(str(folder))
    assert "; " in str(caught.value)


def test_files_with_no_row_are_counted_and_each_is_a_patient_of_its_own(folder, picture, caplog):
    for i in (5, 6):
        (folder / f"{i}.png").write_bytes(picture(i))
    data = load_dataset(folder.parent, b"salt")
    assert len(data) == len(set(data.groups)) == 5
    assert "a: 2 images have no row in its manifest.csv, 5.png for one" in caplog.text


def test_a_manifest_that_is_a_folder_is_named(folder):
    (folder / NAME).unlink()
    (folder / NAME).mkdir()
    with pytest.raises(InputError, match=r"manifest\.csv: cannot be read \(.*; build"):
        load_dataset(folder.parent, b"salt")


HEADER = "patientid,finding,view,modality,folder,filename,clinical_notes\n"
LINE = "{0},COVID-19,PA,X-ray,images,{0}.png,{1}\n"


@pytest.fixture
def clone(tmp_path, picture, script):
    """A function that builds from a clone with images 0 to 2 and this metadata.csv."""
    (tmp_path / "clone" / "images").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "clone" / "images" / f"{i}.png").write_bytes(picture(i))

    def build(content, *more):
        (tmp_path / "clone" / "metadata.csv").write_bytes(content)
        arguments = ("-c", tmp_path / "clone", "-o", tmp_path / "covid", *more)
        return script("build_covid_dataset.py", *arguments)

    return build


GOOD = HEADER + "".join(LINE.format(i, "") for i in range(3))


def test_nul_bytes_in_the_notes_do_no_harm(clone, tmp_path):
    done = clone((HEADER + "".join(LINE.format(i, "\0\0") for i in range(3))).encode())
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    assert set(read_manifest(tmp_path / "covid")) == {"0.png", "1.png", "2.png"}


def test_two_header_rows_are_one_header(clone, tmp_path):
    assert clone((HEADER + GOOD).encode()).returncode == 0
    assert set(read_manifest(tmp_path / "covid")) == {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".png", "x" * 5000, "gone\x1b[31m.png", "gone\nline.png"]
)
def test_a_name_that_no_file_can_have_is_missing_and_the_others_are_used(clone, tmp_path, name):
    done = clone((GOOD + f'3,COVID-19,PA,X-ray,images,"{name}",\n').encode())
    assert done.returncode == 0
    assert set(read_manifest(tmp_path / "covid")) == {"0.png", "1.png", "2.png"}
    assert "1 missing: " in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.count("\n") == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows names are shorter")
def test_a_name_of_255_bytes_is_used(clone, tmp_path, picture):
    name = "x" * 251 + ".png"
    (tmp_path / "clone" / "images" / name).write_bytes(picture(7))
    assert clone((GOOD + f"3,COVID-19,PA,X-ray,images,{name},\n").encode()).returncode == 0
    assert name in read_manifest(tmp_path / "covid")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not the table of Cohen's repository"),
        (b"\0" * 1000, "is not the table of Cohen's repository"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not the table of Cohen's repository"),
        (b"a title\n" + GOOD.encode(), "is not the table of Cohen's repository"),
        (b"name,age\nx.png,40\n", "is not the table of Cohen's repository"),
        (b"\n<!DOCTYPE html>\n<html>404</html>\n", "is a web page and not a table"),
        (GOOD.encode()[:-9], "line 4 has 5 cells where the header has"),
        ((HEADER + LINE.format(0, "x" * 1_000_000)).encode(), "field larger than field limit"),
        ((GOOD + '"' + "x" * 200_000).encode(), "field larger than field limit"),
    ],
    ids=["empty", "zeros", "picture", "title", "other", "page", "cut", "field", "unclosed"],
)
def test_a_table_that_is_none_is_one_line_and_the_earlier_folder_stays(
    clone, tmp_path, content, said
):
    assert clone(GOOD.encode(), "--limit", 1).returncode == 0
    earlier = sorted(path.name for path in (tmp_path / "covid").iterdir())
    done = clone(content)
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert (done.returncode, len(lines)) == (2, 1)
    assert "metadata.csv" in lines[0] and said in lines[0]
    assert sorted(path.name for path in (tmp_path / "covid").iterdir()) == earlier


OUT = ["../secret.png", "images/../../secret.png", "/etc/hostname", "C:\\x.png", "..\\secret.png"]
OUT += ["\\\\server\\x.png", "a\0b.png", "images/../../clone/images"]


@pytest.mark.parametrize("column", ["filename", "folder"])
@pytest.mark.parametrize("name", OUT)
def test_no_path_of_a_table_leaves_its_root(clone, tmp_path, picture, name, column):
    (tmp_path / "secret.png").write_bytes(picture(8))
    cells = ("images", name) if column == "filename" else (name, "0.png")
    done = clone((GOOD + "3,COVID-19,PA,X-ray,{},{},\n".format(*cells)).encode())
    assert done.returncode == 0
    assert "  1 outside the repository: " in done.stdout
    assert set(read_manifest(tmp_path / "covid")) == {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize("kind", ["semicolon", "tab", "utf-16", "utf-16-be"])
def test_a_table_that_a_spreadsheet_saved_is_read(clone, tmp_path, kind):
    separator = {"semicolon": ";", "tab": "\t"}.get(kind, ",")
    text = GOOD.replace(",", separator)
    content = b"\xfe\xff" + text.encode(kind) if kind == "utf-16-be" else None
    done = clone(content or text.encode("utf-16" if kind == "utf-16" else "utf-8"))
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(tmp_path / "covid")) == {"0.png", "1.png", "2.png"}


def test_a_file_name_may_begin_with_its_folder(clone, tmp_path):
    done = clone((GOOD + "3,COVID-19,PA,X-ray,images,images/3.png,\n").encode())
    assert done.returncode == 0, done.stderr
    assert "1 missing: 3.png" in done.stdout
    again = clone(GOOD.replace("images,0.png", "images,images/0.png").encode())
    assert again.returncode == 0, again.stderr
    assert read_manifest(tmp_path / "covid")["0.png"].source_id == "images/0.png"


def test_a_table_of_100_mb_takes_bounded_time_and_memory(tmp_path):
    path = tmp_path / "metadata.csv"
    lines = "".join(LINE.format(i, "a note of some length " * 20) for i in range(2000))
    with path.open("w") as file:
        file.write(HEADER)
        while file.tell() < 100e6:
            file.write(lines)
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    assert len(cohen.read_metadata(path)) > 200_000
    assert time.process_time() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024  # KiB

"""build_external_dataset.py fills class folders from data sets as they are published."""

import csv
import gzip
import re
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from covidxray.data.loading import load_dataset
from covidxray.data.manifest import read_exclusions, read_manifest
from covidxray.data.source import CLASSES, known_sources, read_source
from covidxray.data.source_images import list_source

TOML = """
title = "Our hospital"
licence = "CC0"
citation = "nobody"
link = "https://example.org"
tables = ["table.csv"]
file = "images/{name}"
label = "{finding}"
patient = "{patient}"
view = "{view}"

[labels]
"ill" = "covid"
"well" = "normal"
"""
HEADER = "name,finding,patient,view\n"


@pytest.fixture
def put(tmp_path, picture):
    """A function that writes small pictures to these paths below the folder `download`."""

    def write(*paths):
        for number, path in enumerate(paths):
            (tmp_path / "download" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "download" / path).write_bytes(picture(number % 5))

    (tmp_path / "download").mkdir()
    return write


@pytest.fixture
def build(script, tmp_path):
    """A function that builds the three classes from `download` into `out`."""

    def run(source, *options, classes=("--classes", "covid", "normal", "pneumonia"), code=0):
        command = ("build_external_dataset.py", "--source", source, "--input", "download")
        done = script(*command, "--output", "out", *classes, *options, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture
def own(tmp_path, put):
    """A function that writes a table of one's own, its description and its images."""

    def write(rows, toml=TOML):
        (tmp_path / "download" / "table.csv").write_text(HEADER + "".join(f"{r}\n" for r in rows))
        (tmp_path / "own.toml").write_text(toml)
        put(*(f"images/{row.split(',')[0]}" for row in rows))

    return write


def counts(folder):
    """The number of images of each class that was filled."""
    return {path.name: len(read_manifest(path)) for path in sorted(folder.iterdir())}


def read_table(path):
    with open(path, newline="", encoding="latin-1") as file:
        return list(csv.DictReader(file))


def last_line(done):
    """The one line that says what was wrong."""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_actualmed_is_built_from_its_real_table(real_data, put, build, tmp_path):
    table = real_data / "tables" / "actualmed-metadata.csv"
    rows = read_table(table)
    put(*(f"images/{row['imagename']}" for row in rows))
    (tmp_path / "download" / "metadata.csv").write_bytes(table.read_bytes())
    done = build("actualmed")
    assert counts(tmp_path / "out") == {"covid": 58, "normal": 127}
    assert "another label: 53\n  53 no label" in done.stdout
    listed = read_manifest(tmp_path / "out/normal") | read_manifest(tmp_path / "out/covid")
    for row in rows:
        if row["finding"]:
            made = listed[row["imagename"]]
            assert (made.patient_id, made.view) == (row["patientid"], row["view"])
            assert (made.finding, made.source) == (row["finding"], "actualmed")
    assert len(load_dataset(tmp_path / "out", b"salt")) == 185


def test_figure1_is_latin_1_and_finds_files_of_any_suffix_by_their_patient(
    real_data, put, build, tmp_path
):
    table = real_data / "tables" / "figure1-metadata.csv"
    names = [row["patientid"] for row in read_table(table)]
    put(*(f"images/{name}.{('jpg', 'png')[i % 2]}" for i, name in enumerate(names)))
    (tmp_path / "download" / "metadata.csv").write_bytes(table.read_bytes())
    build("figure1")
    assert counts(tmp_path / "out") == {"covid": 35, "normal": 3, "pneumonia": 2}
    rows = [row for name in CLASSES for row in read_manifest(tmp_path / "out" / name).values()]
    assert {row.filename.rpartition(".")[2] for row in rows} == {"jpg", "png"}
    for row in rows:
        assert row.filename.startswith(row.patient_id)
        assert re.fullmatch(r"COVID-\d{5}", row.patient_id)


def test_all_of_hannover_is_covid_at_one_site(real_data, put, build, tmp_path):
    table = real_data / "tables" / "hannover-data.csv"
    put(*(f"png/{row['image_id']}.png" for row in read_table(table)))
    (tmp_path / "download" / "data.csv").write_bytes(table.read_bytes())
    build("hannover", "--view", "PA")
    assert counts(tmp_path / "out") == {"covid": 49}
    assert {row.site for row in read_manifest(tmp_path / "out/covid").values()} == {
        "Hannover Medical School, Hannover, Germany"
    }
    excluded = [reason for _, reason in read_exclusions(tmp_path / "out/covid")]
    assert excluded == ["another view"] * 194


@pytest.mark.parametrize(
    ("source", "table", "expected"),
    [
        ("covidx", "covidx-test.txt", {"covid": 10, "normal": 100, "pneumonia": 100}),
        ("covidx9", "covidx9b-test.txt", {"covid": 200}),
    ],
)
def test_the_lists_of_covidx_have_no_header(
    real_data, put, build, tmp_path, source, table, expected
):
    lines = (real_data / "tables" / table).read_text().splitlines()
    put(*(f"test/{line.split()[1]}" for line in lines))
    (tmp_path / "download" / "test.txt").write_text("\n".join(lines))
    build(source)
    assert counts(tmp_path / "out") == expected


def test_a_list_of_covidx_with_other_columns_is_refused(real_data, build, tmp_path, put):
    table = real_data / "tables" / "covidx9b-test.txt"
    (tmp_path / "download" / "test.txt").write_bytes(table.read_bytes())
    assert "has 4 cells and not 3: patient, file, label" in last_line(build("covidx", code=2))


@pytest.mark.parametrize("sex", ["Patient Gender", "Patient Sex"])
def test_nih_finds_images_in_all_its_folders_and_takes_single_findings(put, build, tmp_path, sex):
    header = f"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,{sex},View Position,"
    header += "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
    labels = ("No Finding", "Pneumonia", "Pneumonia|Edema", "Hernia", "No Finding")
    row = "0000000{0}_000.png,{1},0,{0},57,M,PA,2682,2749,0.143,0.143\n"
    table = header + "".join(row.format(i, label) for i, label in enumerate(labels))
    (tmp_path / "download" / "Data_Entry_2017_v2020.csv").write_text(table)
    put("images_001/images/00000000_000.png", "images_012/images/00000001_000.png")
    done = build("nih")
    assert counts(tmp_path / "out") == {"normal": 1, "pneumonia": 1}
    made = read_manifest(tmp_path / "out/pneumonia")["00000001_000.png"]
    assert made.source_id == "images_012/images/00000001_000.png"
    assert (made.patient_id, made.view, made.age, made.sex) == ("1", "PA", "57", "M")
    assert "normal: 1 images of 1 patients\n  left out: 1 missing\n" in done.stdout
    assert "another label: 2\n  1 Pneumonia|Edema\n  1 Hernia\n" in done.stdout
    source = read_source("nih")
    for text in (source.licence, source.citation, source.link, *source.quirks):
        assert text in done.stdout


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices\n"
)
CHEXPERT_ROWS = [  # folder and file, view, other cells by column
    ("patient00001/study1/view1_frontal.jpg", "Frontal,AP", {"No Finding": "1.0"}),
    ("patient00001/study1/view2_lateral.jpg", "Lateral,", {"No Finding": "1.0"}),
    ("patient00001/study2/view1_frontal.jpg", "Frontal,PA", {"Pneumonia": "1.0", "Edema": "0.0"}),
    ("patient00002/study1/view1_frontal.jpg", "Frontal,AP", {"Pneumonia": "-1.0"}),
    ("patient00003/study1/view1_frontal.jpg", "Frontal,AP", {"Pneumonia": "1.0", "Edema": "-1.0"}),
]


def test_chexpert_has_a_column_for_each_finding(put, build, tmp_path):
    names = CHEXPERT.strip().split(",")[5:]
    root = "CheXpert-v1.0-small/train/"
    put(*(root + path for path, *_ in CHEXPERT_ROWS))
    rows = [
        f"{root}{path},Female,68,{view},{','.join(cells.get(name, '') for name in names)}\n"
        for path, view, cells in CHEXPERT_ROWS
    ]
    table = tmp_path / "download" / "CheXpert-v1.0-small" / "train.csv"
    table.write_text(CHEXPERT + "".join(rows))
    done = build("chexpert")
    assert counts(tmp_path / "out") == {"normal": 1, "pneumonia": 1}
    (made,) = read_manifest(tmp_path / "out/pneumonia").values()
    assert made.filename.endswith("train_patient00001_study2_view1_frontal.jpg")
    assert (made.patient_id, made.finding, made.view) == ("patient00001", "Pneumonia", "PA")
    assert "left out: 1 another view" in done.stdout
    assert "  1 Pneumonia?\n  1 Edema?|Pneumonia\n" in done.stdout


def test_masks_of_the_radiography_database_are_no_images(put, build, tmp_path):
    names = {"COVID": 3, "Normal": 2, "Lung_Opacity": 1, "Viral Pneumonia": 1}
    for kind in ("images", "masks"):
        put(*(f"{name}/{kind}/{name}-{i}.png" for name, n in names.items() for i in range(n)))
    put("COVID.metadata.xlsx")
    done = build("radiography")
    assert counts(tmp_path / "out") == {"covid": 3, "normal": 2, "pneumonia": 1}
    assert "another label: 1\n  1 Lung_Opacity\n" in done.stdout
    assert "COVID-0.png" in read_manifest(tmp_path / "out/covid")


def test_a_class_that_is_not_asked_for_is_left_out_and_counted(put, build, tmp_path):
    put("COVID/images/COVID-1.png", "Normal/images/Normal-1.png", "Viral Pneumonia/images/V-1.png")
    done = build("radiography", classes=())
    assert counts(tmp_path / "out") == {"covid": 1, "normal": 1}
    assert "another label: 1\n  1 Viral Pneumonia\n" in done.stdout


def test_covidgr_has_folders_p_and_n(put, build, tmp_path):
    put("P/a.jpg", "P/b.jpg", "N/c.jpg", "read me.jpg")
    build("covidgr")
    assert counts(tmp_path / "out") == {"covid": 2, "normal": 1}


def test_every_row_is_in_a_manifest_or_among_the_excluded(own, build, tmp_path):
    rows = "a.png,ill,1,PA b.png,ILL,1,PA c.png,ill,2,AP d.png,ill,3,L e.png,well,4,PA "
    rows += "e.png,well,4,PA f.png,well,5,PA g.png,odd,6,PA ../h.png,well,7,PA i.png,well,8,PA"
    own(rows.split())
    (tmp_path / "download/images/f.png").write_bytes(b"damaged")
    (tmp_path / "download/images/i.png").unlink()
    build("own.toml", "--view", "pa", "AP", "--one-per-patient")
    assert counts(tmp_path / "out") == {"covid": 2, "normal": 1}
    assert dict(read_exclusions(tmp_path / "out/covid")) == {
        "b.png": "another image of the patient",
        "d.png": "another view",
        "g.png": "another label",
    }
    assert dict(read_exclusions(tmp_path / "out/normal")) == {
        "e.png": "repeated",
        "f.png": "damaged",
        "g.png": "another label",
        ".._h.png": "outside of the input folder",
        "i.png": "missing",
    }


def test_a_link_of_the_table_out_of_the_download_is_not_followed(own, build, tmp_path):
    own(["a.png,ill,1,PA", "b.png,well,2,PA"])
    (tmp_path / "download/images/a.png").rename(tmp_path / "secret.png")
    (tmp_path / "download/images/a.png").symlink_to(tmp_path / "secret.png")
    done = build("own.toml")
    assert "left out: 1 outside of the input folder" in done.stdout
    assert counts(tmp_path / "out") == {"normal": 1}


def test_the_folder_of_images_may_be_a_link(own, build, tmp_path):
    own(["a.png,ill,1,PA", "b.png,well,2,PA"])
    (tmp_path / "download/images").rename(tmp_path / "disk")
    (tmp_path / "download/images").symlink_to(tmp_path / "disk")
    build("own.toml")
    assert counts(tmp_path / "out") == {"covid": 1, "normal": 1}


def test_a_limit_is_for_each_class_and_depends_on_the_seed(own, build, tmp_path):
    own([f"{i}.png,{('ill', 'well')[i % 2]},{i},PA" for i in range(20)])
    drawn = []
    for seed in (1, 1, 2):
        done = build("own.toml", "--limit", 4, "--seed", seed)
        assert counts(tmp_path / "out") == {"covid": 4, "normal": 4}
        drawn.append(set(read_manifest(tmp_path / "out/covid")))
    assert drawn[0] == drawn[1] != drawn[2]
    assert "left out: 6 not drawn" in done.stdout


def test_an_image_is_decoded_only_if_it_is_drawn_and_a_damaged_one_is_replaced(
    own, build, tmp_path
):
    own([f"{i}.png,ill,{i},PA" for i in range(20)])
    for i in range(10):
        (tmp_path / "download/images" / f"{i}.png").write_bytes(b"damaged")
    build("own.toml", "--limit", 5)
    reasons = [reason for _, reason in read_exclusions(tmp_path / "out/covid")]
    assert len(read_manifest(tmp_path / "out/covid")) == 5
    assert 0 < reasons.count("damaged") < 10
    assert reasons.count("damaged") + reasons.count("not drawn") == 15


def test_another_source_in_the_same_folder_is_refused_and_the_same_one_replaces(
    own, build, tmp_path
):
    own(["a.png,ill,1,PA", "b.png,well,2,PA"])
    build("own.toml")
    build("own.toml", "--limit", 1)
    (tmp_path / "own.toml").rename(tmp_path / "second.toml")
    said = last_line(build("second.toml", code=2))
    assert "out/covid: has images of the source own; choose another --output" in said
    assert counts(tmp_path / "out") == {"covid": 1, "normal": 1}


def test_no_image_at_all_is_an_error_that_says_why(own, build, tmp_path):
    own(["a.png,ill,1,PA", "b.png,well,2,L", "c.png,odd,2,PA"])
    (tmp_path / "download/images/a.png").unlink()
    said = last_line(build("own.toml", "--view", "PA", code=2))
    assert "no image can be used (1 missing, 1 another view, 1 another label)" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("title", "titel"), "unknown field titel, which is none of title, licence,"),
        (('licence = "CC0"\n', ""), "no field licence; see docs/sources.md"),
        (('"CC0"', "0"), "licence must be a text"),
        (('["table.csv"]', '"table.csv"'), "tables must be a list of texts"),
        (('["table.csv"]', "[1]"), "tables must be a list of texts"),
        (('"ill" = "covid"', '"ill" = ["covid"]'), "labels must be a table of texts"),
        (('"ill" = "covid"', '"ill" = "sick"'), "class 'sick' in labels is none of covid, normal"),
        (('"ill"', '"ill'), "is damaged"),
        (('"images/{name}"', '"../{name}"'), "file or tables lead out"),
        (('["table.csv"]', '["/etc/*.csv"]'), "file or tables lead out"),
        (('"{view}"', '"{view}"\npatient_pattern = "("'), "is damaged (missing ), unterminated"),
        (("{name}", "{file}"), "table.csv: has no column file; its columns are name, finding, pat"),
        (("table.csv", "list.csv"), "download: has no table list.csv; give the folder of Our hos"),
    ],
)
def test_a_description_that_cannot_be_used_is_one_line(own, build, change, said):
    own(["a.png,ill,1,PA"], TOML.replace(*change))
    assert said in last_line(build("own.toml", code=2))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nhi", "--source nhi: is no known source; choose among actualmed, chexpert, "),
        ("gone.toml", "gone.toml: cannot be read (No such file or directory)"),
    ],
)
def test_an_unknown_source_is_one_line(put, build, name, said):
    assert said in last_line(build(name, code=2))


def test_a_table_of_bytes_or_a_web_page_is_one_line(own, build, tmp_path):
    own(["a.png,ill,1,PA"])
    for content in (b"\0" * 99, b"<html>404</html>", b"name,finding,patient,view\na.png\n"):
        (tmp_path / "download/table.csv").write_bytes(content)
        assert "download/table.csv: " in last_line(build("own.toml", code=2))


def test_help_lists_the_sources_without_numpy():
    code = "import runpy, sys; sys.argv[1:] = ['--help']\ntry:\n runpy.run_path"
    code += "('build_external_dataset.py', run_name='__main__')\nfinally:\n"
    code += " print({'numpy', 'PIL', 'keras'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert " ".join(done.stdout.split()).count(", ".join(known_sources())) == 1
    assert done.stdout.endswith("set()\n")


def test_the_example_of_the_documentation_runs(put, build, tmp_path):
    page = (ROOT / "docs/sources.md").read_text()
    toml, table = (re.search(rf"```{kind}\n(.*?)```", page, re.S)[1] for kind in ("toml", "csv"))
    (tmp_path / "example.toml").write_text(toml)
    (tmp_path / "download" / "readings.csv").write_text(table)
    put(*re.findall(r"\w+/\w+\.png", table))
    done = build("example.toml")
    assert done.stdout in page


@pytest.mark.parametrize("name", known_sources())
def test_each_known_source_is_documented_and_its_lines_fit_a_terminal(name):
    source = read_source(name)
    assert f"| `{name}` |" in (ROOT / "docs/sources.md").read_text()
    for text in (f"licence: {source.licence}", f"cite: {source.citation}", source.link):
        assert len(text) <= 80
    assert all(len(f"note: {quirk}") <= 80 for quirk in source.quirks)


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "packed", "place", "rows", "expected"),
    [
        *[("nih", "Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017.csv", 112_120, (60_361, 322))],
        ("chexpert", "chexpert_train.csv.gz", "CheXpert-v1.0/train.csv", 223_414, (13_463, 455)),
    ],
)
def test_the_whole_tables_of_nih_and_chexpert(
    tmp_path_factory, source, packed, place, rows, expected
):
    folder = tmp_path_factory.mktemp("download")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
    if subprocess.run([*pip, "torchxrayvision==1.5.7"], capture_output=True).returncode:
        pytest.skip("torchxrayvision cannot be downloaded")
    (wheel,) = folder.glob("*.whl")
    (folder / place).parent.mkdir(exist_ok=True)
    content = gzip.decompress(zipfile.ZipFile(wheel).read(f"torchxrayvision/data/{packed}"))
    (folder / place).write_bytes(content)
    described = read_source(source)
    labels = [described.class_of(row.finding) for row, _ in list_source(described, folder, ())]
    assert len(labels) == rows
    assert (labels.count("normal"), labels.count("pneumonia")) == expected

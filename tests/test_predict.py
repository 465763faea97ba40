"""Prediction as its user runs it: one row an image, in order, whatever else lies in the folder."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pydicom
import pytest
from conftest import ROOT
from PIL import Image

from covidxray.data.images import read_image
from covidxray.data.lung_masks import heat_in_centre
from covidxray.errors import InputError
from covidxray.model.model_file import MEMBER
from covidxray.model.predictor import Predictor
from covidxray.report.plots import outline, overlay

SECRETS = ("Doe^Jane", "Doe", "MRN-4711", "19630405")


def write_dicom(path, pixels, **more):
    """An uncompressed DICOM file of grey `pixels` that names its patient; None: it has none."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.PatientName, data.PatientID, data.PatientBirthDate = SECRETS[0], *SECRETS[2:]
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "DX", "MONOCHROME2", 1
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape
        data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="session")
def mixed(trained, script, tmp_path_factory):
    """One run over a folder of everything: the process, its table, its folder of outputs."""
    model, drawings = trained
    root = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "deep/er"):
        (root / "in" / name).mkdir(parents=True)
    covid, normal = (sorted((drawings / name).glob("*.jpg"))[0] for name in ("covid", "normal"))
    shutil.copy(covid, root / "in/a/same.jpg")
    shutil.copy(normal, root / "in/b/same.jpg")
    shutil.copy(covid, root / "in/deep/er/=a name, that is a good deal longer than a column.jpg")
    write_dicom(root / "in/deep/er/study", read_image(normal)[..., 0])
    write_dicom(root / "in/deep/no-pixels.dcm", None)
    (root / "in/a/cut.jpg").write_bytes(covid.read_bytes()[:3000])
    (root / "in/a/notes.txt").write_text("no image")
    colours = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(colours).save(root / "in/colour.png")
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(root / "in/blank.png")
    Image.fromarray(colours[..., 0]).resize((512, 512)).save(root / "in/noise.png")
    outputs = ("--csv", "table.csv", "--json", "table.json", "--explain", "heat/maps")
    done = script(
        "predict_covid19.py", "-m", model, "in", "--precision=float32", *outputs, cwd=root
    )
    return done, json.loads((root / "table.json").read_text()), root


def row_of(table, name):
    (row,) = [row for row in table if row["image"].endswith(name)]
    return row


@pytest.mark.slow
def test_every_image_below_a_folder_has_a_row_in_the_order_of_the_paths(mixed):
    _, table, root = mixed
    images = [row["image"] for row in table]
    expected = [p for p in sorted((root / "in").rglob("*")) if p.is_file()]
    unread = ("cut.jpg", "notes.txt", "no-pixels.dcm")
    kept = [str(p.relative_to(root)) for p in expected if p.name not in unread]
    assert images == kept
    assert len(images) == 7


@pytest.mark.slow
def test_bad_files_among_good_ones_are_named_with_the_mend_and_exit_code_2(mixed):
    done, _, _ = mixed
    errors = [line.strip() for line in done.stderr.split("error: ")[1:]]
    assert done.returncode == 2
    assert len(errors) == 3
    assert errors[0].startswith("in/a/cut.jpg: is not an image that can be decoded; remove it")
    assert errors[1].startswith("in/deep/no-pixels.dcm: ")
    assert errors[2] == "2 of 9 files could not be read; see the lines above"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_printed_table_csv_and_json_agree(mixed):
    done, table, root = mixed
    with (root / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in table]
    assert rows == text
    warnings = [row["warning"] for row in table if row["warning"]]
    header, *printed = done.stdout.splitlines()[: 1 + len(table) + len(warnings)]
    assert header.split() == ["image", "class", "P(covid)", "P(normal)"]
    told = [line.strip() for line in printed if line.startswith("    ")]
    assert told == [f"warning: {warning}" for warning in warnings]
    printed = [line for line in printed if not line.startswith("    ")]
    for line, row in zip(printed, table, strict=True):
        assert row["image"].endswith(line[:30].rstrip().removeprefix("..."))
        assert line[30:42].strip() == row["class"]
        assert float(line[42:50]) == pytest.approx(row["probability"], abs=6e-4)
        assert float(line[50:]) == pytest.approx(row["P(normal)"], abs=6e-4)
        assert row["P(covid)"] == row["probability"]
        assert row["P(covid)"] + row["P(normal)"] == pytest.approx(1, abs=2e-6)


@pytest.mark.slow
def test_no_line_is_wider_than_a_terminal_or_speaks_of_a_diagnosis(mixed):
    done, _, _ = mixed
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "not a medical device" in done.stdout
    assert "diagnos" not in (done.stdout + done.stderr).lower()


@pytest.mark.slow
def test_no_output_names_the_patient_of_a_dicom_file(mixed):
    done, table, root = mixed
    assert row_of(table, "study")["probability"] > 0
    written = [p.read_bytes() for p in root.rglob("*") if p.is_file() and "in" not in p.parts]
    everything = [done.stdout.encode(), done.stderr.encode(), *written]
    for secret in SECRETS:
        assert not any(secret.encode() in text for text in everything)


@pytest.mark.slow
def test_a_dicom_file_is_predicted_as_the_picture_in_it(mixed):
    _, table, _ = mixed
    study, picture = row_of(table, "study"), row_of(table, "b/same.jpg")
    assert study["probability"] == pytest.approx(picture["probability"], abs=0.02)


@pytest.mark.slow
def test_what_is_no_chest_xray_is_warned_of(mixed):
    _, table, _ = mixed
    assert row_of(table, "colour.png")["warning"] == "not a chest X-ray: in colour"
    assert row_of(table, "blank.png")["warning"] == "not a chest X-ray: blank"
    assert row_of(table, "noise.png")["warning"] == "no pair of lungs found"
    assert row_of(table, "a/same.jpg")["warning"] == ""


@pytest.mark.slow
def test_every_image_has_a_heat_map_of_its_own_whatever_its_name(mixed):
    _, table, root = mixed
    maps = [root / row["heat_map"] for row in table]
    assert sorted(maps) == sorted((root / "heat/maps").iterdir())
    assert len(set(maps)) == len(table)
    assert {Image.open(path).size for path in maps} == {(224, 224)}
    for path in maps:
        assert np.asarray(Image.open(path)).ndim == 3


@pytest.mark.slow
def test_a_heat_map_is_the_image_with_its_own_heat_and_the_outline_of_its_lungs(mixed, trained):
    _, table, root = mixed
    rows = [row_of(table, name) for name in ("a/same.jpg", "b/same.jpg", "colour.png")]
    predictions = Predictor(trained[0]).predict_files([root / row["image"] for row in rows])
    for row, prediction in zip(rows, predictions, strict=True):
        shown = np.asarray(Image.open(root / row["heat_map"])).astype(int)
        warm = overlay(prediction.image, prediction.heat)
        expected = outline(warm, prediction.lungs).astype(int)
        # In another batch the network rounds another way.
        assert np.abs(shown - expected).mean() < 0.5
        assert np.abs(warm.astype(int) - prediction.image).mean() > 0.15
        assert row["heat_in_centre"] == pytest.approx(heat_in_centre(prediction.heat), abs=2e-3)
        inside = prediction.heat[prediction.lungs].sum() / prediction.heat.sum()
        assert row["heat_in_lungs"] == pytest.approx(inside, abs=2e-3)
    assert rows[0]["heat_in_lungs"] > 0


@pytest.fixture(scope="session")
def known(trained):
    """Four drawings, and the probability of the positive class of each, predicted alone."""
    model, drawings = trained
    paths = [p for name in ("covid", "normal") for p in sorted((drawings / name).glob("*.jpg"))[:2]]
    classifier = Predictor(model)
    alone = [next(classifier.predict([read_image(path)])) for path in paths]
    return paths, np.array([p.probabilities[classifier.positive] for p in alone])


@pytest.mark.slow
@pytest.mark.parametrize(("good", "bad"), [(17, ()), (33, (0, 15, 16))])
def test_over_batches_each_name_keeps_its_own_prediction(
    trained, known, script, tmp_path, good, bad
):
    paths, alone = known
    assert np.diff(np.sort(alone)).min() > 1e-4
    which = np.random.default_rng(good).integers(len(paths), size=good)
    names = [f"{i:02d}.jpg" for i in range(good + len(bad))]
    kept = [name for i, name in enumerate(names) if i not in bad]
    for i in bad:
        (tmp_path / names[i]).write_bytes(b"no picture")
    for name, i in zip(kept, which, strict=True):
        shutil.copy(paths[i], tmp_path / name)
    backwards = names[::-1]  # the order given, not the alphabet's
    arguments = ("-m", trained[0], *backwards, "--json", "table.json")
    done = script("predict_covid19.py", *arguments, cwd=tmp_path)
    assert done.returncode == (2 if bad else 0), done.stderr
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["image"] for row in table] == kept[::-1]
    found = [row["probability"] for row in table]
    assert found == pytest.approx(alone[which][::-1], abs=2e-5)


def with_threshold(model, path, threshold):
    """A copy of a model file with another stored threshold."""
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member == MEMBER:
                content = json.dumps({**json.loads(content), "threshold": threshold})
            new.writestr(member, content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "label"), [(0.0, "covid"), (1.0, "normal")])
def test_the_class_is_decided_at_the_stored_threshold(trained, script, tmp_path, threshold, label):
    model = with_threshold(trained[0], tmp_path / "moved.keras", threshold)
    image = sorted((trained[1] / "covid").glob("*.jpg"))[0]
    done = script("predict_covid19.py", "-m", model, image)
    assert done.stdout.splitlines()[1].split()[1] == label
    assert f"class: covid from a probability of {threshold:.3f}, else" in done.stdout


@pytest.mark.slow
def test_a_threshold_on_the_command_line_comes_before_the_stored_one(trained, script, tmp_path):
    model = with_threshold(trained[0], tmp_path / "moved.keras", 1.0)
    image = sorted((trained[1] / "covid").glob("*.jpg"))[0]
    done = script("predict_covid19.py", "-m", model, image, "--threshold", "0.001")
    assert done.stdout.splitlines()[1].split()[1] == "covid"
    assert "class: covid from a probability of 0.001" in done.stdout


@pytest.mark.slow
def test_a_prevalence_adds_the_probability_there(trained, script, tmp_path):
    image = sorted((trained[1] / "covid").glob("*.jpg"))[0]
    options = ("--prevalence", "0.1", "--json", tmp_path / "p.json")
    done = script("predict_covid19.py", "-m", trained[0], image, *options)
    (row,) = json.loads((tmp_path / "p.json").read_text())
    odds = row["P(covid)"] / row["P(normal)"] / 9
    assert row["at prevalence 0.1"] == pytest.approx(odds / (1 + odds), abs=1e-5)
    assert done.stdout.splitlines()[0].split()[-3:] == ["at", "prevalence", "0.1"]
    assert row["class"] == json.loads((tmp_path / "p.json").read_text())[0]["class"]


@pytest.mark.long
@pytest.mark.slow
def test_the_heat_maps_of_a_class_that_is_named_differ_from_those_of_the_other(trained):
    image = sorted((trained[1] / "covid").glob("*.jpg"))[0]
    heat = {
        name: next(Predictor(trained[0], explain=name).predict_files([image])).heat
        for name in (None, "covid", "normal")
    }
    label = next(Predictor(trained[0]).predict_files([image])).label
    np.testing.assert_array_equal(heat[None], heat[("covid", "normal")[label]])
    assert np.abs(heat["covid"] - heat["normal"]).max() > 0.1


@pytest.mark.slow
def test_a_class_to_explain_that_the_model_does_not_have_is_said_with_those_it_has(trained):
    with pytest.raises(InputError, match="--explain-class other: is no class of the model; give"):
        Predictor(trained[0], explain="other")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are always text")
def test_names_that_are_no_text_or_would_steer_a_terminal_are_escaped(trained, tmp_path):
    drawing = sorted((trained[1] / "covid").glob("*.jpg"))[0]
    folder = tmp_path / "in"
    folder.mkdir()
    names = (
        b"caf\xe9.jpg",
        b"new\nline.jpg",
        b"red\x1b[31m.jpg",
        b"=1+1.jpg",
        b"x" * 200 + b".jpg",
    )
    for name in names:
        shutil.copy(drawing, bytes(folder) + b"/" + name)
    command = [sys.executable, ROOT / "predict_covid19.py", "-m", trained[0], "."]
    command += ["--csv", "../t.csv", "--json", "../t.json", "--explain", "../heat"]
    done = subprocess.run(command, capture_output=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\x1b[31m" not in done.stdout
    images = [row["image"] for row in json.loads((tmp_path / "t.json").read_text())]
    assert {"caf\\udce9.jpg", "new\\nline.jpg", "red\\x1b[31m.jpg", "./=1+1.jpg"} < set(images)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == images
    assert len(list((tmp_path / "heat").iterdir())) == 5


@pytest.fixture
def corner(tmp_path):
    """A folder with a picture, a damaged model, an empty folder and a folder of texts."""
    shutil.copy(sorted((ROOT / "dataset" / "covid").glob("*.jpg"))[0], tmp_path / "x.jpg")
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/readme.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "none.keras", "x.jpg"), "none.keras: no such file; give the .keras file"),
        (("-m", "cut.keras", "x.jpg"), "cut.keras: cannot be read as a model; give"),
        (("-m", "x.jpg", "x.jpg"), "x.jpg: cannot be read as a model; give"),
        (("-m", "empty", "x.jpg"), "empty: cannot be read as a model; give"),
        (("-m", "cut.keras", "none.jpg"), "none.jpg: no such file or folder; check"),
        (("-m", "cut.keras", "y" * 300), "no such file or folder; check"),
        (("-m", "cut.keras", "empty"), "empty: holds no images; give"),
        (("-m", "cut.keras", "texts"), "texts: holds no images; give"),
        (("-m", "cut.keras", "x.jpg", "--csv", "empty"), "empty: is a folder; give"),
        (("-m", "cut.keras", "x.jpg", "--json", "no/t.json"), "no such folder for t.json; make"),
        (("-m", "cut.keras", "x.jpg", "--csv", "x.jpg"), "x.jpg: is needed for something else"),
        (("-m", "cut.keras", "x.jpg", "--csv", "cut.keras"), "cut.keras: is needed for something"),
        (("-m", "cut.keras", "x.jpg", "--csv", "t", "--json", "t"), "t: is needed for something"),
        (("-m", "cut.keras", "x.jpg", "--explain", "x.jpg"), "x.jpg: File exists; check its name"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(script, corner, arguments, said):
    before = {path: path.stat().st_size for path in corner.rglob("*")}
    done = script("predict_covid19.py", *arguments, cwd=corner)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[INFO]")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert said in lines[0]
    assert done.stdout == ""
    assert {path: path.stat().st_size for path in corner.rglob("*")} == before


def test_help_names_the_disclaimer_and_no_diagnosis(script):
    done = script("predict_covid19.py", "--help")
    assert done.returncode == 0
    assert "not a medical device" in re.sub(r"\s+", " ", done.stdout)
    assert "diagnos" not in done.stdout.lower()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_it_with_130_and_leaves_no_half_table(trained, tmp_path):
    command = [sys.executable, ROOT / "predict_covid19.py", "-m", trained[0], trained[1]]
    process = subprocess.Popen(
        [*command, "--csv", "table.csv", "--json", "table.json"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # A test run started in the background ignores SIGINT, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []

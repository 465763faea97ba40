"""A saved model scored on labelled images from elsewhere, as its user does it."""

import json
import os
import shutil
import textwrap
from itertools import islice

import numpy as np
import pytest
from conftest import ROOT
from pages import Page

from covidxray.data.images import read_image
from covidxray.data.lung_masks import heat_in_centre
from covidxray.data.manifest import read_manifest
from covidxray.evaluation.regions import REGION_NAMES
from covidxray.model.cache import Cache
from covidxray.model.predictor import Predictor
from covidxray.report.sentences import ACQUISITION

pytestmark = pytest.mark.slow


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


def read_json(path):
    """Strict JSON: neither NaN nor Infinity."""
    return json.loads(path.read_text(), parse_constant=no_constant)


@pytest.fixture(scope="module")
def evaluate(script, trained):
    """A function that scores the model on a folder; it runs beside the model, to print no path."""

    def run(*arguments):
        inputs = ("-m", "covid19.keras", "--precision", "float32", "-d")
        return script("evaluate_covid19.py", *inputs, *arguments, cwd=trained[0].parent)

    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The cache of the runs on the training folder."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def on_training_folder(evaluate, trained, kept, tmp_path_factory):
    """Its output, its JSON, and its report."""
    out = tmp_path_factory.mktemp("own")
    files = ("--json", out / "e.json", "--report", out / "e.html", "--cache", kept)
    done = evaluate(trained[1], *files)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"e.json", "e.html"}
    return done.stdout, read_json(out / "e.json"), (out / "e.html").read_text(encoding="utf-8")


def test_the_training_folder_is_recognised_and_counted(on_training_folder, trained):
    stdout, found, _ = on_training_folder
    split = json.loads((trained[0].parent / "metrics.json").read_text())["split"]
    n = len(split["train"])
    assert n + len(split["test"]) == 12
    assert f"TRAINED ON: {n} of these images were trained on, and 0 more" in stdout
    assert found["trained_on"]["images"] == n
    parts = {s["value"]: s["n"] for s in found["subgroups"] if s["kind"] == "trained on"}
    assert parts == {"yes": n, "no": 12 - n}


def test_what_is_printed_fits_80_columns_and_has_every_part(on_training_folder):
    stdout, _, _ = on_training_folder
    assert max(map(len, stdout.splitlines())) <= 80
    for part in (
        "drawings: 6 covid + 6 normal images, 10 patients",
        "classified as the most probable class:",
        "confusion matrix",
        "auc: ",
        "brier score: ",
        "subgroup",
        "auc of the model, and of baselines that were trained with it",
        "auc within strata of view",
        "not a medical device",
    ):
        assert part in stdout


def test_the_json_holds_what_is_printed(on_training_folder, trained):
    stdout, found, _ = on_training_folder
    assert f"auc: {found['auc']['value']:.4f}" in stdout
    assert f"brier score: {found['calibration']['brier']['value']:.4f}" in stdout
    for name, one in found["acquisition"].items():
        area, difference = one["auc"]["value"], one["difference"]["value"]
        assert difference == pytest.approx(found["auc"]["value"] - area)
        assert f"{ACQUISITION[name]}: {area:.2f}" in stdout
    assert textwrap.fill(found["verdict"], 80, break_on_hyphens=False) in stdout
    assert sum(b["count"] for b in found["calibration"]["bins"]) == 12
    trained_json = json.loads((trained[0].parent / "metrics.json").read_text())
    assert found["dataset"]["sha256"] == trained_json["dataset"]["sha256"]


def test_its_shortcuts_are_those_of_the_training_with_the_same_seed(on_training_folder, trained):
    trained_json = json.loads((trained[0].parent / "metrics.json").read_text())
    found, learnt = on_training_folder[1]["shortcuts"], trained_json["shortcuts"]
    for name in ("baselines", "findings", "advice", "images"):
        assert found[name] == learnt[name]


def test_where_the_signal_is_is_printed_and_kept(on_training_folder):
    stdout, found, _ = on_training_folder
    where = found["regions"]
    assert where == found["shortcuts"]["regions"]
    for pool, name in REGION_NAMES.items():
        assert f"{name}: {where[pool]['value']:.4f}" in stdout
    assert where["lungs"] == found["auc"]
    assert f"lungs - outside: {where['difference']['value']:.4f}" in stdout
    assert where["total"] == 12
    assert 0 < found["heat_in_lungs"] <= 1


def test_warnings_lungs_and_heat_are_counted_as_the_predictions_have_them(
    on_training_folder, trained, kept
):
    stdout, found, text = on_training_folder
    model, drawings = trained
    paths = sorted(drawings.glob("*/*.jpg"))
    predictions = list(Predictor(model, Cache(kept)).predict_files(paths))
    flagged = sum(bool(p.warning) for p in predictions)
    assert found["unlike_the_training_images"] == flagged
    assert f"unlike the training images: {flagged} of 12" in stdout
    pairs = sum(p.lungs_found for p in predictions)
    assert (found["pairs_of_lungs"], found["regions"]["found"]) == (pairs, pairs)
    warm = [p for p in predictions if p.heat.any()]
    inside = np.mean([p.heat[p.lungs].sum() / p.heat.sum() for p in warm])
    centre = np.mean([heat_in_centre(p.heat) for p in warm])
    area = np.mean([p.lungs.mean() for p in warm])
    assert len({round(share, 2) for share in (inside, centre, area)}) == 3
    assert found["heat_in_lungs"] == pytest.approx(inside, abs=1e-4)
    assert found["heat_in_centre"] == pytest.approx(centre, abs=1e-4)
    inside, area, centre = (f"{100 * share:.0f} %" for share in (inside, area, centre))
    told = f"{inside} of the heat lies in the lungs, which are {area} of the picture, and "
    assert f"{told}{centre} in the central part" in " ".join(text.split())


def test_the_report_has_the_scores_and_the_cases(on_training_folder, trained):
    _, found, text = on_training_folder
    page = Page(text)
    assert page.text.count("A saved model on drawings") == 2  # title and heading
    rows = {row[0]: row[1:] for row in page.table("Positive class: covid.")}
    expected = {
        "AUC": found["auc"],
        **{name: found["evaluation"][name] for name in ("accuracy", "sensitivity", "specificity")},
        **found["fixed"],
        "Brier score": found["calibration"]["brier"],
    }
    for name, estimate in expected.items():
        shown = f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"
        assert rows[name][0].strip() == shown
    for name, _, image, _ in page.cases():
        # The outline of the lungs apart, it is the file itself.
        assert np.median(np.abs(image.astype(int) - read_image(trained[1] / name))) <= 2
    wrong = sum(image.get("class") == "wrong" for image in page.all("figure"))
    confusion = np.array(found["evaluation"]["confusion"])
    assert wrong == min(4, confusion.sum() - confusion.trace())


@pytest.fixture(scope="module")
def normals(evaluate, trained, script, tmp_path_factory):
    """Other drawings of the patients in the training folder; of normal alone."""
    out = tmp_path_factory.mktemp("normals")
    script("make_demo_dataset.py", "-s", 6, "--seed", 7, "-o", out / "set")
    shutil.rmtree(out / "set" / "covid")
    done = evaluate(out / "set", "--json", out / "n.json", "--report", out / "n.html")
    assert done.returncode == 0, done.stderr
    return done.stdout, read_json(out / "n.json"), out


def test_normals_alone_give_a_false_positive_rate_and_no_area(normals):
    stdout, found, out = normals
    rate, confusion = found["false_positive_rate"], found["evaluation"]["confusion"]
    assert f"false-positive rate: {rate['value']:.4f}  {rate['count']}/6" in stdout
    assert rate["count"] == confusion[1][0]
    assert confusion[0] == [0, 0]
    assert "sensitivity: no positive image" in stdout
    assert "auc" not in stdout
    assert (found["auc"], found["fixed"], found["shortcuts"]) == (None, {}, None)
    assert max(map(len, stdout.splitlines())) <= 80
    assert "false-positive rate" in (out / "n.html").read_text(encoding="utf-8")


def test_patients_trained_on_are_known_by_other_pictures_of_them(normals, trained):
    stdout, found, out = normals
    manifest = read_manifest(trained[1] / "normal")
    split = json.loads((trained[0].parent / "metrics.json").read_text())["split"]
    names = [name.removeprefix("normal/") for name in split["train"] if "normal/" in name]
    patients = {manifest[name].patient_id for name in names}
    rows = read_manifest(out / "set" / "normal").values()
    n = sum(row.patient_id in patients for row in rows)
    assert 0 < n < 6
    assert f"TRAINED ON: 0 of these images were trained on, and {n} more" in stdout
    assert found["trained_on"] == {"images": 0, "of_patients": n}


def test_a_class_of_one_patient_is_scored_without_an_audit(evaluate, trained, tmp_path):
    for name, n in (("covid", 3), ("normal", 1)):
        (tmp_path / "few" / name).mkdir(parents=True)
        for path in islice(sorted((trained[1] / name).glob("*.jpg")), n):
            shutil.copy(path, tmp_path / "few" / name)
    done = evaluate(tmp_path / "few", "--json", tmp_path / "few.json")
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "few.json")
    assert found["auc"] is not None
    assert found["shortcuts"] is None


@pytest.fixture(scope="module")
def two_hospitals(evaluate, trained, kept, tmp_path_factory):
    """The output, JSON and report of a run on two data sets; the second has normals only."""
    out = tmp_path_factory.mktemp("two")
    shutil.copytree(trained[1] / "normal", out / "clinic" / "normal")
    files = ("--json", out / "e.json", "--report", out / "e.html", "--cache", kept)
    done = evaluate(trained[1], out / "clinic", "--transplant", 0, *files)
    assert done.returncode == 0, done.stderr
    return done.stdout, read_json(out / "e.json"), (out / "e.html").read_text(encoding="utf-8")


def test_several_hospitals_end_in_a_table_without_a_mean(two_hospitals, on_training_folder):
    lines = two_hospitals[0].splitlines()
    table = lines[lines.index("2 data sets, each evaluated for itself:") + 2 :]
    both, rate = on_training_folder[1]["auc"], on_training_folder[1]["false_positive_rate"]
    texts = [f"{e['value']:.2f} ({e['low']:.2f} to {e['high']:.2f})" for e in (both, rate)]
    assert table[1].split(maxsplit=4)[:4] == ["drawings", "6", "+", "6"]
    assert table[1].endswith(f"{texts[0]}   {texts[1]}")
    assert table[2].split()[:4] == ["clinic", "0", "+", "6"] and "not defined" in table[2]
    assert table[2].endswith(texts[1])
    assert table[3] == "" and max(map(len, lines)) <= 80


def test_the_json_of_several_hospitals_lists_what_each_alone_would_give(two_hospitals):
    first, second = two_hospitals[1]["datasets"]
    assert first["auc"] and second["auc"] is None
    assert second["dataset"]["name"] == "clinic"


def test_the_report_of_several_hospitals_compares_them(two_hospitals):
    page = Page(two_hospitals[2])
    alternatives = [image["alt"] for image in page.all("img")]
    assert alternatives[0].startswith("AUC, with 95 % intervals. drawings: ")
    assert alternatives[1].startswith("false-positive rate, with 95 % intervals. drawings: ")
    assert "clinic" in alternatives[1] and "clinic" not in alternatives[0]


def test_normals_of_another_hospital_run_and_are_said_to_be_no_drawings(
    evaluate, real_data, tmp_path
):
    (tmp_path / "nih" / "normal").mkdir(parents=True)
    for path in islice(sorted((real_data / "nih-normal").glob("*.png")), 3):
        os.symlink(path, tmp_path / "nih" / "normal" / path.name)
    done = evaluate(tmp_path / "nih")
    assert done.returncode == 0, done.stderr
    assert "nih: 3 normal images, 3 patients" in done.stdout
    assert "the numbers say nothing" in done.stdout
    assert "false-positive rate: " in done.stdout
    assert "TRAINED ON" not in done.stdout
    assert "no manifest.csv" not in done.stderr  # the names tell the patients
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_folder_that_is_no_class_of_the_model_is_named(evaluate, tmp_path, picture):
    (tmp_path / "set" / "flu").mkdir(parents=True)
    (tmp_path / "set" / "flu" / "a.png").write_bytes(picture(1))
    done = evaluate(tmp_path / "set", "--json", tmp_path / "e.json")
    assert done.returncode == 2
    assert "flu: is no class of the model; its classes are covid, normal" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "e.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "none.keras", "-d", ROOT / "dataset"), "none.keras: no such file"),
        (("-m", ROOT / "README.md", "-d", ROOT / "dataset"), "cannot be read as a model"),
        (("-m", "none.keras", "-d", "nowhere"), "no such folder"),
        (("-m", "none.keras", "-d", ROOT / "dataset", "--report", "no/r.html"), "no such folder"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(script, tmp_path, arguments, said):
    done = script("evaluate_covid19.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []

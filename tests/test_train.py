"""The trainer as its user runs it, on the demo set."""

import io
import json
import shutil
import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT
from pages import Page
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from covidxray.data.class_folder import fill_folder
from covidxray.data.folders import list_images
from covidxray.data.images import read_image, save_png
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow, read_manifest
from covidxray.demo.phantom import draw_phantom, encode_jpeg
from covidxray.evaluation.regions import REGION_NAMES
from covidxray.model.predictor import Predictor

SCRIPTS = (
    "audit_dataset",
    "build_covid_dataset",
    "build_external_dataset",
    "evaluate_covid19",
    "make_demo_dataset",
    "predict_covid19",
    "sample_kaggle_dataset",
    "train_covid19",
)
QUICK = ("--augment", 0, "--repeats", 2, "--epochs", 5)


def read_about(folder):
    """What the model file in a folder says of itself."""
    with zipfile.ZipFile(folder / "covid19.keras") as archive:
        return json.loads(archive.read("covidxray.json"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first 10 drawings of each class of the demo set."""
    root = tmp_path_factory.mktemp("small")
    for name in ("covid", "normal"):
        rows = sorted(read_manifest(ROOT / "dataset" / name).values(), key=lambda r: r.filename)
        fill_folder(root / name, [(r, ROOT / "dataset" / name / r.filename) for r in rows[:10]])
    return root


@pytest.fixture(scope="module")
def runs(small, script, tmp_path_factory):
    """The output, the numbers, and the folder of three runs: with seed 1, again, and seed 2 in
    short, which is for its split."""
    found = []
    for seed, options in ((1, QUICK), (1, QUICK), (2, ("--repeats", 0, "--epochs", 1))):
        folder = tmp_path_factory.mktemp("run")
        done = script("train_covid19.py", "-d", small, *options, "--seed", seed, cwd=folder)
        assert done.returncode == 0, done.stderr
        found.append((done.stdout, json.loads((folder / "metrics.json").read_text()), folder))
    return found


@pytest.mark.slow
def test_a_run_prints_the_tutorials_lines_and_writes_whole_files(runs):
    stdout, _, folder = runs[0]
    for line in ("precision    recall", "acc: ", "sensitivity: ", "specificity: ", "cv auc: "):
        assert line in stdout
    assert "drawings: the numbers say nothing about COVID-19" in stdout
    assert "best shortcut auc: " in stdout
    assert max(map(len, stdout.splitlines())) <= 80
    assert {path.name for path in folder.iterdir()} == {"plot.png", "covid19.keras", "metrics.json"}
    assert Image.open(folder / "plot.png").size[0] > 1000


@pytest.mark.slow
def test_the_saved_model_classifies_raw_pictures_and_knows_its_classes(runs, small):
    _, metrics, folder = runs[0]
    model = keras.saving.load_model(folder / "covid19.keras", safe_mode=True)
    pixels = np.stack([read_image(small / name) for name in metrics["split"]["test"]])
    labels = [name.split("/")[0] for name in metrics["split"]["test"]]
    metadata = read_about(folder)
    assert metadata["classes"] == ["covid", "normal"]
    assert len(metadata["trained_on"]) == len(metrics["split"]["train"])
    predicted = model.predict(pixels, verbose=0).argmax(axis=1)
    hits = [metadata["classes"][p] == label for p, label in zip(predicted, labels, strict=True)]
    assert sum(hits) == metrics["held_out"]["accuracy"]["count"]


@pytest.mark.slow
def test_two_runs_give_the_same_numbers_and_another_seed_another_split(runs):
    (_, first, _), (_, again, _), (_, other, _) = runs
    assert first == again
    assert first["split"] != other["split"]


@pytest.mark.slow
def test_its_shortcuts_are_those_that_an_audit_finds_with_the_same_seed(
    runs, small, script, tmp_path
):
    audit = ("audit_dataset.py", "-d", small, "--seed", 1, "--json", "audit.json")
    done = script(*audit, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "audit.json").read_text())
    shortcuts = runs[0][1]["shortcuts"]
    assert len(shortcuts["baselines"]) >= 4
    for name in ("baselines", "findings", "advice", "images"):
        assert shortcuts[name] == found[name]


@pytest.mark.slow
def test_where_the_signal_is_is_printed_and_part_of_the_verdict(runs):
    stdout, found, _ = runs[0]
    where = found["shortcuts"]["regions"]
    for pool, name in REGION_NAMES.items():
        assert f"{name}: {where[pool]['value']:.4f}" in stdout
    assert where["lungs"] == found["cross_validation"]["auc"]
    exchanged = found["transplants"]["lungs"]
    assert f"untouched: {exchanged['untouched']['value']:.4f}" in stdout
    assert "With the same healthy lungs in every image the AUC" in found["shortcuts"]["verdict"]
    assert found["dice"] is None


@pytest.mark.long
@pytest.mark.slow
def test_a_model_of_the_lungs_alone_is_one_file_for_plain_keras(small, script, tmp_path):
    quick = ("--region", "lungs", "--repeats", 0)
    done = script("train_covid19.py", "-d", small, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_about(tmp_path)["region"] == "lungs"
    assert json.loads((tmp_path / "metrics.json").read_text())["cross_validation"] is None
    pixels = np.stack([read_image(path) for path in list_images(small / "covid")[:4]])
    model = keras.saving.load_model(tmp_path / "covid19.keras", safe_mode=True)
    ours = list(Predictor(tmp_path / "covid19.keras").predict(pixels))
    expected = np.stack([p.probabilities for p in ours])
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-5)
    for prediction in ours:
        assert prediction.scores.keys() == REGION_NAMES.keys()
        assert prediction.scores["lungs"] == prediction.probabilities[0]
        assert not prediction.heat[~prediction.lungs].any()


@pytest.mark.slow
def test_masks_that_came_with_the_images_are_held_against_the_lungs_found(script, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("covid", "normal"):
        made, masks = [], {}
        for i in range(3):
            drawn = draw_phantom(rng)
            row = ManifestRow(f"{i}.jpg", "drawn", str(i), f"{name}{i}", synthetic="yes")
            made.append((row, encode_jpeg(drawn.image)))
            masks[row.filename] = tmp_path / f"{name}-{i}.png"
            save_png(masks[row.filename], np.repeat(255 * drawn.lungs[..., None], 3, 2))
        fill_folder(tmp_path / "set" / name, made, masks=masks if name == "covid" else None)
    done = script("train_covid19.py", "-d", "set", "--repeats", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())["dice"]
    assert found["n"] == 3
    assert found["median"] > 0.85
    assert f"Dice {found['median']:.2f} (quartiles" in done.stdout


@pytest.fixture(scope="module")
def with_options(small, script, tmp_path_factory):
    """A run with more images of normal, a sensitivity to keep, and a report; the tutorial's head.

    Two of the images added are copies, at another size, of one that is in the data set.
    """
    folder = tmp_path_factory.mktemp("options")
    rows = sorted(read_manifest(ROOT / "dataset" / "normal").values(), key=lambda r: r.filename)
    added = [(r, ROOT / "dataset" / "normal" / r.filename) for r in rows[10:13]]
    for size in (150, 180):
        file = io.BytesIO()
        original = ROOT / "dataset" / "normal" / rows[0].filename
        Image.open(original).resize((size, size)).save(file, "JPEG")
        row = ManifestRow(
            f"copy-{size}.jpg", "elsewhere", str(size), f"copy-{size}", synthetic="yes"
        )
        added.append((row, file.getvalue()))
    fill_folder(folder / "own", added)
    chosen = ("--add", "normal=own", "--sensitivity", 0.9, "--recipe", "tutorial")
    outputs = ("--report", "report.html")
    done = script("train_covid19.py", "-d", small, *QUICK, *chosen, *outputs, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "metrics.json").read_text()), folder


def first_of(folder):
    """The name of the first image in a class folder."""
    return min(read_manifest(folder))


@pytest.mark.long
@pytest.mark.slow
def test_added_images_are_counted_and_their_copies_kept_on_one_side(with_options):
    done, metrics, folder = with_options
    assert "10 covid + 15 normal images" in done.stdout
    assert metrics["dataset"]["images"] == [10, 15]
    assert sum(len(names) for names in metrics["split"].values()) == 25
    assert metrics["dataset"]["copies_across_patients"] == 3
    assert "3 images are copies across patients" in done.stderr
    sides = [
        side
        for side, names in metrics["split"].items()
        for name in names
        if name.startswith("normal/copy-")
    ]
    (original,) = (
        side
        for side, names in metrics["split"].items()
        for name in names
        if name.endswith(first_of(ROOT / "dataset" / "normal"))
    )
    assert sides == [original] * 2
    names = [name for side in metrics["split"].values() for name in side]
    added = [f"normal/{path.name}" for path in list_images(folder / "own")]
    assert len(added) == 5
    assert set(added) < set(names)


@pytest.mark.long
@pytest.mark.slow
def test_the_tutorials_recipe_is_that_of_the_saved_model(with_options):
    _, _, folder = with_options
    assert read_about(folder)["recipe"] == "tutorial"


@pytest.mark.long
@pytest.mark.slow
def test_the_report_is_one_file_with_the_runs_numbers(with_options):
    done, metrics, folder = with_options
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert metrics["sentence"] in page.text
    auc = metrics["cross_validation"]["auc"]
    rows = {row[0]: row[1].strip() for row in page.table("Positive class: covid.")}
    shown = f"{auc['value']:.2f} ({auc['low']:.2f} to {auc['high']:.2f})"
    assert rows["cross-validated AUC"] == shown
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    (note,) = (row[1] for row in page.table("The whole set") if row[0].startswith("Copies"))
    assert note.startswith("3 images")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-d", "nowhere"), "no such folder"),
        (("-d", ROOT / "dataset", "--positive", "flu"), "--positive takes covid, normal"),
        (("-d", ROOT / "dataset", "--folds", "40"), "fewer than 40"),
        (("-d", ROOT / "dataset", "--epochs", "0"), "must be at least 1"),
        (("-d", ROOT / "dataset", "--test-size", "nan"), "must be more than 0"),
        (("-d", ROOT / "dataset", "-m", "model.h5"), "must end in .keras"),
        (("-d", ROOT / "dataset", "-p", "no/plot.png"), "no such folder"),
        (("-d", ROOT / "dataset", "--weights", "none.npz"), "no such file"),
        (("-d", ROOT / "dataset", "--recipe", "none"), "invalid choice"),
        (("-d", ROOT / "dataset", "--report", "no/report.html"), "no such folder"),
        (("-d", ROOT / "dataset", "--add", "normal"), "must be CLASS=DIR"),
        (("-d", ROOT / "dataset", "--add", "normal=nowhere"), "no such folder"),
        (("-d", ROOT / "dataset", "--add", f"flu={ROOT / 'dataset'}"), "no class flu to add to"),
        (("-d", ROOT / "dataset", "--sensitivity", "0.9", "--repeats", "0"), "--repeats 0"),
        (("-d", ROOT / "dataset", "--sensitivity", "1.5"), "less than 1"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(script, tmp_path, arguments, said):
    done = script("train_covid19.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_after_the_two_builders_no_drawing_is_left(script, real_data, tmp_path):
    shutil.copytree(ROOT / "dataset", tmp_path / "dataset")
    covid = real_data / "covid-chestxray-dataset"
    script("build_covid_dataset.py", "-c", covid, "-o", "dataset/covid", cwd=tmp_path)
    mixed = script("train_covid19.py", "-d", "dataset", cwd=tmp_path)
    assert mixed.returncode == 2
    assert "holds drawings" in mixed.stderr
    kaggle = real_data / "chest_xray"
    script("sample_kaggle_dataset.py", "-k", kaggle, "-o", "dataset/normal", cwd=tmp_path)
    for name in ("covid", "normal"):
        rows = read_manifest(tmp_path / "dataset" / name)
        present = {path.name for path in (tmp_path / "dataset" / name).iterdir()} - {"masks"}
        assert present == {*rows, "manifest.csv", "excluded.csv"}
        assert {row.synthetic for row in rows.values()} == {"no"}


def test_the_demo_set_says_that_it_is_drawn():
    for name in ("covid", "normal"):
        rows = list(read_manifest(ROOT / "dataset" / name).values())
        assert len(rows) == 25
        assert len({row.patient_id for row in rows}) < 25
        assert {row.synthetic for row in rows} == {"yes"}


def test_a_class_folder_with_other_files_is_not_touched_by_the_demo(script, tmp_path, picture):
    fill_folder(tmp_path / "covid", [(ManifestRow("a.png", "s", "a", "1"), picture(1))])
    (tmp_path / "covid" / "mine.txt").write_text("mine")
    done = script("make_demo_dataset.py", "-o", tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "normal").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_default_and_the_disclaimer(script, name):
    done = script(f"{name}.py", "--help")
    assert done.returncode == 0
    assert "default: " in done.stdout
    assert "not a medical device" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_it_with_130_and_leaves_nothing(tmp_path):
    command = [sys.executable, ROOT / "train_covid19.py", "-d", ROOT / "dataset"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A test run started in the background ignores SIGINT, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in process.stderr:
        if "loading VGG16" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def thumbnail_auc(paths, labels, groups):
    """Cross-validated AUC of logistic regression on 8x8 thumbnails, averaged over ten shuffles."""
    thumbnails = np.array([read_image(path, size=8)[..., 0].ravel() for path in paths])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    areas = []
    for seed in range(10):
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        score = cross_val_predict(
            model, thumbnails, labels, groups=groups, cv=folds, method="decision_function"
        )
        areas.append(roc_auc_score(labels, score))
    return np.mean(areas)


def test_a_thumbnail_does_not_tell_the_demo_sets_classes():
    data = load_dataset(ROOT / "dataset", b"salt")
    assert thumbnail_auc(data.paths, data.labels == 0, data.groups) <= 0.75


def test_the_demo_set_is_what_its_script_draws(script, tmp_path):
    assert script("make_demo_dataset.py", "-o", tmp_path).returncode == 0
    for name in ("covid", "normal"):
        committed, drawn = ROOT / "dataset" / name, tmp_path / name
        assert {p.name for p in committed.iterdir()} == {p.name for p in drawn.iterdir()}
        for path in drawn.glob("*.jpg"):
            # Not to the byte: another processor rounds some pixels another way.
            difference = np.abs(read_image(path).astype(float) - read_image(committed / path.name))
            assert difference.mean() < 1

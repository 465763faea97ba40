"""Every number of a run's outputs, against one computed here from the saved model alone.

The data set has what the demo set has not: three classes of unequal size, a positive class that
is not the first, several images of each patient, coloured pictures, and a seed of its own.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from pages import Page, areas, bins
from PIL import Image
from sklearn.metrics import confusion_matrix, roc_auc_score

from covidxray.data.class_folder import fill_folder
from covidxray.data.folders import list_images
from covidxray.data.images import read_image
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation.regions import REGION_NAMES
from covidxray.model.cache import Cache
from covidxray.model.predictor import Predictor

pytestmark = pytest.mark.slow

CLASSES = ("covid", "normal", "other")
POSITIVE = 1
SIZES = (6, 8, 4)
TINTS = np.array([(255, 40, 40), (160, 150, 60), (40, 60, 255)])  # RGB, of the three classes
TRAINING = ("--positive", "normal", "--seed", 7, "--epochs", 8, "--test-size", 0.4)


def coloured(label, number):
    """A picture of random patches in the tint of its class, as PNG."""
    rng = np.random.default_rng([label, number])
    patches = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    patches = np.asarray(patches.resize((96, 80), Image.Resampling.BICUBIC))
    mixed = (0.92 * patches + 0.08 * TINTS[label]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(mixed).save(file, "PNG")
    return file.getvalue()


def fill(root, numbers, **cells):
    """Class folders with the pictures of these numbers; two following numbers are a patient's."""
    for label, name in enumerate(CLASSES):
        drawn = []
        for i in numbers[label]:
            row = ManifestRow(f"{name[0]}{i:03d}.png", "tints", str(i), f"{name}-{i // 2}", **cells)
            drawn.append((row, coloured(label, i)))
        fill_folder(root / name, drawn)
    return root


def outputs_of(script, folder, *options):
    """Train in `folder`; its output and its metrics.json."""
    report = ("--report", "report.html", "-p", "plot.svg", "--cache", folder.parent / "kept")
    arguments = (*TRAINING, "--region", "whole", "--precision", "float32", *report, *options)
    done = script("train_covid19.py", "-d", "tints", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "metrics.json").read_text())
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    return done.stdout, found, page, folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


def beside(root, name):
    """A folder for a run, with the data set in it."""
    folder = root / name
    folder.mkdir()
    fill(folder / "tints", [range(n) for n in SIZES])
    return folder


@pytest.fixture(scope="module")
def run(root, script):
    """A run with cross-validation and a threshold from it."""
    options = ("--folds", 2, "--repeats", 2, "--sensitivity", 0.9)
    return outputs_of(script, beside(root, "run"), *options)


@pytest.fixture(scope="module")
def fitted_on_all(root, run, script):
    """The same run for a lower sensitivity, whose model is trained on every image."""
    options = ("--folds", 2, "--repeats", 2, "--sensitivity", 0.5, "--fit-all")
    return outputs_of(script, beside(root, "all"), *options)


def probabilities_of(folder, paths):
    """What plain Keras makes of images with a run's saved model, (N, 3)."""
    model = keras.saving.load_model(folder / "covid19.keras", safe_mode=True)
    pixels = np.stack([read_image(path) for path in paths])
    return np.asarray(model(pixels, training=False), float)


def label_of(name):
    """The label in "class/file"."""
    return CLASSES.index(name.split("/")[0])


def called_at(probabilities, threshold):
    """The positive class from the threshold on, else the likeliest of the others."""
    others = probabilities.copy()
    others[:, POSITIVE] = -1
    return np.where(probabilities[:, POSITIVE] >= threshold, POSITIVE, others.argmax(axis=1))


@pytest.fixture(scope="module")
def held_out(run):
    """Names of the held-out images, their labels, and the saved model's probabilities."""
    _, found, _, folder = run
    names = found["split"]["test"]
    paths = [folder / "tints" / name for name in names]
    return names, np.array([label_of(name) for name in names]), probabilities_of(folder, paths)


def about_of(folder):
    with zipfile.ZipFile(folder / "covid19.keras") as archive:
        return json.loads(archive.read("covidxray.json"))


def digests(folder, names):
    return [hashlib.sha256((folder / "tints" / name).read_bytes()).hexdigest() for name in names]


def in_brackets(estimate):
    """An estimate of the JSON as the report prints it."""
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def test_the_split_holds_every_image_once_and_parts_no_patient(run):
    _, found, _, folder = run
    train, test = found["split"]["train"], found["split"]["test"]
    everything = [f"{path.parent.name}/{path.name}" for path in folder.glob("tints/*/*.png")]
    assert sorted(train + test) == sorted(everything)
    patients = [{(n.split("/")[0], int(n[-7:-4]) // 2) for n in side} for side in (train, test)]
    assert not patients[0] & patients[1]
    for label, size in enumerate(SIZES):
        assert abs([label_of(name) for name in test].count(label) - 0.4 * size) <= 2  # a patient


def test_the_model_file_names_the_images_that_trained_it(run, fitted_on_all):
    _, found, _, folder = run
    assert about_of(folder)["trained_on"] == digests(folder, found["split"]["train"])
    _, found, _, folder = fitted_on_all
    everything = digests(folder, found["split"]["train"] + found["split"]["test"])
    assert sorted(about_of(folder)["trained_on"]) == sorted(everything)


def test_the_held_out_scores_are_those_of_the_saved_model(run, held_out):
    _, found, _, _ = run
    _, truth, probabilities = held_out
    called = called_at(probabilities, found["threshold"])
    scores = found["held_out"]
    assert scores["confusion"] == confusion_matrix(truth, called, labels=range(3)).tolist()
    positive = truth == POSITIVE
    counts = {
        "accuracy": ((truth == called).sum(), len(truth)),
        "sensitivity": ((called == POSITIVE)[positive].sum(), positive.sum()),
        "specificity": ((called != POSITIVE)[~positive].sum(), (~positive).sum()),
    }
    assert {k: (scores[k]["count"], scores[k]["total"]) for k in counts} == counts


def test_a_higher_sensitivity_to_keep_stores_a_lower_threshold(run, fitted_on_all):
    thresholds, specificities = [], []
    for stdout, found, _, folder in (run, fitted_on_all):
        threshold = found["threshold"]
        assert about_of(folder)["threshold"] == threshold
        assert f"\nstored threshold: {threshold:.4f}\n" in stdout
        thresholds.append(threshold)
        specificities.append(found["cross_validation"]["specificity"]["value"])
        kept = float(found["options"]["sensitivity"])
        assert found["cross_validation"]["sensitivity"]["value"] >= kept
    assert run[1]["cross_validation"]["auc"] == fitted_on_all[1]["cross_validation"]["auc"]
    assert 0 < thresholds[0] < thresholds[1] < 1
    assert 0 <= specificities[0] < specificities[1] <= 1


def test_the_printed_numbers_are_those_of_the_json(run):
    stdout, found, _, _ = run
    for line, estimate in (
        ("acc", found["held_out"]["accuracy"]),
        ("sensitivity", found["held_out"]["sensitivity"]),
        ("specificity", found["held_out"]["specificity"]),
        ("cv auc", found["cross_validation"]["auc"]),
        ("cv sensitivity", found["cross_validation"]["sensitivity"]),
        ("cv specificity", found["cross_validation"]["specificity"]),
        ("best shortcut auc", found["shortcuts"]["baselines"][0]["auc"]),
    ):
        assert re.search(rf"^{line}: {estimate['value']:.4f} ", stdout, re.MULTILINE), line


def test_the_reports_roc_curves_have_the_areas_of_the_positive_class(run, held_out):
    _, found, page, _ = run
    _, truth, probabilities = held_out
    of_the_run, of_the_regions = map(areas, page.described("ROC curves."))
    area = roc_auc_score(truth == POSITIVE, probabilities[:, POSITIVE])
    cross_validated = found["cross_validation"]["auc"]["value"]
    assert list(of_the_run) == ["2 x 2-fold cross-validation by patient", "held-out images"]
    assert list(of_the_run.values()) == pytest.approx([cross_validated, area], abs=0.006)
    expected = {REGION_NAMES[k]: found["shortcuts"]["regions"][k]["value"] for k in REGION_NAMES}
    assert of_the_regions == pytest.approx(expected, abs=0.006)


def test_the_reports_calibration_is_of_the_positive_class(run, held_out):
    _, _, page, _ = run
    _, truth, probabilities = held_out
    (alt,) = page.described("Calibration")
    score = probabilities[:, POSITIVE]
    expected = []
    for tenth in range(10):
        here = np.minimum((score * 10).astype(int), 9) == tenth
        if here.any():
            weights = (1 / np.bincount(truth))[truth[here]]  # each class has the same sum
            share = np.average(truth[here] == POSITIVE, weights=weights)
            expected.append((np.average(score[here], weights=weights), share, here.sum()))
    assert np.array(bins(alt, "held-out images")) == pytest.approx(np.array(expected), abs=0.006)
    of_the_repeats = np.array(bins(alt, "2 x 2-fold cross-validation by patient"))
    assert of_the_repeats[:, 2].sum() == pytest.approx(sum(SIZES), abs=0.3)


def test_the_reports_main_numbers_are_those_of_the_json(run):
    _, found, page, _ = run
    rows = {row[0]: row[1:] for row in page.table("Positive class: normal.")}
    expected = {"cross-validated AUC": found["cross_validation"]["auc"]}
    for start, scores in (
        ("cross-validated", found["cross_validation"]),
        ("held-out", found["held_out"]),
    ):
        for name in ("accuracy", "sensitivity", "specificity"):
            expected[f"{start} {name}"] = scores[name]
    best = found["shortcuts"]["baselines"][0]
    expected[f"Best shortcut, {best['name']}: AUC"] = best["auc"]
    assert {name: rows[name][0].strip() for name in expected} == {
        name: in_brackets(estimate) for name, estimate in expected.items()
    }
    held_out = found["held_out"]["accuracy"]
    assert rows["held-out accuracy"][1] == f"{held_out['count']} of {held_out['total']}"


def test_the_reports_tables_of_classes_have_the_truth_in_rows(run):
    _, found, page, _ = run
    matrix = np.array(found["held_out"]["confusion"])
    assert (matrix != matrix.T).any()
    rows = page.table("Confusion matrix")[1:]
    assert [row[0] for row in rows] == list(CLASSES)
    shown = [[int(cell.split(" ")[0]) for cell in row[1:]] for row in rows]
    assert shown == matrix.tolist()
    for label, row in enumerate(page.table("Classification report")[1:]):
        hits, called, true = matrix[label, label], matrix[:, label].sum(), matrix[label].sum()
        precision, recall = hits / max(called, 1), hits / true
        assert [float(x) for x in row[1:3]] == pytest.approx([precision, recall], abs=0.006)
        assert row[4] == str(true)


def test_the_gallery_shows_held_out_images_as_the_model_calls_them(run, held_out):
    _, found, page, _ = run
    names, truth, probabilities = held_out
    called = called_at(probabilities, found["threshold"])
    cases = page.cases()
    assert cases
    for name, alt, _, _ in cases:
        i = names.index(name)
        assert f"truth {CLASSES[truth[i]]}, classified as {CLASSES[called[i]]}, " in alt
        shown = float(re.search(r"probability of normal ([\d.]+\d)", alt).group(1))
        assert shown == pytest.approx(probabilities[i, POSITIVE], abs=0.006)
    right = [f"truth {c}, classified as {c}," in alt for c in CLASSES for _, alt, _, _ in cases]
    assert sum(right) == min(4, (called == truth).sum())
    assert len(cases) == sum(right) + min(4, (called != truth).sum())


def test_the_gallerys_pictures_have_the_colours_of_the_files(run):
    _, _, page, folder = run
    for name, _, shown, heat in page.cases():
        image = read_image(folder / "tints" / name).astype(float)
        assert np.abs(image - image[..., ::-1]).mean() > 15
        assert np.median(np.abs(shown - image)) < 12
        assert (heat != shown).any()


def test_a_model_of_every_image_has_no_unseen_image_to_show(fitted_on_all):
    _, _, page, _ = fitted_on_all
    assert page.cases() == []
    assert "Cases, right and wrong" not in page.text


def test_the_report_gives_the_size_of_each_class(run):
    _, _, page, _ = run
    rows = {row[0]: row[1:] for row in page.table("Images by class")}
    assert rows["What is known"] == list(CLASSES)
    assert rows["Images"] == [str(n) for n in SIZES]
    assert rows["Patients"] == [str(n // 2) for n in SIZES]


# A saved model on other images.


@pytest.fixture(scope="module")
def elsewhere(root):
    """New images of patients of the training set, and of others."""
    fill(root / "elsewhere", [range(101, 103), range(101, 107), range(101, 104)])
    known = {"normal": range(4), "other": range(2)}
    for name, patients in known.items():
        rows = []
        for i, patient in enumerate(patients):
            row = ManifestRow(f"again{i}.png", "tints", "", f"{name}-{patient}", sex="FM"[i % 2])
            rows.append((row, coloured(CLASSES.index(name), 200 + i)))
        for path in list_images(root / "elsewhere" / name):
            row = ManifestRow(path.name, "elsewhere", "", f"new-{path.stem}", sex="F", age="50")
            rows.append((row, path.read_bytes()))
        fill_folder(root / "elsewhere" / name, rows)
    return root / "elsewhere"


@pytest.fixture(scope="module")
def evaluated(run, elsewhere, script):
    """The output, the JSON and the page of two evaluations, with the seeds 7 and 8."""
    folder, found = run[3], []
    for seed in (7, 8):
        files = ("--json", f"e{seed}.json", "--report", f"e{seed}.html", "--cache", "kept")
        inputs = ("-m", "covid19.keras", "--precision", "float32", "-d", elsewhere, "--seed", seed)
        done = script("evaluate_covid19.py", *inputs, *files, cwd=folder)
        assert done.returncode == 0, done.stderr
        page = Page((folder / f"e{seed}.html").read_text(encoding="utf-8"))
        found.append((done.stdout, json.loads((folder / f"e{seed}.json").read_text()), page))
    return found


@pytest.fixture(scope="module")
def predictions(run, elsewhere, evaluated):
    """The images of `elsewhere`, their labels, and what the saved model predicts of each."""
    paths = [path for name in CLASSES for path in list_images(elsewhere / name)]
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    classifier = Predictor(run[3] / "covid19.keras", Cache(run[3] / "kept"))
    predictions = list(classifier.predict_files(paths))
    return paths, labels, np.stack([p.probabilities for p in predictions])


def test_an_evaluation_scores_what_the_saved_model_says(evaluated, predictions, run):
    _, labels, probabilities = predictions
    positive, score = labels == POSITIVE, probabilities[:, POSITIVE]
    called = called_at(probabilities, run[1]["threshold"])
    for stdout, found, _ in evaluated:
        assert found["auc"]["value"] == pytest.approx(roc_auc_score(positive, score), abs=1e-4)
        weights = (1 / np.bincount(labels))[labels]  # each class has the same sum
        brier = np.average(np.square(score - positive), weights=weights)
        assert found["calibration"]["brier"]["value"] == pytest.approx(brier, abs=1e-5)
        scores = found["evaluation"]
        assert scores["confusion"] == confusion_matrix(labels, called, labels=range(3)).tolist()
        wrong = (called == POSITIVE)[~positive]
        rate = found["false_positive_rate"]
        assert (rate["count"], rate["total"]) == (wrong.sum(), len(wrong))
        assert f"acc: {(called == labels).mean():.4f} " in stdout


def test_an_evaluations_seed_decides_the_resampled_intervals_and_the_shortcuts(evaluated, run):
    (_, seven, _), (_, eight, _) = evaluated
    assert seven["auc"] == eight["auc"]
    assert seven["calibration"]["brier"] != eight["calibration"]["brier"]
    assert seven["shortcuts"]["baselines"] != eight["shortcuts"]["baselines"]


def test_patients_trained_on_are_a_subgroup_though_their_images_are_new(evaluated, run, elsewhere):
    split = run[1]["split"]["train"]
    trained = {f"{name.split('/')[0]}-{int(name[-7:-4]) // 2}" for name in split}
    known = {name: [f"{name}-{i}" for i in range(n)] for name, n in (("normal", 4), ("other", 2))}
    counts = {name: sum(p in trained for p in patients) for name, patients in known.items()}
    n, total = sum(counts.values()), len(list(elsewhere.glob("*/*.png")))
    assert 0 < n < 6
    stdout, found, _ = evaluated[0]
    assert f"TRAINED ON: 0 of these images were trained on, and {n} more" in stdout
    assert found["trained_on"] == {"images": 0, "of_patients": n}
    parts = {s["value"]: s for s in found["subgroups"] if s["kind"] == "trained on"}
    assert {value: part["n"] for value, part in parts.items()} == {"yes": n, "no": total - n}
    assert parts["yes"]["positives"] == counts["normal"]


def test_the_reports_subgroups_are_those_of_the_json(evaluated):
    _, found, page = evaluated[0]
    rows = page.table("Value and 95 % interval")
    assert rows[0] == ["Group", "Images", "Positive", "Sensitivity", "Specificity", "AUC"]
    assert len(rows) == 1 + len(found["subgroups"]) > 5
    for row, part in zip(rows[1:], found["subgroups"], strict=True):
        scores = [part[name] for name in ("sensitivity", "specificity", "auc")]
        assert row[:3] == [
            f"{part['kind']}: {part['value']}",
            str(part["n"]),
            str(part["positives"]),
        ]
        shown = [in_brackets(score) if score else "no value" for score in scores]
        assert [cell.strip() for cell in row[3:]] == shown


def test_an_evaluations_curves_are_of_the_positive_class(evaluated):
    for _, found, page in evaluated:
        whole, regions = map(areas, page.described("ROC curves."))
        assert whole == pytest.approx({"this data set": found["auc"]["value"]}, abs=0.006)
        expected = {REGION_NAMES[k]: found["regions"][k]["value"] for k in REGION_NAMES}
        assert regions == pytest.approx(expected, abs=0.006)
        tenths = found["calibration"]["bins"]
        counts = [tenth["count"] for tenth in tenths]
        (alt,) = page.described("Calibration")
        shown = np.array(bins(alt, "this data set"))
        assert shown[:, 2].tolist() == [n for n in counts if n]
        positives = sum(b["count"] * b["observed"] for b in tenths)
        assert shown[:, 1] @ shown[:, 2] == pytest.approx(positives, abs=0.1)


def test_a_table_of_predictions_gives_the_positive_class_and_the_call(run, predictions, script):
    paths, _, probabilities = predictions
    _, found, _, folder = run
    chosen = [*paths[:3], *paths[-3:]]
    done = script(
        *(
            "predict_covid19.py",
            "--precision=float32",
            "-m",
            "covid19.keras",
            *chosen,
            "--csv",
            "p.csv",
            "--cache",
            "kept",
        ),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    with (folder / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keep = [0, 1, 2, -3, -2, -1]
    called = called_at(probabilities[keep], found["threshold"])
    assert [Path(row["image"]) for row in rows] == chosen
    assert [row["class"] for row in rows] == [CLASSES[label] for label in called]
    shown = [float(row["probability"]) for row in rows]
    assert shown == pytest.approx(probabilities[keep, POSITIVE], abs=1e-4)

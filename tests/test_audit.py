"""Tests of the audit: planted shortcuts are named, and clean data sets raise no alarm."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from planted import draw_phantom, encode_jpeg
from sklearn.linear_model import LogisticRegression

from covidxray.audit import audit as audit_module
from covidxray.audit.audit import run_audit
from covidxray.audit.baselines import fit_baselines, fit_logistic
from covidxray.data.class_folder import fill_folder
from covidxray.data.images import read_with_statistics
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError
from covidxray.evaluation.permutation import exchange_patients
from covidxray.report.results import audit_results
from covidxray.report.sentences import audit_advice, audit_verdict
from covidxray.report.text import format_audit


def draw(n, seed, shortcut=None):
    """`n` healthy drawings as JPEG bytes."""
    rng = np.random.default_rng(seed)
    on_picture, in_file = (None, "jpeg") if shortcut == "jpeg" else (shortcut, None)
    pictures = (draw_phantom(rng, shortcut=on_picture).image for _ in range(n))
    return [encode_jpeg(picture, shortcut=in_file) for picture in pictures]


def fill(root, images, **changes):
    """Fill class folders from class name -> bytes; every image is a patient of its own."""
    for name, pictures in images.items():
        rows = []
        for i in range(len(pictures)):
            row = ManifestRow(f"{i}.jpg", "drawn", f"{name}/{i}", f"{name}-{i}")
            rows.append(replace(row, **changes.get(name, {})))
        fill_folder(root / name, zip(rows, pictures, strict=True))
    return root


def load(root):
    """A data set, and the statistics of its images."""
    data = load_dataset(root, b"salt")
    return data, [read_with_statistics(path)[1] for path in data.paths]


def audit_folder(root, seed=0):
    data, image_statistics = load(root)
    return run_audit(
        data, image_statistics, data.classes.index("covid"), np.random.default_rng(seed)
    )


@pytest.fixture(scope="module")
def clean():
    """60 drawings of healthy people, without a shortcut."""
    return draw(60, 1)


@pytest.mark.parametrize(
    ("shortcut", "name"),
    [
        ("marker", "thumbnail"),
        ("border", "frame"),
        ("brightness", "histogram"),
        ("jpeg", "file"),
    ],
)
def test_a_planted_shortcut_is_named(clean, tmp_path, shortcut, name):
    images = {"covid": draw(25, 2, shortcut), "normal": clean[:25]}
    result = audit_folder(fill(tmp_path, images))
    assert result.alarm
    assert result.best.name == name
    assert result.best.auc.value > 0.95
    assert 0.5 < result.best.auc.low < result.best.auc.high <= 1
    assert "without looking at a lung" in audit_verdict(result)


@pytest.mark.parametrize("sets", [7, pytest.param(20, marks=pytest.mark.release)])
def test_clean_sets_raise_no_alarm(clean, tmp_path, sets):
    """Clean: healthy drawings in both classes, so that nothing at all tells them apart.

    Each of the sets is another 25 + 25 of the same 60. (Drawings with lesions as in the demo
    set are not clean in this sense: a thumbnail sees the larger lesions.)
    """
    data, image_statistics = load(fill(tmp_path, {"covid": clean[:30], "normal": clean[30:]}))
    rng = np.random.default_rng(3)
    results = []
    for _ in range(sets):
        chosen = rng.permutation(60)[:50]
        subset = replace(
            data,
            paths=[data.paths[i] for i in chosen],
            rows=[data.rows[i] for i in chosen],
            labels=np.arange(50) // 25,
            groups=data.groups[chosen],
        )
        results.append(run_audit(subset, [image_statistics[i] for i in chosen], 0, rng))
    assert sum(result.alarm for result in results) <= 1
    quiet = next(result for result in results if not result.alarm)
    assert "no proof" in audit_verdict(quiet)
    assert audit_advice(quiet) == ""


def test_differences_between_patients_are_no_evidence_about_the_label():
    """Ten patients, ten like images each: 100 images counted one by one would raise alarms."""
    alarms = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(10), 10)
        x = rng.standard_normal((10, 3))[groups] + 0.01 * rng.standard_normal((100, 3))
        result = fit_baselines({"frame": x.astype(np.float32)}, groups % 2 == 0, groups, rng)
        alarms += result[0].p_value <= audit_module.LEVEL
    assert alarms <= 1


def test_the_interval_depends_on_the_number_of_patients_not_of_images():
    rng = np.random.default_rng(0)
    y_true = np.arange(40) % 2 == 0
    x = (rng.standard_normal((40, 1)) + y_true[:, None]).astype(np.float32)
    widths = []
    for copies in (1, 8):
        five = np.repeat(np.arange(40), copies)
        auc = fit_baselines({"frame": x[five]}, y_true[five], five, np.random.default_rng(1))[0].auc
        widths.append(auc.high - auc.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.25)


def test_the_batched_fit_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 10)).astype(np.float32)
    labels = (x[:, 0] + rng.standard_normal((2, 60))) > 0.7
    train = rng.random((2, 60)) < 0.8
    for weights, y, chosen in zip(fit_logistic(x, labels, train), labels, train, strict=True):
        model = LogisticRegression(class_weight="balanced", tol=1e-8).fit(x[chosen], y[chosen])
        expected = np.append(model.coef_, model.intercept_)
        assert weights == pytest.approx(expected, abs=0.01)


def test_a_patient_receives_the_labels_of_exactly_one_other_patient():
    groups = np.array([0, 1, 1, 1, 2, 2, 3])
    for seed in range(20):
        taken = exchange_patients(groups, np.random.default_rng(seed))
        givers = [set(groups[taken[groups == group]]) for group in range(4)]
        assert sorted(giver for (giver,) in givers) == [0, 1, 2, 3]
        # Who gets as many labels as there are gets each of them once.
        assert len(set(taken[groups == 2])) == min(2, (groups == givers[2].pop()).sum())


def test_the_manifest_is_a_baseline_that_ignores_the_finding(clean, tmp_path):
    images = {"covid": clean[:25], "normal": clean[25:50]}
    same = {"source": "drawn", "license": "MIT", "finding": "x"}
    changes = {"covid": {**same, "age": "60"}, "normal": {"age": "7", "sex": "M", "finding": "y"}}
    result = audit_folder(fill(tmp_path, images, **changes))
    assert result.best.name == "manifest"
    assert "agree in view, age and sex" in audit_advice(result)
    shutil.rmtree(tmp_path / "covid")
    shutil.rmtree(tmp_path / "normal")
    result = audit_folder(fill(tmp_path, images, covid=same, normal={"finding": "y"}))
    assert "manifest" not in [baseline.name for baseline in result.baselines]


def test_copies_and_sources_are_found(picture, tmp_path):
    pictures = {
        "covid": {"a": picture(0), "again": picture(0), "b": picture(1), "c": picture(2)},
        "normal": {"d": picture(3), "e": picture(4), "small": picture(1, size=(48, 48))},
    }
    patients = {"a": "1", "again": "1"}
    for name, source in (("covid", "here"), ("normal", "there")):
        rows = [ManifestRow(f"{i}.png", source, "", patients.get(i, i)) for i in pictures[name]]
        fill_folder(tmp_path / name, zip(rows, pictures[name].values(), strict=True))
    found = audit_folder(tmp_path).findings
    assert (found.copies, found.exact, found.across_classes, found.across_patients) == (2, 1, 1, 1)
    assert (found.listed[0].first, found.listed[0].second) == ("covid/b.png", "normal/small.png")
    assert found.apart == ("normal",)
    assert found.shared_patients == 0


def test_a_patient_of_both_classes_is_counted(clean, tmp_path):
    for name, start in (("covid", 0), ("normal", 5)):
        rows = [ManifestRow(f"{i}.jpg", "drawn", "", f"{i % 5 and name}-{i % 5}") for i in range(5)]
        fill_folder(tmp_path / name, zip(rows, clean[start : start + 5], strict=True))
    assert audit_folder(tmp_path).findings.shared_patients == 1


@pytest.mark.parametrize(
    ("folder", "count"), [("Normal_adults", 1), ("no-finding", 1), ("abnormal", 0), ("other", 0)]
)
def test_only_normal_classes_are_searched_for_pneumonia(clean, tmp_path, folder, count):
    fill(tmp_path, {"covid": clean[:2]})
    rows = [
        ManifestRow("person1_virus_6.jpeg", "k", "", "1"),
        ManifestRow("IM-1.jpeg", "k", "", "2"),
    ]
    fill_folder(tmp_path / folder, zip(rows, clean[2:4], strict=True))
    assert len(audit_folder(tmp_path).findings.pneumonia) == count


def test_every_class_needs_two_patients(clean, tmp_path):
    assert (
        audit_folder(fill(tmp_path / "two", {"covid": clean[:2], "normal": clean[2:4]})).folds == 2
    )
    with pytest.raises(InputError, match="class covid has 1 patients"):
        audit_folder(fill(tmp_path / "one", {"covid": clean[:1], "normal": clean[2:4]}))


def test_of_a_large_class_500_images_are_drawn_and_of_a_small_one_all(clean, tmp_path):
    data, image_statistics = load(fill(tmp_path, {"covid": clean[:30], "normal": clean[30:36]}))
    rng = np.random.default_rng(0)
    many = np.array([*rng.integers(30, size=520), *range(30, 36)])
    codes = rng.integers(2**63, size=(526, 4)).astype(np.uint64)  # no two are copies
    large = replace(
        data,
        paths=[data.paths[i] for i in many],
        rows=[data.rows[i] for i in many],
        labels=data.labels[many],
        groups=np.arange(526),
    )
    seen = [replace(image_statistics[i], hash=code) for i, code in zip(many, codes, strict=True)]
    assert run_audit(large, seen, 0, np.random.default_rng(0)).images == 506


def test_the_text_fits_80_columns_and_the_json_holds_all_results(clean, tmp_path):
    name = "normal-from-a-source-with-quite-a-long-name"
    images = {"covid": clean[:5] + draw(3, 4, "border"), name: clean[3:8]}
    result = audit_folder(fill(tmp_path, images, **{name: {"source": "s" * 30}}))
    assert max(map(len, format_audit(result).splitlines())) <= 80
    again = json.loads(json.dumps(audit_results(result)))
    assert again["verdict"] == audit_verdict(result)
    assert again["advice"] == audit_advice(result)
    assert again["findings"]["copies"] == 2
    assert [b["name"] for b in again["baselines"]] == [b.name for b in result.baselines]


def test_the_file_header_gives_format_depth_and_quality(tmp_path, real_data):
    noise = np.random.default_rng(0).integers(0, 256, (40, 80), dtype=np.uint8)
    for quality in (30, 75, 95):
        Image.fromarray(noise).save(tmp_path / "a.jpg", quality=quality)
        facts = read_with_statistics(tmp_path / "a.jpg")[1].file
        assert facts["JPEG quality"] == pytest.approx(quality, abs=1)
    Image.fromarray(noise.astype(np.uint16)).save(tmp_path / "a.png")
    facts = read_with_statistics(tmp_path / "a.png")[1].file
    assert (facts["format"], facts["bits"], facts["channels"]) == ("PNG", 16, 1)
    assert (facts["JPEG quality"], facts["aspect"]) == (0, 1)
    pytest.importorskip("pydicom")
    for path in (real_data / "dicom").iterdir():
        facts = read_with_statistics(path)[1].file
        assert facts["format"].startswith("DICOM 1.2.840.10008.1.2")
        assert facts["bits"] in range(8, 17)


def test_the_tutorials_own_data_set_raises_an_alarm(real_data, script, tmp_path):
    table = real_data / "metadata-history" / "2020-03-11-1edfb79.csv"
    covid = ("-c", real_data / "covid-chestxray-dataset", "--metadata", table)
    script("build_covid_dataset.py", *covid, "-o", tmp_path / "set" / "covid")
    shutil.copytree(real_data / "tutorial-normal", tmp_path / "set" / "normal")
    options = ("-d", "set", "--json", "a.json", "--fail-on-shortcut")
    done = script("audit_dataset.py", *options, cwd=tmp_path)
    assert done.returncode == 3
    assert "--controls dataset/controls" in done.stdout
    assert "18 images of a normal class are pneumonia" in done.stdout
    result = json.loads((tmp_path / "a.json").read_text())
    areas = {b["name"]: b["auc"]["value"] for b in result["baselines"] if b["p_value"] <= 0.01}
    assert min(areas["thumbnail"], areas["frame"], areas["file"]) > 0.95
    assert result["findings"]["apart"] == ["normal"]


@pytest.mark.long
def test_controls_of_the_same_source_are_far_harder_to_tell_apart(real_data, script, tmp_path):
    folders = ("-o", tmp_path / "set" / "covid", "--controls", tmp_path / "set" / "controls")
    source = ("-c", real_data / "covid-chestxray-dataset", "--limit", 60)
    script("build_covid_dataset.py", *source, *folders)
    result = audit_folder(tmp_path / "set")
    areas = {baseline.name: baseline.auc.value for baseline in result.baselines}
    assert areas["thumbnail"] < 0.75
    assert areas["frame"] < 0.75
    assert result.findings.apart == ()
    assert result.findings.pneumonia == ()


def test_the_script_needs_no_keras_and_repeats_itself(tmp_path):
    told = (
        "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__');"
        "sys.exit(4 if {'keras', 'tensorflow'} & set(sys.modules) else 0)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "nonsense", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", told, ROOT / "audit_dataset.py", "-d", ROOT / "dataset"]
    outputs = []
    for name in ("1.json", "2.json"):
        done = subprocess.run(
            [*command, "--json", name], cwd=tmp_path, env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        outputs.append((tmp_path / name).read_text())
    assert outputs[0] == outputs[1]


def test_help_names_the_defaults_and_the_disclaimer(script):
    done = script("audit_dataset.py", "--help")
    assert done.returncode == 0
    assert "default: 42" in done.stdout
    assert "not a medical device" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-d", "nowhere"), "no such folder"),
        (("-d", ROOT / "dataset", "--positive", "flu"), "--positive takes covid, normal"),
        (("-d", ROOT / "dataset", "--json", "no/a.json"), "no such folder"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(script, tmp_path, arguments, said):
    done = script("audit_dataset.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# Exit codes and options of the script, on sets whose answer is known.


@pytest.fixture(scope="module")
def planted(clean, tmp_path_factory):
    """Drawings of which the bright ones are the class "other", 15 of 25; none other differs."""
    images = {"covid": clean[:8], "normal": clean[8:10], "other": draw(15, 5, "brightness")}
    return fill(tmp_path_factory.mktemp("planted"), images)


@pytest.fixture(scope="module")
def harmless(clean, tmp_path_factory):
    images = {"covid": clean[:14], "normal": clean[14:22]}
    return fill(tmp_path_factory.mktemp("harmless"), images)


def test_only_an_alarm_makes_the_option_fail_on_shortcut_fail(planted, harmless, script, tmp_path):
    codes, alarms = [], []
    for root, positive in ((planted, "other"), (harmless, "covid")):
        for more in ((), ("--fail-on-shortcut",)):
            arguments = ("-d", root, "--positive", positive, "--json", tmp_path / "a.json", *more)
            done = script("audit_dataset.py", *arguments)
            codes.append(done.returncode)
            alarms.append(json.loads((tmp_path / "a.json").read_text())["alarm"])
            assert "not a medical device" in done.stdout
    assert alarms == [True, True, False, False]
    assert codes == [0, 3, 0, 0]


def test_the_audit_is_of_the_positive_class_that_was_asked_for(planted, script, tmp_path):
    found = {}
    for positive in ("other", "normal"):
        arguments = ("-d", planted, "--positive", positive, "--json", tmp_path / "a.json")
        done = script("audit_dataset.py", *arguments)
        assert done.returncode == 0, done.stderr
        assert f"{positive} against the rest, 25 images" in " ".join(done.stdout.split())
        found[positive] = json.loads((tmp_path / "a.json").read_text())
    assert [found[name]["positive"] for name in found] == ["other", "normal"]
    areas = [{b["name"]: b["auc"]["value"] for b in f["baselines"]} for f in found.values()]
    assert areas[0]["histogram"] > 0.95 > areas[1]["histogram"]
    assert found["other"]["alarm"] and not found["normal"]["alarm"]


def test_the_audits_seed_decides_its_folds_and_is_written_down(harmless, script, tmp_path):
    found = []
    for seed in (1, 1, 2):
        arguments = ("-d", harmless, "--seed", seed, "--json", tmp_path / "a.json")
        assert script("audit_dataset.py", *arguments).returncode == 0
        found.append(json.loads((tmp_path / "a.json").read_text()))
    assert found[0] == found[1]
    assert found[0]["baselines"] != found[2]["baselines"]
    assert [one["seed"] for one in found] == [1, 1, 2]


def test_the_printed_audit_is_that_of_the_json(planted, script, tmp_path):
    arguments = ("-d", planted, "--positive", "other", "--json", tmp_path / "a.json")
    done = script("audit_dataset.py", *arguments)
    found = json.loads((tmp_path / "a.json").read_text())
    for baseline in found["baselines"]:
        auc = baseline["auc"]
        (line,) = [x for x in done.stdout.splitlines() if x.startswith(f"{baseline['name']} ")]
        assert f"{auc['value']:.2f}   {auc['low']:.2f} to {auc['high']:.2f}" in line
        assert f"{baseline['p_value']:.3f}" in line
        assert line.endswith(" *") is (baseline["p_value"] <= found["level"])
    data = load_dataset(planted, b"salt")
    assert found["dataset"]["classes"] == ["covid", "normal", "other"]
    assert found["dataset"]["sha256"] == data.sha256
    assert found["images"] == len(data) == 25

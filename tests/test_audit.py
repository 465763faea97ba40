"""An audit names the shortcut that was planted, and is silent where there is none."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from covidxray.audit import audit
from covidxray.clues import measure
from covidxray.dataset import load_dataset
from covidxray.images import read_image
from covidxray.phantom import DEMO_SEVERITY, SHORTCUTS, draw_phantom, encode_jpeg


def draw(folder, seed, *, shortcut=None, lesions=False, n=25):
    """25 + 25 drawings; the shortcut is planted in covid alone."""
    rng = np.random.default_rng(seed)
    for name in ("covid", "normal"):
        (folder / name).mkdir(parents=True)
        planted = shortcut if name == "covid" else None
        for i in range(n):
            severity = rng.uniform(*DEMO_SEVERITY) if lesions and name == "covid" else 0.0
            picture = draw_phantom(rng, severity=severity, shortcut=planted)
            path = folder / name / f"{i}.jpg"
            path.write_bytes(encode_jpeg(picture.image, shortcut=planted))
    return folder


def run_audit(folder, seed=0):
    data = load_dataset(folder, b"salt")
    clues = [measure(path, read_image(path)) for path in data.paths]
    return audit(data, clues, data.index("covid"), np.random.default_rng(seed))


NAMED = {
    "marker": {"frame", "thumbnail"},
    "border": {"frame"},
    "brightness": {"histogram", "frame"},
    "jpeg": {"file"},
}


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_planted_shortcut_is_named(tmp_path, shortcut):
    found = run_audit(draw(tmp_path, seed=1, shortcut=shortcut, lesions=True))
    assert found.alarm
    assert found.best.name in NAMED[shortcut]
    assert found.best.auc.low > 0.8


def test_of_twenty_clean_sets_at_most_one_raises_an_alarm(tmp_path):
    alarms = [run_audit(draw(tmp_path / str(i), seed=100 + i)).alarm for i in range(20)]
    assert sum(alarms) <= 1


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("tutorial")
    clone = real_data / "covid-chestxray-dataset"
    table = real_data / "metadata-history" / "2020-03-11-1edfb79.csv"
    command = [sys.executable, ROOT / "build_covid_dataset.py", "--covid", clone]
    command += ["--output", folder / "covid", "--metadata", table]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copytree(real_data / "tutorial-normal", folder / "normal")
    return folder


def test_the_tutorials_own_images_alarm_and_18_normals_are_pneumonia(tutorial):
    found = run_audit(tutorial)
    assert found.alarm
    assert found.best.auc.value > 0.98
    assert {b.name: b.auc.value for b in found.baselines}["thumbnail"] > 0.95
    assert len(found.findings.pneumonia) == 18
    assert found.findings.apart == ("normal",)
    assert "--controls" in found.advice


@pytest.fixture(scope="module")
def controls(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("controls")
    clone = real_data / "covid-chestxray-dataset"
    command = [sys.executable, ROOT / "build_covid_dataset.py", "--covid", clone]
    command += ["--output", folder / "covid", "--controls", folder / "controls"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_same_source_controls_leave_the_thumbnail_little_to_read(controls):
    found = run_audit(controls)
    assert {b.name: b.auc.value for b in found.baselines}["thumbnail"] < 0.8
    assert found.findings.apart == ()


def test_copies_are_counted_within_and_across_classes(tmp_path):
    folder = draw(tmp_path, seed=3, n=6)
    shutil.copy(folder / "covid" / "0.jpg", folder / "covid" / "again.jpg")
    shutil.copy(folder / "covid" / "1.jpg", folder / "normal" / "other.jpg")
    findings = run_audit(folder).findings
    assert (findings.copies, findings.exact, findings.across_classes) == (2, 2, 1)


def test_one_seed_gives_one_result(tmp_path):
    folder = draw(tmp_path, seed=4, n=8)
    assert run_audit(folder) == run_audit(folder)


def test_the_script_writes_json_and_fails_on_request_without_keras(tmp_path):
    folder = draw(tmp_path / "set", seed=5, shortcut="border", n=12)
    out = tmp_path / "audit.json"
    command = [sys.executable, ROOT / "audit_dataset.py", "-d", folder, "--json", out]
    broken = os.environ | {"KERAS_BACKEND": "nonsense"}  # importing Keras would stop it
    done = subprocess.run(
        [*command, "--fail-on-shortcut"], capture_output=True, text=True, env=broken, check=False
    )
    assert done.returncode == 3, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    found = json.loads(out.read_text())
    assert found["alarm"] and found["baselines"][0]["name"] == "frame"

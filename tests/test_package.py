"""The package `covidxray`, built and installed elsewhere, does all that it does in the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from covidxray.data.source import known_sources


@pytest.mark.long
def test_an_installed_wheel_trains_on_the_demo_set_and_writes_a_report(tmp_path):
    source, wheels, scripts = tmp_path / "source", tmp_path / "wheels", tmp_path / "scripts"
    shutil.copytree(ROOT / "covidxray", source / "covidxray")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, source]
    subprocess.run(build, check=True)
    (wheel,) = wheels.iterdir()
    members = zipfile.ZipFile(wheel).namelist()
    assert {"covidxray/model/lungs.npz", "covidxray/report/report.html.j2"} <= set(members)
    assert "covidxray/model/pip_shim/setuptools/build_meta.py" in members
    assert {f"covidxray/data/sources/{name}.toml" for name in known_sources()} <= set(members)
    install = [*pip, "install", "-q", "--no-deps", "--no-index", "--target", tmp_path / "site"]
    subprocess.run([*install, wheel], check=True)

    scripts.mkdir()
    shutil.copy(ROOT / "train_covid19.py", scripts)
    command = [sys.executable, scripts / "train_covid19.py", "--dataset", ROOT / "dataset"]
    command += ["--folds", "2", "--repeats", "1", "--report", "report.html"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cv auc:" in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 100_000

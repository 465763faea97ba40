"""Shared real data, and small images made on the spot."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real X-rays beside the project; tests that need it skip without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real X-rays beside the project (../shared/data)")
    return folder


@pytest.fixture
def picture():
    """A function from a number to a picture's bytes; another number, another picture."""

    def make(number, kind="PNG", size=(64, 64)):
        rng = np.random.default_rng(number)
        noise = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, kind)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def script():
    """A function that runs one of the project's scripts and returns the finished process."""

    def run(name, *arguments, cwd=None):
        command = [sys.executable, str(ROOT / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)

    return run


@pytest.fixture(scope="session")
def trained(script, tmp_path_factory):
    """A model file trained on 6 + 6 drawings, and their folder; its other outputs lie beside it."""
    folder = tmp_path_factory.mktemp("trained")
    assert script("make_demo_dataset.py", "-s", 6, "-o", folder / "drawings").returncode == 0
    quick = ("--folds", 2, "--repeats", 1, "--precision", "float32", "--report", "report.html")
    done = script("train_covid19.py", "-d", "drawings", *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "output.txt").write_text(done.stdout)
    return folder / "covid19.keras", folder / "drawings"

"""Shared real data, and small images made on the spot."""

import io
import logging
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of the workers, before they import NumPy
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: a thread of TensorFlow each
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# How long one example takes says how busy the machine is, not whether the code is right.
settings.register_profile("covidxray", deadline=None)
settings.load_profile("covidxray")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real X-rays beside the project; tests that need it skip without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real X-rays beside the project (../shared/data)")
    return folder


@pytest.fixture
def caplog(caplog, monkeypatch):
    """pytest's fixture, which hears the package's log even after a script has run here."""
    monkeypatch.setattr(logging.getLogger("covidxray"), "propagate", True)
    caplog.set_level("INFO", "covidxray")
    return caplog


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
    """A function that runs one of the project's scripts as a person would, and returns its exit
    code and output; in this process, because starting TensorFlow takes longer than most runs."""

    def run(name, *arguments, cwd=None):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        code = 0
        before, folder = sys.argv, os.getcwd()
        sys.argv = [str(ROOT / name), *map(str, arguments)]
        os.chdir(cwd or folder)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.argv = before
            os.chdir(folder)
        texts = [(stream.flush(), stream.buffer.getvalue().decode())[1] for stream in (out, err)]
        return SimpleNamespace(returncode=code, stdout=texts[0], stderr=texts[1])

    return run


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of its own, and a function that fills that disk to the last byte."""
    folder = tmp_path / "full"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a disk of its own cannot be mounted here")

    def fill():
        with open(folder / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))

    yield folder, fill
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def trained(script, tmp_path_factory):
    """A model file trained on 6 + 6 drawings, and their folder; its other outputs lie beside it."""
    folder = tmp_path_factory.mktemp("trained")
    assert script("make_demo_dataset.py", "-s", 6, "-o", folder / "drawings").returncode == 0
    quick = (
        "--folds",
        2,
        "--repeats",
        1,
        "--precision",
        "float32",
        "--report",
        "report.html",
        "--plots",
        "plots",
    )
    done = script("train_covid19.py", "-d", "drawings", *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "output.txt").write_text(done.stdout)
    return folder / "covid19.keras", folder / "drawings"

"""The engine that was asked for, or one line on how to get it; data sets in other storage."""

import sys
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from covidxray import cli
from covidxray.data.images import read_image
from covidxray.data.loading import load_dataset
from covidxray.errors import InputError
from covidxray.pipeline.engines import open_engine


def test_without_ray_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install -r requirements-cluster\.txt"):
        open_engine("ray", None, [])


def test_an_address_that_does_not_answer_is_named():
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(InputError, match="--ray-address nowhere: no Ray answers; start one"):
        open_engine("ray", "nowhere", [])


def test_options_of_the_ray_engine_are_refused_without_it():
    with pytest.raises(InputError, match="--ray-address: works with --engine ray only"):
        open_engine("local", "auto", [])
    with pytest.raises(InputError, match="--features: works with --engine ray only"):
        open_engine("local", None, [], Path("features"))


def test_a_uri_needs_a_package_and_the_ray_engine(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "upath", None)
        with pytest.raises(ArgumentTypeError, match=r"requirements-cluster\.txt"):
            cli.any_path("s3://bucket/dataset")
    pytest.importorskip("upath", reason="universal-pathlib is not installed")
    with pytest.raises(InputError, match="memory://a: is read with --engine ray only"):
        open_engine("local", None, [cli.any_path("memory://a")])
    with pytest.raises(ArgumentTypeError, match="memory://none: no such folder"):
        cli.existing_folder("memory://none")


def test_a_data_set_in_other_storage_is_the_one_that_was_put_there():
    upath = pytest.importorskip("upath", reason="universal-pathlib is not installed")
    there = upath.UPath("memory://bucket/dataset")
    there.fs.put(f"{ROOT}/dataset", there.path, recursive=True)
    try:
        ours, theirs = (load_dataset(root, bytes(16)) for root in (ROOT / "dataset", there))
        assert (str(theirs), theirs.sha256, theirs.rows) == (str(ours), ours.sha256, ours.rows)
        np.testing.assert_array_equal(theirs.groups, ours.groups)
        assert theirs.names(range(len(ours))) == ours.names(range(len(ours)))
        theirs.paths[0].write_bytes(b"another image")
        with pytest.raises(InputError, match=r"memory://.* is not the image of its manifest"):
            load_dataset(there, bytes(16))
    finally:
        there.fs.rm(there.path, recursive=True)


def test_an_error_names_the_place_in_other_storage_and_makes_no_copy(monkeypatch):
    upath = pytest.importorskip("upath", reason="universal-pathlib is not installed")
    monkeypatch.setattr("tempfile.mkdtemp", None)
    path = upath.UPath("memory://bucket/x.png")
    path.write_bytes(b"no image")
    with pytest.raises(
        InputError, match=r"^memory://.*x\.png: is not an image that can be decoded"
    ):
        read_image(path)
    path.unlink()
    with pytest.raises(InputError, match=r"^memory://.*x\.png: is not a file"):
        read_image(path)

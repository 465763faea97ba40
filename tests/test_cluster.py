"""On a Ray cluster, features and predictions are the local engine's, also if a node is lost."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from conftest import ROOT

from covidxray.cluster.ray_engine import RayEngine
from covidxray.data.folders import list_tree
from covidxray.data.loading import load_dataset
from covidxray.errors import InputError
from covidxray.model.features import draw_angles
from covidxray.model.network import build_network
from covidxray.model.predictor import Predictor
from covidxray.model.weights import load_weights
from covidxray.pipeline.engines import LocalEngine

upath = pytest.importorskip("upath", reason="Ray is not installed")
absent = find_spec("ray") is None  # Ray reads its token when it is imported, so only later
pytestmark = [pytest.mark.long, pytest.mark.skipif(absent, reason="Ray is not installed")]
SALT = bytes(16)


class Engine(RayEngine):
    chunk = 16  # the local engine's batch, so that most CPUs give the same bits


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(true, seconds=120):
    """Call a function until its result is true, and return that result."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def nodes():
    """The address of a cluster of two nodes with one CPU each, and the nodes' processes.

    Each process leads a process group of its own; the head of the cluster is the first.
    """
    folder, started = tempfile.mkdtemp(prefix="ray-"), []
    head, client = free_port(), free_port()
    token = Path(folder, "token")
    token.write_text(secrets.token_hex())
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    def start(*arguments):
        command = [Path(sys.executable).with_name("ray"), "start", "--block", *arguments]
        command += ["--num-cpus=1", "--object-store-memory=200000000", "--disable-usage-stats"]
        path = Path(folder, f"{len(started)}.log")
        with open(path, "w") as log:
            out = {"stdout": log, "stderr": subprocess.STDOUT, "env": {**os.environ, **own}}
            started.append(subprocess.Popen(command, start_new_session=True, **out))
        wait_until(lambda: "Ray runtime started" in path.read_text())

    ports = (f"--port={head}", f"--ray-client-server-port={client}")
    try:
        start("--head", *ports, "--include-dashboard=false", f"--temp-dir={folder}")
        start(f"--address=127.0.0.1:{head}")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in own.items():
                patch.setenv(name, value)
            yield f"127.0.0.1:{head}", started
    finally:
        for process in reversed(started):
            kill(process)
        shutil.rmtree(folder, ignore_errors=True)


def kill(node):
    """End a node with all its processes at once, like a machine that loses its power."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def worker_of(node):
    """The number of a process that computes on a node; None if there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            title = (folder / "cmdline").read_bytes()  # Ray writes there what a process does
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"ray::MapWorker" in title and b"submit" in title and os.getpgid(parent) == node.pid:
                return int(folder.name)
    return None


@pytest.fixture(scope="module")
def engine(nodes):
    """An engine on the cluster, once both nodes are ready; it keeps no features."""
    import ray

    engine = Engine(nodes[0])
    wait_until(lambda: ray.cluster_resources().get("CPU") == 2)
    yield engine
    ray.shutdown()


@pytest.fixture(scope="module")
def drawings(script, tmp_path_factory):
    """A data set of 32 + 32 drawings: four chunks."""
    folder = tmp_path_factory.mktemp("cluster") / "drawings"
    assert script("make_demo_dataset.py", "-s", 32, "-o", folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def network():
    return build_network("portable", load_weights(), "float32")


def extract(engine, network, data, augmentations=0):
    rng = np.random.default_rng(5)
    return engine.extract(network, data, draw_angles(len(data), augmentations, 15, rng))


def assert_same(ours, theirs):
    assert list(ours.regions) == list(theirs.regions)
    # Some CPUs round an image otherwise in a batch of another size.
    for region, features in ours.regions.items():
        np.testing.assert_allclose(features, theirs.regions[region], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.lungs, theirs.lungs, rtol=0, atol=1e-5)
    assert list(ours.unread) == list(theirs.unread)
    assert_same_statistics(ours.image_statistics, theirs.image_statistics)


def assert_same_statistics(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.file == other.file
        for name in ("thumbnail", "frame", "histogram", "hash"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
            assert getattr(mine, name).dtype == getattr(other, name).dtype


def test_a_folder_named_by_a_uri_is_the_same_data_set(engine):
    here = load_dataset(ROOT / "dataset", SALT)
    folder = upath.UPath(f"file://{ROOT}/dataset")
    there = load_dataset(folder, SALT, inspect_files=engine.inspect_files)
    assert there.rows == here.rows
    assert there.sha256 == here.sha256
    assert str(there) == str(here)
    np.testing.assert_array_equal(there.groups, here.groups)


def test_predictions_are_the_local_engines_in_order_and_an_error_stands_in_place_of_an_image(
    engine, trained, tmp_path
):
    model, folder = trained
    paths = list_tree(folder)[0]
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:3000])
    paths.insert(5, tmp_path / "cut.jpg")
    predictor = Predictor(model)
    local = LocalEngine().predict_files(predictor, paths, with_statistics=True)
    there = [upath.UPath(f"file://{path}") for path in paths]
    found = engine.predict_files(predictor, there, with_statistics=True)
    for i, (ours, theirs) in enumerate(zip(local, found, strict=True)):
        if i == 5:
            assert str(theirs) == str(ours).replace(f"{paths[i]}", f"file://{paths[i]}")
            continue
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.heat, theirs.heat, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(ours.image, theirs.image)
        assert ours.warning == theirs.warning
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
        assert_same_statistics([ours.statistics], [theirs.statistics])


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_used(
    engine, network, drawings, tmp_path
):
    data = load_dataset(drawings, SALT).without({i: InputError("") for i in range(20, 64)})
    data.paths[17] = upath.UPath(f"file://{tmp_path}/x.png")
    data.paths[17].write_bytes(b"no image")
    features = extract(engine, network, data)
    assert list(features.unread) == [17]
    assert str(features.unread[17]).startswith(f"file://{tmp_path}/x.png: is not an image")
    assert_same(features, extract(LocalEngine(), network, data))


@pytest.mark.release
def test_augmented_features_that_were_kept_are_read_again(engine, nodes, network, tmp_path):
    data = load_dataset(ROOT / "dataset", SALT).select(np.arange(0, 50, 5))
    kept = Engine(nodes[0], tmp_path / "features")
    features = extract(kept, network, data, augmentations=3)
    local = extract(LocalEngine(), network, data, augmentations=3)
    for region, expected in local.regions.items():
        np.testing.assert_allclose(features.regions[region], expected, rtol=0, atol=1e-6)
    assert_same(extract(kept, network, data, augmentations=3), features)


@pytest.mark.release
def test_a_node_is_lost_half_way_and_the_features_are_the_same(
    engine, nodes, network, drawings, tmp_path
):
    data = load_dataset(drawings, SALT)
    folder = tmp_path / "features"
    before = []

    def kill_at_work():
        first, second = nodes[1]
        wait_until(lambda: any(folder.glob("*.parquet")))
        # The first node pauses, or it could compute everything before the second has started.
        if paused := worker_of(first):
            os.kill(paused, signal.SIGSTOP)
        wait_until(lambda: worker_of(second))
        kill(second)
        before.extend(folder.glob("*.parquet"))
        if paused:
            os.kill(paused, signal.SIGCONT)

    killer = Thread(target=kill_at_work)
    killer.start()
    kept = Engine(nodes[0], folder)
    features = extract(kept, network, data)
    killer.join()
    assert nodes[1][1].poll() == -signal.SIGKILL
    assert len(before) < 4
    assert_same(features, extract(LocalEngine(), network, data))

    files = sorted(folder.glob("*.parquet"))
    assert len(files) == 4
    written = {path: path.stat().st_mtime_ns for path in files}
    files[2].unlink()  # as if the run had been cut off
    assert_same(extract(kept, network, data), features)
    again = {path: path.stat().st_mtime_ns for path in sorted(folder.glob("*.parquet"))}
    assert [path for path in files if again[path] != written[path]] == [files[2]]
    with pytest.raises(InputError, match="has features of other images or options"):
        extract(kept, network, data, augmentations=1)
    files[0].write_bytes(b"no table")
    with pytest.raises(InputError, match=f"{files[0].name}: is damaged; remove it"):
        extract(kept, network, data)


@pytest.mark.release
def test_a_training_that_was_killed_goes_on_and_prints_what_the_local_engine_prints(
    engine, nodes, drawings, tmp_path
):
    options = ["--folds=2", "--repeats=1", "--transplant=0", "--precision=float32", "--no-cache"]
    train = [sys.executable, ROOT / "train_covid19.py", "-d", drawings, *options]
    cluster = ["--engine", "ray", "--ray-address", nodes[0], "--features", "features"]

    def run(*arguments):
        return subprocess.run([*train, *arguments], cwd=tmp_path, capture_output=True, text=True)

    killed = subprocess.Popen([*train, *cluster], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any((tmp_path / "features").glob("[!.]*.parquet")))
    finally:
        killed.kill()
        killed.wait()
    assert not (tmp_path / "covid19.keras").exists()
    first = min((tmp_path / "features").glob("*.parquet"))
    written = first.stat().st_mtime_ns
    resumed = run(*cluster)
    assert resumed.returncode == 0, resumed.stderr
    assert first.stat().st_mtime_ns == written
    assert resumed.stdout == run().stdout

"""On a Ray cluster, features and predictions are the local engine's, also when a node is lost."""

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

from covidxray import cluster, parts
from covidxray.backbone import RECIPES, build_backbone
from covidxray.classifier import Classifier
from covidxray.dataset import load_dataset
from covidxray.engine import Local
from covidxray.errors import InputError
from covidxray.images import list_images
from covidxray.lungs import load_segmenter
from covidxray.weights import load_weights

parquet = pytest.importorskip("pyarrow.parquet", reason="Ray is not installed")
upath = pytest.importorskip("upath", reason="Ray is not installed")
absent = find_spec("ray") is None  # it is imported later, as it looks for its token only once
pytestmark = [pytest.mark.long, pytest.mark.skipif(absent, reason="Ray is not installed")]
SALT = bytes(16)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(true, seconds=120):
    """What it gives, once that is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "a node does not start"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def nodes():
    """Two Ray nodes of one CPU, the head first: processes that lead a group of their own."""
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
    """End a node and all that it started, at once, as a machine ends that loses its power."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def at_work(node):
    """The process of an actor at work on it, or None; Ray says so in the process's name."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            busy = b"MapWorker(MapBatches(_Actor)).submit" in (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if busy and os.getpgid(parent) == node.pid:
                return int(folder.name)
    return None


@pytest.fixture(scope="module")
def engine(nodes):
    """The cluster as an engine, once both nodes are there."""
    import ray

    engine = cluster.Cluster(nodes[0])
    wait_until(lambda: ray.cluster_resources().get("CPU") == 2)
    yield engine
    ray.shutdown()


@pytest.fixture(scope="module")
def drawings(script, tmp_path_factory):
    """64 + 64 drawings, eight chunks."""
    folder = tmp_path_factory.mktemp("cluster") / "drawings"
    assert script("make_demo_dataset.py", "-s", 64, "-o", folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def made_of():
    recipe = RECIPES["portable"]
    return build_backbone(load_weights(), recipe), recipe, load_segmenter()


def extract(engine, made_of, data, views=0):
    return engine.extract(*made_of, data, views=views, rotation=15, rng=np.random.default_rng(5))


def assert_same(ours, theirs):
    for pool, views in ours.views.items():
        np.testing.assert_array_equal(views, theirs.views[pool])
    np.testing.assert_array_equal(ours.lungs, theirs.lungs)
    np.testing.assert_array_equal(ours.hashes, theirs.hashes)
    for mine, other in zip(ours.clues, theirs.clues, strict=True):
        assert mine.file == other.file
        for name in ("thumbnail", "frame", "histogram"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
            assert getattr(mine, name).dtype == getattr(other, name).dtype


def test_a_folder_by_its_uri_is_the_same_data_set(engine):
    here = load_dataset(ROOT / "dataset", SALT)
    folder = upath.UPath(f"file://{ROOT}/dataset")
    there = load_dataset(folder, SALT, look_at=engine.look_at)
    assert there.rows == here.rows
    assert there.sha256 == here.sha256
    assert str(there) == str(here)
    np.testing.assert_array_equal(there.groups, here.groups)


def test_predictions_are_the_local_engines_in_order_and_errors_stand_in_place(
    engine, trained, tmp_path
):
    model, folder = trained
    paths = list_images(folder, recursive=True)
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:3000])
    paths.insert(5, tmp_path / "cut.jpg")
    classifier, clues, others = Classifier(model), [], []
    local = Local().judge(classifier, paths, clues)
    there = [upath.UPath(f"file://{path}") for path in paths]
    found = engine.judge(classifier, there, others)
    for i, (ours, theirs) in enumerate(zip(local, found, strict=True)):
        if i == 5:
            assert str(theirs) == str(ours).replace(f"{paths[i]}", f"file://{paths[i]}")
            continue
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
        np.testing.assert_array_equal(ours.heat, theirs.heat)
        np.testing.assert_array_equal(ours.image, theirs.image)
        assert (ours.warning, ours.scores) == (theirs.warning, theirs.scores)
    assert [clue.file for clue in clues] == [clue.file for clue in others]


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_used(
    engine, made_of, drawings, tmp_path
):
    data = load_dataset(drawings, SALT).without({i: InputError("") for i in range(20, 128)})
    data.paths[17] = tmp_path / "x.png"
    data.paths[17].write_bytes(b"no image")
    features = extract(engine, made_of, data)
    assert list(features.unread) == [17]
    assert str(features.unread[17]).startswith(f"{tmp_path / 'x.png'}: is not an image")
    assert_same(features, extract(Local(), made_of, data))


def test_a_node_is_lost_half_way_and_the_features_are_the_same(
    engine, nodes, made_of, drawings, monkeypatch, tmp_path
):
    data = load_dataset(drawings, SALT)
    add, came = parts.Parts.add, []

    def add_and_kill(parts, seen):
        add(parts, seen)
        came.append(min(seen))

    def kill_at_work():
        first, second = nodes[1]
        wait_until(lambda: came)
        # The first holds its breath, or it might do all before the second has begun.
        if held := at_work(first):
            os.kill(held, signal.SIGSTOP)
        wait_until(lambda: at_work(second))
        kill(second)
        if held:
            os.kill(held, signal.SIGCONT)

    monkeypatch.setattr(parts.Parts, "add", add_and_kill)
    monkeypatch.setattr(parts, "PART", 32)
    monkeypatch.setattr(engine, "_folder", tmp_path / "features")
    killer = Thread(target=kill_at_work)
    killer.start()
    features = extract(engine, made_of, data)
    killer.join()
    assert nodes[1][1].poll() == -signal.SIGKILL
    assert sorted(came) == list(range(0, 128, 16))
    assert_same(features, extract(Local(), made_of, data))

    last = sorted((tmp_path / "features").glob("*.parquet"))[-1]
    held = {i - i % 16 for i in parquet.read_table(last)["index"].to_pylist()}
    last.unlink()  # as if the run had been cut off
    assert_same(extract(engine, made_of, data), features)
    assert set(came[8:]) == held
    with pytest.raises(InputError, match="is of other images or options"):
        extract(engine, made_of, data, views=1)

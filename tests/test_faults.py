"""Whatever ends a run, or stands in its way, no output is half-written and no result is lost."""

import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile

import pytest
from conftest import ROOT

from covidxray import files
from covidxray.data.class_folder import check_replaceable
from covidxray.data.manifest import read_manifest
from covidxray.errors import InputError
from covidxray.model.cache import Cache
from covidxray.model.model_file import MEMBER

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
TRAIN = ("train_covid19.py", "-d", "drawings", "--folds", 2, "--repeats", 1, "--cache", "kept")
EVALUATE = ("evaluate_covid19.py", "-m", "given.keras", "-d", "drawings")
PREDICT = ("predict_covid19.py", "-m", "given.keras", "drawings")
# What each script writes, and how to run it.
RUNS = {
    "build": (("out",), ("build_covid_dataset.py", "-c", "clone", "-o", "out")),
    "sample": (("out",), ("sample_kaggle_dataset.py", "-k", ".", "-o", "out", "-s", 4)),
    "demo": (("out/covid", "out/normal"), ("make_demo_dataset.py", "-s", 4, "-o", "out")),
    "audit": (("a.json",), ("audit_dataset.py", "-d", "drawings", "--json", "a.json")),
    "train": (
        ("plot.png", "covid19.keras", "metrics.json", "r.html"),
        (*TRAIN, "--report", "r.html"),
    ),
    "evaluate": (("e.json", "e.html"), (*EVALUATE, "--json", "e.json", "--report", "e.html")),
    "predict": (("p.csv", "p.json"), (*PREDICT, "--csv", "p.csv", "--json", "p.json")),
}
BUILDERS = ("build", "sample", "demo")
HEADER = "patientid,offset,sex,age,finding,survival,view,modality,date,location,folder,filename,"


@pytest.fixture(scope="session")
def sources(script, tmp_path_factory):
    """Drawings, and the same as a clone of Cohen's repository and as Kaggle's folders."""
    root = tmp_path_factory.mktemp("sources")
    assert script("make_demo_dataset.py", "-s", 6, "-o", root / "drawings").returncode == 0
    (root / "clone/images").mkdir(parents=True)
    (root / "chest_xray/train/NORMAL").mkdir(parents=True)
    rows = [HEADER + "doi,url,license,clinical notes,other notes"]
    for i, path in enumerate(sorted((root / "drawings/covid").glob("*.jpg"))):
        shutil.copy(path, root / "clone/images")
        rows.append(f"{i},,M,50,COVID-19,,PA,X-ray,,,images,{path.name},,,,,")
    (root / "clone/metadata.csv").write_text("\n".join(rows) + "\n")
    for i, path in enumerate(sorted((root / "drawings/normal").glob("*.jpg"))):
        shutil.copy(path, root / f"chest_xray/train/NORMAL/IM-{i:04d}-0001.jpeg")
    return root


@pytest.fixture
def place(sources, tmp_path, request):
    """A function that makes a folder in which a script of `RUNS` can be run."""

    def make(name):
        folder = tmp_path / name
        shutil.copytree(sources, folder)
        if name in ("evaluate", "predict"):
            shutil.copy(request.getfixturevalue("trained")[0], folder / "given.keras")
        (folder / "tmp").mkdir()
        return folder

    return make


def start(folder, name, *more):
    """A script of `RUNS` as a process of its own, which hears Ctrl-C whoever started the tests."""

    def hear():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    program, *arguments = RUNS[name][1]
    return subprocess.Popen(
        [sys.executable, ROOT / program, *map(str, (*arguments, *more))],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        preexec_fn=hear,
    )


def finish(process):
    """Its exit code, and what it said but for progress."""
    _, said = process.communicate()
    progress = ("[INFO]", "|")
    lines = [line for line in said.splitlines() if not any(mark in line for mark in progress)]
    return process.returncode, [line for line in lines if line.strip()]


def content(path):
    """What an output holds, the same for the same run: of a folder its files, of a model all but
    the time at which it was saved, Keras' numbers of its objects (another if features are cached,
    since fewer are made), and its patients' digests, which are salted anew."""
    if not path.exists():
        return None
    if path.is_dir():
        return {str(p.relative_to(path)): content(p) for p in path.rglob("*") if p.is_file()}
    if path.suffix != ".keras":
        return path.read_bytes()
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members[MEMBER])
    members[MEMBER] = {**metadata, "salt": "", "patients": len(metadata["patients"])}
    config = re.sub(rb'"shared_object_id": \d+', b"", members["config.json"])
    config = re.sub(rb'"([a-z_]+)_\d+"', rb'"\1"', config)
    return members | {"metadata.json": None, "config.json": config}


def contents(folder, name):
    return {output: content(folder / output) for output in RUNS[name][0]}


def hidden(folder):
    return [path for path in folder.rglob(".*") if "kept" not in path.parts]


def earlier(folder, name):
    """Outputs of an earlier run, unlike those of the next."""
    if name in BUILDERS:
        more = {"build": ("--limit", 2), "sample": ("--seed", 7), "demo": ("--seed", 7)}
        assert finish(start(folder, name, *more[name])) == (0, [])
    else:
        for output in RUNS[name][0]:
            (folder / output).write_text("of an earlier run")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        *[("build", 6), ("sample", 6), ("demo", 6), ("audit", 6)],
        pytest.param("train", 4, marks=pytest.mark.release),
        pytest.param("evaluate", 3, marks=pytest.mark.release),
        ("predict", 3),
    ],
)
def test_killed_at_any_moment_each_output_is_the_old_or_the_new_and_the_next_run_is_undisturbed(
    place, name, kills
):
    folder = place(name)
    began = time.perf_counter()
    assert finish(start(folder, name)) == (0, [])
    lasts = time.perf_counter() - began
    new = contents(folder, name)
    began = time.perf_counter()
    shutil.rmtree(folder / "out", ignore_errors=True)
    earlier(folder, name)
    old = contents(folder, name)
    assert all(old[output] != new[output] for output in old)
    rng = random.Random(name)
    for i in range(kills):
        process = start(folder, name)
        time.sleep((i + rng.random()) / kills * lasts)
        process.kill()
        process.communicate()
        found = contents(folder, name)
        assert all(found[output] in (old[output], new[output]) for output in found)
        known = sum(found[output] == new[output] for output in found)
        assert known in (0, len(found)) or name == "demo"  # the demo's two folders are two outputs
        assert all(cached is not None for cached in entries(folder / "kept"))
    assert finish(start(folder, name)) == (0, [])
    assert contents(folder, name) == new


def entries(folder):
    return [Cache(folder).get(path.stem) for path in folder.rglob("[!.]*.safetensors")]


@pytest.mark.long
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "moments"),
    [
        *[("build", 3), ("sample", 3), ("demo", 3), ("audit", 3), ("predict", 2)],
        pytest.param("train", 4, marks=pytest.mark.release),
    ],
)
def test_ctrl_c_at_any_moment_ends_it_in_two_seconds_without_a_trace(place, name, moments, kind):
    if kind == signal.SIGTERM and name not in ("build", "predict"):
        pytest.skip("the same code")
    folder = place(name)
    began = time.perf_counter()
    assert finish(start(folder, name, *uncached(name)))[0] == 0
    lasts = time.perf_counter() - began
    whole = contents(folder, name)
    for i in range(moments):
        for output in {path.split("/")[0] for path in RUNS[name][0]}:
            shutil.rmtree(folder / output, ignore_errors=True)
            (folder / output).unlink(missing_ok=True)
        process = start(folder, name, *uncached(name))
        time.sleep((0.3 + 0.6 * i / moments) * lasts)
        sent = time.perf_counter()
        process.send_signal(kind)
        code, said = finish(process)
        assert time.perf_counter() - sent < 2
        assert said == []
        # 0: all was done. By the signal itself: before or after the work.
        assert code in (128 + kind, 0, -kind)
        found = contents(folder, name)
        assert all(found[output] in (None, whole[output]) for output in found)
        assert code != 0 or found == whole
        assert hidden(folder) == []


def uncached(name):
    return ("--no-cache",) if name == "train" else ()


def test_a_stopped_run_ends_even_where_python_does_not_hear_of_it(tmp_path):
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import time
from pathlib import Path
from covidxray import files, process
def main():
    with files.atomic_write(Path("x.txt")) as part:
        part.write_text("half")
        print("on", flush=True)
        while True:
            try:
                time.sleep(60)
            except BaseException:  # as imported code may
                pass
process.run_script(main)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    sent = time.perf_counter()
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert time.perf_counter() - sent < 2
    assert list(tmp_path.iterdir()) == []


def test_a_signal_in_a_callback_of_the_garbage_collector_leaves_no_traceback():
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import gc, os, signal, time
from covidxray import process
def callback(*_):
    gc.callbacks.remove(callback)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
def main():
    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(60)
process.run_script(main)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_outputs_of_one_run_come_together_or_not_at_all(tmp_path):
    paths = tmp_path / "a.txt", tmp_path / "b.txt"
    paths[0].write_text("old")

    with (
        pytest.raises(InputError, match=r"b\.txt: cannot be written"),
        files.atomic_writes() as output,
    ):
        with output(paths[0]) as temporary:
            temporary.write_text("new")
        with output(paths[1]) as temporary:
            (temporary / "no folder").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}
    with files.atomic_writes() as output:
        for path in paths:
            with output(path) as temporary:
                temporary.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.txt": "new",
        "b.txt": "new",
    }


@pytest.mark.parametrize(
    "arguments",
    [(*TRAIN, "-p", "x.png", "--metrics", "x.png"), (*EVALUATE, "--json", "given.keras")],
)
def test_no_output_replaces_another_or_the_model(script, tmp_path, arguments):
    (tmp_path / "drawings").mkdir()
    done = script(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "is needed for something else; give another name" in done.stderr


FULL = [(name, output) for name in RUNS for output in RUNS[name][0] if name not in BUILDERS]


@pytest.mark.long
@pytest.mark.parametrize(("name", "output"), FULL)
def test_a_full_disk_is_one_line_and_earlier_outputs_stay(place, script, full_disk, name, output):
    folder, (disk, fill) = place(name), full_disk
    earlier(folder, name)
    shutil.move(folder / output, disk / output)
    fill()
    arguments = [disk / a if a == output else a for a in RUNS[name][1]]
    defaults = {"plot.png": "-p", "covid19.keras": "-m", "metrics.json": "--metrics"}
    if output in defaults:
        arguments += [defaults[output], disk / output]
    done = script(*arguments, cwd=folder)
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert error.startswith(f"error: {disk / output}: cannot be written (No space left on device)")
    assert error.endswith("make room there or choose another place")
    others = [folder / o for o in RUNS[name][0] if o != output]
    assert all(p.read_text() == "of an earlier run" for p in (*others, disk / output))
    assert sorted(p.name for p in disk.iterdir()) == sorted(["filler", output])
    assert hidden(folder) == []


@pytest.mark.parametrize("name", BUILDERS)
def test_a_full_disk_leaves_the_folder_that_a_builder_filled_earlier(
    place, script, full_disk, name
):
    folder, (disk, fill) = place(name), full_disk
    arguments = [disk / a if a == "out" else a for a in RUNS[name][1]]
    assert script(*arguments, cwd=folder).returncode == 0
    before = content(disk)
    fill()
    done = script(*arguments, cwd=folder)
    assert done.returncode == 2
    assert "cannot be written (No space left on device)" in done.stderr.splitlines()[-1]
    (disk / "filler").unlink()
    assert content(disk) == before
    assert hidden(disk) == []


@pytest.mark.slow
def test_a_heat_map_that_no_disk_holds_is_one_line(trained, script, full_disk):
    disk, fill = full_disk
    fill()
    (disk / "filler").rename(disk / "filler.txt")
    done = script("predict_covid19.py", "-m", trained[0], trained[1], "--explain", disk)
    assert done.returncode == 2
    assert "00001-drawn-covid-00-0.png: cannot be written (No space left" in done.stderr
    assert [path.name for path in disk.iterdir()] == ["filler.txt"]


@pytest.mark.long
@pytest.mark.slow
def test_a_cache_on_a_full_disk_is_said_and_no_error(place, script, full_disk):
    folder, (disk, fill) = place("train"), full_disk
    fill()
    done = script(*TRAIN, "--cache", disk, cwd=folder)
    assert done.returncode == 0
    assert done.stderr.count("features are not kept") == 1
    assert hidden(disk) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_standard_output_that_takes_no_more_is_one_line():
    command = [sys.executable, ROOT / "audit_dataset.py", "-d", ROOT / "dataset"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    said = "error: standard output: cannot be written (No space left on device); make room there"
    assert done.stderr.splitlines()[-1] == said


@pytest.mark.parametrize("name", ["sample", "demo"])
def test_two_builders_that_fill_one_folder_leave_that_of_one_of_them(place, name):
    folder = place(name)
    whole = []
    for seed in (1, 2):
        assert finish(start(folder, name, "--seed", seed)) == (0, [])
        whole.append(contents(folder, name))
    assert whole[0] != whole[1]
    for _ in range(3):
        both = [finish(start_) for start_ in [start(folder, name, "--seed", s) for s in (1, 2)]]
        codes = [code for code, _ in both]
        assert 0 in codes and set(codes) <= {0, 2}
        for code, said in both:
            assert len(said) == (code == 2)
        found = contents(folder, name)
        for output in found:
            assert found[output] in (whole[0][output], whole[1][output])
            check_replaceable(folder / output)
            assert len(read_manifest(folder / output)) == 4
        assert hidden(folder) == []


@pytest.mark.release
@pytest.mark.long
def test_two_trainings_at_once_share_a_cache_and_leave_the_outputs_of_one(place):
    folder = place("train")
    whole = []
    for seed in (1, 2):
        assert finish(start(folder, "train", "--seed", seed)) == (0, [])
        whole.append(contents(folder, "train"))
    shutil.rmtree(folder / "kept")
    both = [start(folder, "train", "--seed", seed) for seed in (1, 2)]
    assert [finish(process) for process in both] == [(0, [])] * 2
    found = contents(folder, "train")
    assert all(found[output] in (whole[0][output], whole[1][output]) for output in found)
    kept = entries(folder / "kept")
    assert len(kept) == 12 and None not in kept
    assert hidden(folder) == []


@pytest.mark.release
@pytest.mark.long
def test_a_training_killed_at_ninety_percent_computes_the_rest_alone(script, tmp_path):
    assert (
        script(
            "make_demo_dataset.py", "-s", 88, "--size", 64, "-o", "drawings", cwd=tmp_path
        ).returncode
        == 0
    )
    (tmp_path / "tmp").mkdir()
    process = start(tmp_path, "train")
    while len(list((tmp_path / "kept").rglob("[!.]*.safetensors"))) < 160:  # ten of eleven batches
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = len(list((tmp_path / "kept").rglob("[!.]*.safetensors")))
    assert 160 <= kept < 176
    process = start(tmp_path, "train")
    _, said = process.communicate()
    assert process.returncode == 0
    assert f"{kept} of 176 images are in the cache" in said
    assert f" {176 - kept}/{176 - kept} " in said  # the bar of VGG16: so many views


def test_a_cache_that_may_not_be_written_to_serves(tmp_path, monkeypatch):
    import numpy as np

    Cache(tmp_path).put("00ff", {"a": np.arange(3)})

    def refused(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refused)
    assert Cache(tmp_path).get("00ff")["a"].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(trained, tmp_path):
    """Every good file is one drawing, whose pass through the network is kept in the cache."""
    from covidxray.model.predictor import Predictor

    model, drawings = trained
    classifier = Predictor(model, Cache(tmp_path / "kept"))
    drawing = min((drawings / "covid").glob("*.jpg"))
    assert len(list(classifier.predict_files([drawing]))) == 1
    paths = []
    for i in range(320):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(b"bad" if i % 100 == 50 else drawing.read_bytes())
        paths.append(path)
    held, good = [], 0
    tracemalloc.start()
    for i, prediction in enumerate(classifier.predict_files(paths)):
        good += not isinstance(prediction, InputError)
        if i in (119, 319):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert good == 317
    assert held[1] - held[0] < 250_000  # bytes: of the 200 images between, not two

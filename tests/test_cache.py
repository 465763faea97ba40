"""The cache returns what was stored, stays below its limit and reports damaged entries."""

import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import ROOT
from test_features_version import random_weights

from covidxray.files import sha256_of
from covidxray.model import features
from covidxray.model.cache import Cache
from covidxray.model.lungs import build_region_model, load_segmenter
from covidxray.model.predictor import Predictor
from covidxray.model.recipes import RECIPES
from covidxray.model.vgg16 import build_backbone

ENTRY = {"a": np.arange(300, dtype=np.float32), "b": np.array([2**63], np.uint64)}


def key(i):
    return f"{i * 7919 % 256:02x}{i:08x}"


def same(a, b):
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a
    )


def places(cache):
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def test_an_entry_is_read_as_it_was_stored(tmp_path):
    cache = Cache(tmp_path / "new" / "folder")
    assert cache.get(key(1)) is None
    cache.put(key(1), ENTRY)
    assert same(cache.get(key(1)), ENTRY)
    assert cache.get(key(2)) is None


DAMAGE = {
    "cut short": lambda content: content[:-9],
    "a bit flipped": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "empty": lambda content: b"",
    "no such file": lambda content: b"x" * 500,
}


@pytest.mark.parametrize("kind", [*DAMAGE, "of another image"])
def test_damaged_entries_are_none_and_reported_once(tmp_path, caplog, kind):
    cache = Cache(tmp_path)
    for i in range(4):
        cache.put(key(i), ENTRY)
    *damaged, other = places(cache)
    for path in damaged:
        change = DAMAGE.get(kind, lambda _: other.read_bytes())
        path.write_bytes(change(path.read_bytes()))
    assert [cache.get(path.stem) for path in damaged] == [None] * 3
    assert caplog.text.count("is damaged") == 1
    cache.put(damaged[0].stem, ENTRY)
    assert same(cache.get(damaged[0].stem), ENTRY)


def test_the_folder_stays_below_its_limit_and_the_least_recently_used_entries_are_removed(tmp_path):
    cache = Cache(tmp_path, limit=100_000)
    for i in range(60):  # some 1.5 KB each
        cache.put(key(i), ENTRY)
    for age, path in enumerate(places(cache)):
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.get(key(3))  # used again
    again = Cache(tmp_path, limit=100_000)
    for i in range(60, 90):
        again.put(key(i), ENTRY)
        assert sum(path.stat().st_size for path in places(cache)) <= 100_000
    assert again.get(key(3)) and again.get(key(89))
    gone = [i for i in range(60) if not again.get(key(i))]
    assert 20 < len(gone) < 60


def test_a_folder_that_cannot_be_created_is_reported_once_and_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    cache.put(key(1), ENTRY)
    cache.put(key(2), ENTRY)
    assert cache.get(key(1)) is None
    assert caplog.text.count("not kept") == 1


def test_runs_that_share_a_folder_or_are_killed_leave_only_whole_entries(tmp_path):
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import numpy as np
from covidxray.model.cache import Cache
cache = Cache(Path({str(tmp_path)!r}), limit=300_000)
print("on", flush=True)
for turn in range(int(sys.argv[1])):
    for i in range(150):
        found = cache.get(f"{{i % 8:02x}}{{i}}")
        assert found is None or (found["a"] == i).all()
        cache.put(f"{{i % 8:02x}}{{i}}", {{"a": np.full(700, i)}})
"""
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    killed = subprocess.Popen([*command, "1000000"], **pipes)
    killed.stdout.readline()
    runs = [subprocess.Popen([*command, "4"], **pipes) for _ in range(2)]
    runs[0].stdout.readline()
    killed.kill()
    killed.communicate()
    for run in runs:
        _, said = run.communicate()
        assert run.returncode == 0, said
        assert said == ""  # no damage was met
    cache = Cache(tmp_path)
    whole = [cache.get(path.stem) for path in places(cache) if path.name[0] != "."]
    assert whole and all(whole)


@pytest.fixture(scope="module")
def weights():
    return random_weights()


RECIPE = RECIPES["portable"]


@pytest.fixture
def job(weights, tmp_path, picture, monkeypatch):
    """A function that extracts some of five images through a cache, and counts what it does."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        path.write_bytes(picture(i))
    backbone, segmenter = build_backbone(weights, RECIPE), load_segmenter()
    done = {"decoded": 0, "computed": 0}
    read, predict = features.read_with_statistics, keras.Model.predict_on_batch

    def counting_read(path):
        done["decoded"] += 1
        return read(path)

    def counting_predict(model, batch):
        done["computed"] += len(batch)
        return predict(model, batch)

    monkeypatch.setattr(features, "read_with_statistics", counting_read)
    monkeypatch.setattr(keras.Model, "predict_on_batch", counting_predict)

    def run(which=range(5), cached=True, augmentations=1):
        done.update(decoded=0, computed=0)
        chosen = [paths[i] for i in which]
        depends = features.depends_on(weights, RECIPE, segmenter, "float32")
        cache = Cache(tmp_path / "cache")
        entries = features.CachedFeatures(cache, [sha256_of(path) for path in chosen], depends)
        angles = features.draw_angles(len(chosen), augmentations, 15, np.random.default_rng(3))
        network = backbone, RECIPE, segmenter
        found = features.extract(
            lambda: build_region_model(*network),
            chosen,
            angles,
            entries if cached else None,
        )
        return found, (done["decoded"], done["computed"])

    return run


def assert_same(a, b, tolerance=0.0):
    """Equal features, to the last bit by default; some CPUs round batches of other sizes apart."""
    for region in a.regions:
        np.testing.assert_allclose(a.regions[region], b.regions[region], tolerance, tolerance)
    np.testing.assert_allclose(a.lungs, b.lungs, tolerance, 10 * tolerance)
    for one, other in zip(a.image_statistics, b.image_statistics, strict=True):
        assert one.file == other.file
        assert same(one.arrays(), other.arrays())


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_gets_the_same_bits(job, caplog):
    fresh, did = job(cached=False)
    assert did == (5, 10)
    first, did = job([0, 1, 2])
    assert did == (3, 6)
    second, did = job()
    assert did == (2, 4)
    assert "3 of 5 images are in the cache" in caplog.text
    third, did = job()
    assert did == (0, 0)
    assert_same(second, fresh, tolerance=1e-6)
    assert_same(third, second)
    np.testing.assert_array_equal(first.lungs, second.lungs[:3])


@pytest.mark.slow
def test_only_a_damaged_entry_is_computed_again(job, tmp_path, caplog):
    fresh, _ = job(augmentations=0)
    path = next((tmp_path / "cache").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    found, did = job(augmentations=0)
    assert did == (1, 1)
    assert_same(found, fresh, tolerance=1e-6)
    assert caplog.text.count("is damaged") == 1
    assert job(augmentations=0)[1] == (0, 0)


def test_the_key_of_an_entry_depends_on_everything_that_determines_its_content(
    weights, tmp_path, monkeypatch
):
    segmenter = load_segmenter()
    made = weights, RECIPE, segmenter, "float32"
    still = np.zeros(1)

    def key_of(weights, recipe, segmenter, precision, digest="00", angles=still):
        depends = features.depends_on(weights, recipe, segmenter, precision)
        return features.CachedFeatures(Cache(tmp_path), [digest], depends).key(0, angles)

    keys = {key_of(*made), key_of(*made)}
    assert len(keys) == 1  # the same input has the same key
    other = replace(weights, biases=[*weights.biases[:-1], weights.biases[-1] + 1])
    keys.add(key_of(other, *made[1:]))
    keys.add(key_of(weights, replace(RECIPE, power=1), segmenter, "float32"))
    moved = replace(segmenter, mean=segmenter.mean + 1)
    keys.add(key_of(weights, RECIPE, moved, "float32"))
    keys.add(key_of(weights, RECIPE, segmenter, "bfloat16"))
    keys.add(key_of(*made, digest="01"))
    keys.add(key_of(*made, angles=still + 1e-12))
    keys.add(key_of(*made, angles=np.zeros(0)))
    with monkeypatch.context() as patch:
        patch.setattr(features, "version", lambda name: "2" if name == "pillow" else "1")
        keys.add(key_of(*made))
        patch.setattr(features, "version", lambda name: "1")
        keys.add(key_of(*made))
    with monkeypatch.context() as patch:
        patch.setattr(features, "SIZE", 225)
        keys.add(key_of(*made))
        patch.setattr(features, "FEATURES_VERSION", features.FEATURES_VERSION + 1)
        keys.add(key_of(*made))
    assert len(keys) == 12
    other_head = replace(RECIPE.head, units=99, l2=5.0)
    head_only = replace(RECIPE, head=other_head)  # the head is not part of it
    assert key_of(weights, head_only, segmenter, "float32") in keys


@pytest.mark.long
@pytest.mark.slow
def test_the_model_of_a_second_run_predicts_what_that_of_the_first_run_predicts(
    trained, script, tmp_path
):
    drawings = trained[1]
    shown = [next((drawings / name).glob("*.jpg")) for name in ("covid", "normal")]
    quick = ("-d", drawings, "--repeats", 0, "--epochs", 3, "--cache", "kept")
    runs = [script("train_covid19.py", *quick, "-m", f"{i}.keras", cwd=tmp_path) for i in (1, 2)]
    assert "12 of 12 images are in the cache" in runs[1].stderr
    assert "in the cache" not in runs[0].stderr
    said = [script("predict_covid19.py", "-m", f"{i}.keras", *shown, cwd=tmp_path) for i in (1, 2)]
    assert [done.returncode for done in said] == [0, 0], said[1].stderr
    assert said[0].stdout == said[1].stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate_covid19.py", "predict_covid19.py"])
def test_an_image_predicted_before_does_not_pass_through_the_network_again(
    name, trained, script, tmp_path, monkeypatch
):
    model, drawings = trained
    given = (
        ["--dataset", drawings, "--transplant", 0]
        if name.startswith("evaluate")
        else ["--csv", "p.csv", drawings]
    )
    command = [name, "--model", model, "--cache", "kept", "--json", "n.json", *given]
    first = script(*command, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    written = (tmp_path / "n.json").read_bytes()
    monkeypatch.setattr(keras.Model, "predict_on_batch", None)
    again = script(*command, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert (tmp_path / "n.json").read_bytes() == written


@pytest.mark.slow
def test_the_next_run_computes_only_what_is_missing_from_the_cache(trained, tmp_path, monkeypatch):
    model, drawings = trained
    cache, paths = Cache(tmp_path), sorted(drawings.rglob("*.jpg"))
    whole = list(Predictor(model, cache).predict_files(paths))
    for path in places(cache)[::4]:
        path.unlink()
    computed, predict = [], keras.Model.predict_on_batch

    def count(self, images):
        computed.extend(images)
        return predict(self, images)

    monkeypatch.setattr(keras.Model, "predict_on_batch", count)
    again = list(Predictor(model, cache).predict_files(paths))
    assert len(computed) == len(range(0, len(paths), 4))
    assert [one.label for one in again] == [one.label for one in whole]
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_allclose(one.heat, other.heat, atol=1e-4)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)

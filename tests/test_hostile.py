"""Weights and models from untrusted sources run no code, write no files and need little memory.

Each hostile file has a control where Python or Keras permits it: there the same code does run.
"""

import base64
import io
import json
import marshal
import os
import pickle
import sys
import tracemalloc
import zipfile
from contextlib import suppress
from dataclasses import asdict

import h5py
import keras
import numpy as np
import pytest
from test_modelfile import AUXILIARY, METADATA, tiny

from covidxray.data import SIZE
from covidxray.errors import InputError
from covidxray.model import weights
from covidxray.model.arrays import LARGEST
from covidxray.model.model_file import ARRAYS, MEMBER, load_model, save_model


class Call:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def marker(tmp_path):
    """The name of a folder that only code in a file can create."""
    return str(tmp_path / "ran")


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle"])
def test_a_pickle_in_an_npz_file_is_not_read(tmp_path, marker, kind):
    path = tmp_path / "weights.npz"
    array = np.array([Call(os.mkdir, marker)], dtype=object)
    with path.open("wb") as file:
        if kind == "npz":
            np.savez(file, mean=array, **{f"kernel_{i}": array for i in range(weights.LAYERS)})
        elif kind == "npy":
            np.save(file, array)
        else:
            pickle.dump(array, file)
    with pytest.raises(InputError, match="holds no VGG16 weights"):
        weights.load_weights(str(path))
    assert not os.path.exists(marker)


@pytest.mark.parametrize("shape", [(3, 3, 3, 63), (3, 3, 64), ()])
def test_arrays_of_another_shape_are_refused_as_weights(tmp_path, shape):
    arrays = {f"kernel_{i}": np.zeros(shape) for i in range(weights.LAYERS)}
    arrays |= {f"bias_{i}": np.zeros(64) for i in range(weights.LAYERS)}
    np.savez(tmp_path / "weights.npz", mean=np.zeros(3), std=np.ones(3), **arrays)
    with pytest.raises(InputError, match="holds no VGG16 weights"):
        weights.load_weights(str(tmp_path / "weights.npz"))


def lambda_layer(marker):
    """A Lambda layer whose Python bytecode creates a folder."""
    code = compile(f"lambda x: (__import__('os').mkdir({marker!r}), x)[1]", "x", "eval")
    function = next(part for part in code.co_consts if hasattr(part, "co_code"))
    raw = base64.b64encode(marshal.dumps(function)).decode()
    value = {"class_name": "__lambda__", "config": {"code": raw, "defaults": None, "closure": None}}
    return "keras.layers", "Lambda", None, {"name": "evil", "function": value}


def named(place, name, registered=None, **config):
    return lambda marker: (place, name, registered, config or {"command": f"mkdir {marker}"})


LAYERS = {  # module, class, registered name and config of a layer that tries something
    "lambda": lambda_layer,
    "os.system": named("os", "system"),
    "posix.mkdir": named("posix", "mkdir"),
    "subprocess.Popen": named("subprocess", "Popen"),
    "builtins.eval": named("builtins", "eval"),
    "function eval": named("builtins", "function"),
    "registered eval": named("keras.layers", "Dense", "builtins>eval"),
    "registered popen": named(None, "Popen", "subprocess>Popen"),
    "no class": named("keras.src.utils.file_utils", "get_file"),
    "download": named("keras.utils", "get_file", fname="x", origin="http://127.0.0.1:9/x"),
    "unsafe": named("keras.config", "enable_unsafe_deserialization"),
    "saved model": named("keras.layers", "TFSMLayer", filepath="/etc"),
    "torch": named("keras.layers", "TorchModuleWrapper", module="x"),
    "file reader": named("keras.layers", "StringLookup", vocabulary="/etc/hostname"),
    "load a model": named("keras.models", "load_model", filepath="/etc/hostname"),
    "imports a module": named("hostile_module", "Anything"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    save_model(tiny(), path, METADATA, AUXILIARY)
    return path


def changed(source, path, more=(), **members):
    """A copy of a model file in which some members have other content, and `more` ones follow."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name, old.read(name)))
        for name, content in more:
            new.writestr(name, content)
    return path


def with_layer(saved, path, layer):
    """A copy of a model file whose first layer after its input is another one."""
    with zipfile.ZipFile(saved) as archive:
        config = json.loads(archive.read("config.json"))
    module, name, registered, inner = layer
    entry = config["config"]["layers"][1]
    entry |= {"module": module, "class_name": name, "registered_name": registered}
    entry["config"] = {"name": entry["config"]["name"], **inner}
    entry.pop("build_config", None)
    return changed(saved, path, **{"config.json": json.dumps(config)})


def refused(path, said="cannot be read as a model"):
    with pytest.raises(InputError, match=said) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_of_a_model_file_runs_code(tmp_path, saved, marker, name, monkeypatch):
    (tmp_path / "hostile_module.py").write_text(f"import os; os.mkdir({marker!r})")
    monkeypatch.syspath_prepend(tmp_path)
    refused(with_layer(saved, tmp_path / "m.keras", LAYERS[name](marker)))
    assert not os.path.exists(marker)
    assert "hostile_module" not in sys.modules


def test_the_same_lambda_runs_without_the_safe_mode_of_keras(tmp_path, saved, marker):
    path = with_layer(saved, tmp_path / "m.keras", lambda_layer(marker))
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert os.path.isdir(marker)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_kerass_older_format_is_refused_under_any_name(tmp_path, saved, marker, suffix):
    inputs = keras.Input((SIZE, SIZE, 3))
    evil = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    legacy, path = tmp_path / "legacy.h5", tmp_path / f"m{suffix}"
    evil.save(legacy)
    path.write_bytes(legacy.read_bytes())
    refused(path)


def test_a_file_that_is_both_an_h5_model_and_a_zip_archive_is_refused(tmp_path, saved):
    inputs = keras.Input((SIZE, SIZE, 3))
    path = tmp_path / "m.h5"
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "a") as both:
        for name in old.namelist():
            both.writestr(name, old.read(name))
    assert zipfile.is_zipfile(path) and keras.saving.load_model(path, compile=False)
    refused(path, "is not a model of this program")


@pytest.mark.parametrize(
    "name", ["../outside", "../../outside", "/tmp/hostile/outside", "assets/../../outside"]
)
def test_no_member_of_a_model_file_is_written_to_disk(tmp_path, saved, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = changed(saved, folder / "m.keras", [(name, b"hostile")])
    with suppress(InputError):
        load_model(path)
    assert not [p for p in tmp_path.rglob("*") if p.name == "outside"]
    assert not any(os.path.exists(place) for place in ("/outside", "/tmp/outside"))


def test_weights_that_link_to_another_file_are_refused(tmp_path, saved):
    with zipfile.ZipFile(saved) as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["0"] = np.ones((3, 2), np.float32)
    with h5py.File(stored, "a") as file:
        (name,) = [n for n in _names(file) if n.endswith("dense/vars/0")]
        del file[name]
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "0")
    refused(changed(saved, tmp_path / "m.keras", **{"model.weights.h5": stored.getvalue()}))


def _names(file):
    names = []
    file.visit(names.append)
    return names


@pytest.mark.parametrize("member", [MEMBER, ARRAYS, "config.json", "model.weights.h5", "more"])
def test_a_compressed_member_is_refused_before_it_is_decompressed(tmp_path, saved, member):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
        new.writestr(member, bytes(300_000_000), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2_000_000
    tracemalloc.start()
    refused(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_too_large_compressed_arrays_are_refused_before_they_are_decompressed(tmp_path, saved):
    arrays = io.BytesIO()
    np.savez_compressed(arrays, mean=np.zeros(LARGEST // 4 + 1, np.float32))
    refused(changed(saved, tmp_path / "m.keras", **{ARRAYS: arrays.getvalue()}))
    (tmp_path / "weights.npz").write_bytes(arrays.getvalue())
    with pytest.raises(InputError, match="holds no VGG16 weights"):
        weights.load_weights(str(tmp_path / "weights.npz"))


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": ("covid", 7)},
        {"classes": ({"a": 1}, "covid")},
        {"classes": ("covid", None)},
        {"threshold": "0.5"},
        {"threshold": float("nan")},
        {"salt": "no hex"},
        {"salt": ""},
        {"salt": "00" * 65},
        {"hashes": ["0f"]},
        {"trained_on": [1]},
        {"patients": None},
        {"card": {}},
        {"card": {"data set": {"a": "b"}}},
    ],
    ids=str,
)
def test_metadata_with_fields_of_another_type_are_refused(tmp_path, saved, fields):
    metadata = json.dumps({**asdict(METADATA), **fields})
    refused(changed(saved, tmp_path / "m.keras", **{MEMBER: metadata}))


def test_a_model_without_class_names_is_refused(tmp_path, saved):
    metadata = {name: value for name, value in asdict(METADATA).items() if name != "classes"}
    refused(changed(saved, tmp_path / "m.keras", **{MEMBER: json.dumps(metadata)}))
    empty = json.dumps({**asdict(METADATA), "classes": ()})
    said = "its parts do not fit together"
    refused(changed(saved, tmp_path / "n.keras", **{MEMBER: empty}), said)


@pytest.mark.parametrize("damage", ["empty", "half", "zeros", "shuffled", "another zip"])
def test_a_damaged_model_file_is_refused_with_one_line(tmp_path, saved, damage):
    whole = saved.read_bytes()
    path = tmp_path / "m.keras"
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "zeros": bytes(len(whole)),
            "shuffled": whole[::-1],
            "another zip": b"",
        }[damage]
    )
    if damage == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", "<x/>")
    refused(path, "is not a model" if damage == "another zip" else "cannot be read as a model")

"""No file of weights and no model runs code, writes elsewhere or unfolds without end.

Each file here tries: where Python or Keras would let it, a control shows that it does run.
"""

import base64
import copyreg
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
from packages import load_pickle
from test_modelfile import ABOUT, BESIDE, tiny

from covidxray import weights
from covidxray.errors import InputError
from covidxray.images import SIZE
from covidxray.modelfile import ARRAYS, MEMBER, load_model, save_model


class Call:
    """Pickled, it is a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value):
    """A text as an opcode of a pickle."""
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def extension(marker):
    copyreg.add_extension("os", "mkdir", 201)
    return b"\x80\x02\x82\xc9(" + text(marker) + b"tR."


PICKLES = {  # from the name of a folder that shall be made
    "reduce": lambda m: pickle.dumps(Call(os.mkdir, m)),
    "reduce, protocol 0": lambda m: pickle.dumps(Call(os.mkdir, m), 0),
    "eval": lambda m: pickle.dumps(Call(eval, f"__import__('os').mkdir({m!r})")),
    "exec": lambda m: pickle.dumps(Call(exec, f"import os; os.mkdir({m!r})")),
    "system": lambda m: pickle.dumps(Call(os.system, f"mkdir '{m}'")),
    "getattr": lambda m: pickle.dumps(Call(getattr, Call(__import__, "os"), "mkdir")),
    "inst": lambda m: b"(" + text(m) + b"ios\nmkdir\n.",
    "obj": lambda m: b"(cos\nmkdir\n" + text(m) + b"o.",
    "global, protocol 4": lambda m: (
        b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + text(m) + b"\x85R."
    ),
    "extension": extension,
    "in the arrays": lambda m: pickle.dumps({"VGG16_0": {"Conv_0": {"kernel": Call(os.mkdir, m)}}}),
    "in an object array": lambda m: pickle.dumps(np.array([Call(os.mkdir, m)], dtype=object)),
    "as a state": lambda m: (
        pickle.dumps(Call(os.mkdir, m))[:-1] + b"}" + text("a") + text("b") + b"sb."
    ),
}
NO_CONTROL = {  # that Python itself would not run, or that need something else first
    "numpy's own": lambda m: pickle.dumps(Call(np.fromfile, m)),
    "numpy, dotted": lambda m: b"\x80\x04" + text("numpy") + text("ndarray.tofile") + b"\x93)R.",
    "numpy.core, dotted": lambda m: (
        b"\x80\x04" + text("numpy.core.multiarray") + text("_reconstruct.__self__") + b"\x93."
    ),
    "persistent": lambda m: b"P" + m.encode() + b"\n.",
    "newobj": lambda m: b"\x80\x02csubprocess\nPopen\n" + text(f"mkdir {m}") + b"\x85\x81.",
    "build upon a type": lambda m: b"\x80\x02cnumpy\nndarray\n}" + text("a") + text("b") + b"sb.",
    "an array of 10^15": lambda m: (
        b"\x80\x02cnumpy\nndarray\n\x8a\x07" + (10**15).to_bytes(7, "little") + b"\x85R."
    ),
}


@pytest.fixture
def marker(tmp_path):
    """The name of a folder that only code in a file can make."""
    yield str(tmp_path / "ran")
    copyreg.remove_extension("os", "mkdir", 201) if (
        "os",
        "mkdir",
    ) in copyreg._extension_registry else None


@pytest.mark.parametrize("name", [*PICKLES, *NO_CONTROL])
def test_no_pickle_in_place_of_the_weights_is_run(tmp_path, marker, name):
    content = (PICKLES | NO_CONTROL)[name](marker)
    with pytest.raises(InputError, match=r"is damaged or holds no VGG16 weights; get it again"):
        load_pickle(tmp_path, content)
    assert not os.path.exists(marker)


@pytest.mark.parametrize("name", [name for name in PICKLES if name != "getattr"])
def test_the_control_pickles_do_run_where_python_lets_them(marker, name):
    with suppress(AttributeError, TypeError):  # raised after it ran
        pickle.loads(PICKLES[name](marker))
    assert os.path.isdir(marker)


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle"])
def test_no_pickle_in_an_npz_is_read(tmp_path, marker, kind):
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
def test_arrays_of_another_shape_are_no_weights(tmp_path, shape):
    arrays = {f"kernel_{i}": np.zeros(shape) for i in range(weights.LAYERS)}
    arrays |= {f"bias_{i}": np.zeros(64) for i in range(weights.LAYERS)}
    np.savez(tmp_path / "weights.npz", mean=np.zeros(3), std=np.ones(3), **arrays)
    with pytest.raises(InputError, match="holds no VGG16 weights"):
        weights.load_weights(str(tmp_path / "weights.npz"))


def lamb(marker):
    """A Lambda layer whose Python bytecode makes a folder."""
    code = compile(f"lambda x: (__import__('os').mkdir({marker!r}), x)[1]", "x", "eval")
    function = next(part for part in code.co_consts if hasattr(part, "co_code"))
    raw = base64.b64encode(marshal.dumps(function)).decode()
    value = {"class_name": "__lambda__", "config": {"code": raw, "defaults": None, "closure": None}}
    return "keras.layers", "Lambda", None, {"name": "evil", "function": value}


def named(place, name, registered=None, **config):
    return lambda marker: (place, name, registered, config or {"command": f"mkdir {marker}"})


LAYERS = {  # module, class, registered name and config of a layer that tries something
    "lambda": lamb,
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
    save_model(tiny(), path, ABOUT, BESIDE)
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


def test_the_control_lambda_does_run_where_keras_lets_it(tmp_path, saved, marker):
    path = with_layer(saved, tmp_path / "m.keras", lamb(marker))
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


def test_a_file_that_is_both_an_older_model_and_a_zip_is_refused_by_its_name(tmp_path, saved):
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
def test_no_member_of_a_model_file_is_written_elsewhere(tmp_path, saved, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = changed(saved, folder / "m.keras", [(name, b"hostile")])
    with suppress(InputError):
        load_model(path)
    assert not [p for p in tmp_path.rglob("*") if p.name == "outside"]
    assert not any(os.path.exists(place) for place in ("/outside", "/tmp/outside"))


def test_weights_that_lie_in_another_file_are_not_read(tmp_path, saved):
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
def test_a_packed_member_is_refused_before_it_unfolds(tmp_path, saved, member):
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


def test_packed_arrays_are_refused_before_they_unfold(tmp_path, saved):
    arrays = io.BytesIO()
    np.savez_compressed(arrays, mean=np.zeros(weights.LARGEST // 4 + 1, np.float32))
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
        {"threshold": None},
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
def test_a_description_with_fields_of_another_kind_is_refused(tmp_path, saved, fields):
    about = json.dumps({**asdict(ABOUT), **fields})
    refused(changed(saved, tmp_path / "m.keras", **{MEMBER: about}))


def test_a_model_without_class_names_is_refused(tmp_path, saved):
    about = {name: value for name, value in asdict(ABOUT).items() if name != "classes"}
    refused(changed(saved, tmp_path / "m.keras", **{MEMBER: json.dumps(about)}))
    empty = json.dumps({**asdict(ABOUT), "classes": ()})
    said = "its parts do not fit together"
    refused(changed(saved, tmp_path / "n.keras", **{MEMBER: empty}), said)


@pytest.mark.parametrize("damage", ["empty", "half", "zeros", "shuffled", "another zip"])
def test_a_damaged_model_file_is_one_line(tmp_path, saved, damage):
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

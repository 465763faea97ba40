"""One file holds the model and its metadata; any other file is refused with one line."""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from covidxray.data import SIZE
from covidxray.data.class_folder import fill_folder
from covidxray.data.duplicates import perceptual_hash
from covidxray.data.folders import list_tree
from covidxray.data.images import read_image
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError
from covidxray.model.heads import Heads
from covidxray.model.lungs import Segmenter
from covidxray.model.model_file import (
    ARRAYS,
    MEMBER,
    AuxiliaryModels,
    ModelMetadata,
    load_model,
    save_model,
)
from covidxray.model.outliers import OutlierDetector
from covidxray.model.predictor import Predictor

SALT = b"0123456789abcdef"
METADATA = ModelMetadata(
    classes=("covid", "normal"),
    positive="covid",
    threshold=0.25,
    synthetic=True,
    recipe="portable",
    region="whole",
    salt=SALT.hex(),
    trained_on=["ab" * 32],
    hashes=["0f" * 32],
    patients=["cd" * 16],
    card={"data set": "two classes", "weights": "Größe"},
)
DETECTOR = OutlierDetector(
    mean=np.zeros(3, np.float32),
    scale=np.ones(3, np.float32),
    axes=np.eye(3, dtype=np.float32)[:1],
    limit=np.float32(2.5),
)


def some_arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


AUXILIARY = AuxiliaryModels(
    DETECTOR,
    Segmenter(*some_arrays(0, 4, 4), *(some_arrays(k, 2, 3, 2, 1) for k in (1, 2))),
    {
        pool: Heads(*some_arrays(k, (1, 3), (1, 3)), *(some_arrays(k, (1, 3, 2), (1, 2)),) * 2)
        for k, pool in enumerate(("lungs", "outside"))
    },
    {
        "frame": Heads(
            *some_arrays(9, (1, 56), (1, 56)), *[(a,) for a in some_arrays(8, (1, 56, 2), (1, 2))]
        )
    },
)


def tiny(classes=2):
    """A model that is quick to load: three mean colours -> probabilities."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    model = tiny()
    save_model(model, path, METADATA, AUXILIARY)
    return path, model


def test_a_saved_model_is_loaded_with_its_metadata_and_auxiliary_models(saved):
    path, model = saved
    loaded, metadata, auxiliary = load_model(path)
    assert metadata == METADATA
    assert auxiliary.other_heads.keys() == {"lungs", "outside"}
    expected = AUXILIARY.to_arrays()
    assert len(expected) == 4 + 10 + 2 * 6 + 4
    assert auxiliary.to_arrays().keys() == expected.keys()
    assert auxiliary.baselines.keys() == {"frame"}
    for name, array in auxiliary.to_arrays().items():
        np.testing.assert_array_equal(array, expected[name])
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict_on_batch(pixels), model.predict_on_batch(pixels))


@pytest.mark.slow
def test_plain_keras_predicts_raw_pictures_as_the_program_does(trained):
    path, folder = trained
    paths = list_tree(folder)[0][:4]
    pixels = np.stack([read_image(path) for path in paths])
    model = keras.saving.load_model(path, safe_mode=True)
    ours = np.stack([p.probabilities for p in Predictor(path).predict(pixels)])
    assert ours.std(axis=0).min() > 0
    np.testing.assert_allclose(model.predict(pixels, verbose=0), ours, atol=1e-5)


def refused(path):
    """The line that says why a file is no model."""
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def reloaded(trained):
    """The trained model as plain Keras loads it, and pixels: drawings, a blank and half a blank."""
    model = keras.saving.load_model(trained[0], safe_mode=True)
    paths = [next((trained[1] / name).glob("*.jpg")) for name in ("covid", "normal")]
    pixels = [read_image(path) for path in paths] + [np.zeros((SIZE, SIZE, 3))] * 2
    pixels = np.stack(pixels).astype(np.float32)
    pixels[3, : SIZE // 2] = 255
    return model, pixels


@pytest.mark.long
@pytest.mark.slow
def test_the_grad_cam_of_a_tutorial_is_finite(reloaded):
    """Grad-CAM as keras.io has it: gradients of a class's score at the last convolution."""
    import tensorflow as tf

    model, pixels = reloaded
    maps = model.get_layer("last_convolution").output
    with tf.GradientTape() as tape:
        last, probabilities = keras.Model(model.inputs, [maps, model.output])(pixels)
        score = probabilities[:, 0]
    gradient = tape.gradient(score, last)
    heat = tf.reduce_sum(last * tf.reduce_mean(gradient, axis=(1, 2), keepdims=True), axis=-1)
    assert np.isfinite(heat.numpy()).all()
    assert np.abs(gradient.numpy()[:2]).max() > 0


@pytest.mark.long
@pytest.mark.slow
def test_one_step_of_fine_tuning_leaves_finite_weights(trained, reloaded):
    model, pixels = keras.saving.load_model(trained[0], safe_mode=True), reloaded[1]
    for layer in model.layers:
        layer.trainable = True
    before = [np.asarray(weight) for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1e-4), "sparse_categorical_crossentropy")
    model.fit(pixels, np.array([0, 1, 0, 1]), verbose=0)
    after = [np.asarray(weight) for weight in model.trainable_weights]
    assert len(after) > 20  # the convolutions, too
    assert all(np.isfinite(weight).all() for weight in after)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))


def test_a_file_that_is_not_a_model_is_refused_with_one_line(tmp_path, saved, picture):
    assert "no such file" in refused(tmp_path / "none.keras")
    for content in (b"", picture(1), b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(100)):
        path = tmp_path / "other.keras"
        path.write_bytes(content)
        refused(path)
    (tmp_path / "folder.keras").mkdir()
    refused(tmp_path / "folder.keras")
    tiny().save(tmp_path / "foreign.keras")
    said = refused(tmp_path / "foreign.keras")
    assert "is not a model of this program" in said and "train_covid19.py" in said


def test_a_damaged_model_is_refused_wherever_the_damage_is(tmp_path, saved):
    whole = saved[0].read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.keras"
    for cut in rng.integers(1, len(whole), 8):
        path.write_bytes(whole[:cut])
        refused(path)
    for start in rng.integers(0, len(whole) - 64, 40):
        path.write_bytes(whole[:start] + rng.bytes(64) + whole[start + 64 :])
        try:
            load_model(path)
        except InputError as error:
            assert "\n" not in str(error)


def rewritten(source, path, **members):
    """A copy of a model file in which some members have other content."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name, old.read(name)))
    return path


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{}", b"{", b"\xff", b'{"classes": 1}', b'{"classes": null}']
)
def test_invalid_metadata_is_refused(tmp_path, saved, content):
    refused(rewritten(saved[0], tmp_path / "m.keras", **{MEMBER: content}))


def arrays_of(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"x", arrays_of(mean=1), arrays_of(mean=np.array([{}], dtype=object))]
)
def test_invalid_and_pickled_arrays_are_refused(tmp_path, saved, content):
    refused(rewritten(saved[0], tmp_path / "m.keras", **{ARRAYS: content}))


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[]"])
def test_an_invalid_network_is_refused(tmp_path, saved, member, content):
    refused(rewritten(saved[0], tmp_path / "m.keras", **{member: content}))


@pytest.mark.parametrize(
    "changed",
    [{"classes": ("covid", "flu", "normal")}, {"positive": "flu"}, {"recipe": "another"}],
)
def test_parts_of_different_models_are_refused(tmp_path, changed):
    path = tmp_path / "m.keras"
    save_model(tiny(), path, replace(METADATA, **changed), AUXILIARY)
    assert "do not fit together" in refused(path)


def test_no_code_in_the_file_is_run(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Lambda(lambda x: x)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    save_model(model, tmp_path / "m.keras", METADATA, AUXILIARY)
    refused(tmp_path / "m.keras")


def digests(data):
    return [row.sha256 for row in data.rows]


def hashes_of(data):
    return np.stack([perceptual_hash(read_image(path)) for path in data.paths])


@pytest.fixture
def trained_on(tmp_path, picture):
    """Two patients' pictures, and a model's description that knows the first one only."""
    rows = [ManifestRow("a.png", "hospital", "a", "7"), ManifestRow("b.png", "hospital", "b", "8")]
    fill_folder(tmp_path / "old" / "covid", zip(rows, [picture(1), picture(2)], strict=True))
    data = load_dataset(tmp_path / "old", SALT, classes=METADATA.classes)
    metadata = replace(
        METADATA,
        trained_on=[data.rows[0].sha256],
        hashes=[hashes_of(data)[0].tobytes().hex()],
        patients=[data.patients[0]],
    )
    return data, metadata


def test_a_training_image_is_recognised_by_its_bytes(trained_on):
    data, metadata = trained_on
    strange = ~hashes_of(data)
    assert metadata.trained_images(digests(data), strange).tolist() == [True, False]


def test_a_training_image_is_recognised_in_another_size_and_format(trained_on, tmp_path):
    data, metadata = trained_on
    (tmp_path / "new" / "covid").mkdir(parents=True)
    for path in data.paths:
        copy = Image.open(path).resize((90, 80))
        copy.save(tmp_path / "new" / "covid" / f"{path.stem}.jpg", quality=70)
    copies = load_dataset(tmp_path / "new", SALT, classes=METADATA.classes)
    assert not {row.sha256 for row in copies.rows} & set(metadata.trained_on)
    assert metadata.trained_images(digests(copies), hashes_of(copies)).tolist() == [True, False]


def test_a_training_patient_is_recognised_only_with_the_salt_of_the_model(
    trained_on, tmp_path, picture
):
    _, metadata = trained_on
    rows = [ManifestRow("x.png", "hospital", "x", "7"), ManifestRow("y.png", "elsewhere", "y", "7")]
    fill_folder(tmp_path / "new" / "covid", zip(rows, [picture(3), picture(4)], strict=True))
    for salt, known in ((SALT, [True, False]), (b"another", [False, False])):
        data = load_dataset(tmp_path / "new", salt, classes=METADATA.classes)
        assert metadata.trained_patients(data.patients).tolist() == known
        assert metadata.trained_images(digests(data), hashes_of(data)).tolist() == [False, False]


def test_an_image_without_a_patient_belongs_to_no_training_patient(trained_on, tmp_path, picture):
    _, metadata = trained_on
    (tmp_path / "new" / "covid").mkdir(parents=True)
    (tmp_path / "new" / "covid" / "x.png").write_bytes(picture(5))
    data = load_dataset(tmp_path / "new", SALT, classes=METADATA.classes)
    for patients in ([], ["", *metadata.patients]):
        assert not replace(metadata, patients=patients).trained_patients(data.patients).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "threshold",
    [None, *(pytest.param(limit, marks=pytest.mark.long) for limit in (0.001, 0.999))],
)
def test_the_lines_for_keras_alone_predict_what_the_script_predicts(
    trained, script, tmp_path, threshold
):
    ours = predicted_by_the_script(trained, script, tmp_path, threshold, (448, 448))
    theirs, _, probabilities = run_python(block("cv2.imread"), tmp_path).partition(" ")
    assert theirs == ours["class"]
    found = ast.literal_eval(probabilities)
    assert found == pytest.approx({name: ours[f"P({name})"] for name in found}, abs=2e-3)


def block(word):
    """The one block of code in docs/model.md that has this word."""
    page = (ROOT / "docs" / "model.md").read_text()
    (code,) = [code for code in re.findall(r"```\w+\n(.*?)```", page, re.DOTALL) if word in code]
    return code


def run_python(code, folder):
    """The last line that Python prints; "" if it prints nothing."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ["", *done.stdout.splitlines()][-1]


def predicted_by_the_script(trained, script, folder, threshold, size):
    """A row of the JSON, of a drawing x.png, whose model and picture are then in the folder."""
    model, drawings = trained
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(folder / "covid19.keras", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == MEMBER:
                content = json.dumps({**json.loads(content), "threshold": threshold})
            new.writestr(name, content)
    drawing = Image.open(sorted((drawings / "covid").glob("*.jpg"))[0])
    drawing.resize(size).save(folder / "x.png")
    run = ("-m", "covid19.keras", "x.png", "--json", "x.json", "--precision", "float32")
    assert script("predict_covid19.py", *run, cwd=folder).returncode == 0
    (row,) = json.loads((folder / "x.json").read_text())
    return row


@pytest.mark.long
def test_the_lines_for_this_project_predict_what_the_script_predicts(trained, script, tmp_path):
    ours = predicted_by_the_script(trained, script, tmp_path, None, (300, 260))
    label, probability, *warning = run_python(block("load_predictor"), tmp_path).split()
    assert (label, " ".join(warning)) == (ours["class"], ours["warning"])
    assert float(probability) == pytest.approx(ours["probability"], abs=5e-3)  # of bfloat16


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A folder with the packages that docs/model.md installs for JavaScript."""
    folder = tmp_path_factory.mktemp("node")
    page = (ROOT / "docs" / "model.md").read_text()
    (command,) = re.findall(r"`(npm install [^`]*)`", page)
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node.js is not installed")
    if subprocess.run(command.split(), cwd=folder, capture_output=True).returncode:
        pytest.skip("npm's registry is not in reach")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("threshold", [None, 0.001, 0.999])
def test_javascript_predicts_what_the_script_predicts(node, trained, script, threshold):
    ours = predicted_by_the_script(trained, script, node, threshold, (300, 260))
    if not (node / "covid19.onnx").exists():
        run_python(block("model.export"), node)
    about = json.loads((node / "covid19.json").read_text())
    (node / "covid19.json").write_text(json.dumps({**about, "threshold": threshold}))
    (node / "predict.js").write_text(block("require("))
    command = ["node", "predict.js", "x.png"]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert theirs["class"] == ours["class"]
    expected = [ours[f"P({name})"] for name in about["classes"]]
    assert theirs["probabilities"] == pytest.approx(expected, abs=1e-4)


COMPARE = """
print({name: float(abs(values - expected).max()) for name, values in
       (("onnx", by_onnx), ("saved", by_saved_model), ("lite", by_tflite))})
"""
IMAGES = """
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3)).astype("float32")
expected = model.predict(images, verbose=0)
"""
PREDICT = """
import sys, keras, numpy as np
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
print(keras.__version__, model.predict(images, verbose=0).tolist())
"""


@pytest.fixture(scope="module", params=["whole", "lungs"])
def of_region(request, tmp_path_factory, script):
    """A model that pools this region."""
    folder = tmp_path_factory.mktemp(request.param)
    quick = ("--repeats", 0, "--precision", "float32", "--region", request.param)
    done = script("train_covid19.py", "-d", ROOT / "dataset", *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "covid19.keras"


@pytest.mark.long
def test_onnx_saved_model_and_tflite_agree_with_the_model(of_region, tmp_path):
    shutil.copy(of_region, tmp_path)
    code = block("model.export") + IMAGES + block("onnxruntime.InferenceSession(") + COMPARE
    differences = ast.literal_eval(run_python(code, tmp_path))
    assert list(differences) == ["onnx", "saved", "lite"]
    assert max(differences.values()) < 1e-5


@pytest.mark.long
def test_keras_3_10_loads_the_model_and_predicts_the_same(of_region, tmp_path):
    older = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        tmp_path / "old",
    ]
    if subprocess.run([*older, "keras==3.10.0"], capture_output=True).returncode:
        pytest.skip("no package index is in reach")
    found = []
    for path in ("", str(tmp_path / "old")):
        done = subprocess.run(
            [sys.executable, "-c", PREDICT, of_region],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        version, _, probabilities = done.stdout.strip().splitlines()[-1].partition(" ")
        found.append((version, ast.literal_eval(probabilities)))
    assert found[1][0] == "3.10.0" != found[0][0]
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_a_model_of_an_earlier_version_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "x.keras"
    save_model(tiny(), path, METADATA, AUXILIARY)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    earlier = {"pool" if k == "region" else k: v for k, v in json.loads(members[MEMBER]).items()}
    del earlier["format"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, MEMBER: json.dumps(earlier)}.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="another version of this program; train the model again"):
        load_model(path)

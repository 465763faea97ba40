"""Arrays of trained layers, and a reader of .npz files that runs no code."""

import hashlib
import zipfile
from dataclasses import dataclass
from typing import BinaryIO, Self

import numpy as np

FILTERS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # of VGG16
LARGEST = 200 * 10**6  # bytes of arrays in one file; VGG16 needs 59 million


@dataclass(frozen=True)
class StandardisedLayers:
    """Float32 arrays of layers behind a standardisation, as in the segmenter and the heads."""

    mean: np.ndarray  # subtracted from the inputs
    scale: np.ndarray  # divides them
    kernels: tuple[np.ndarray, ...]  # of the layers, the first layer first
    biases: tuple[np.ndarray, ...]

    @property
    def sha256(self) -> str:
        """Hash of the names, shapes and values of all arrays, in hexadecimal."""
        digest = hashlib.sha256()
        for name, array in self.to_arrays().items():
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name: mean, scale, kernel0, bias0, kernel1, ..."""
        arrays = {"mean": self.mean, "scale": self.scale}
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            arrays |= {f"kernel{i}": kernel, f"bias{i}": bias}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Create the layers from the result of `to_arrays`.

        Raises:
            KeyError: an array is missing.
        """
        layers = range(sum(name.startswith("kernel") for name in arrays))
        kernels = tuple(arrays[f"kernel{i}"] for i in layers)
        biases = tuple(arrays[f"bias{i}"] for i in layers)
        return cls(arrays["mean"], arrays["scale"], kernels, biases)


@dataclass(frozen=True)
class Weights:
    """The 13 convolutions of VGG16, in float32.

    Raises:
        ValueError: the arrays have other shapes or are not floating-point numbers.
    """

    name: str
    kernels: list[np.ndarray]  # (3, 3, in, out); the first one takes RGB
    biases: list[np.ndarray]  # (out,)
    mean: np.ndarray  # (3,), of RGB from 0 to 255
    std: np.ndarray  # (3,)

    def __post_init__(self) -> None:
        widths = zip((3, *FILTERS[:-1]), FILTERS, strict=True)
        shapes = [shape for n, m in widths for shape in ((3, 3, n, m), (m,))] + [(3,), (3,)]
        layers = zip(self.kernels, self.biases, strict=True)
        arrays = [*(array for layer in layers for array in layer), self.mean, self.std]
        if [a.shape for a in arrays] != shapes or any(a.dtype.kind != "f" for a in arrays):
            raise ValueError("not the arrays of VGG16")

    @property
    def sha256(self) -> str:
        """SHA-256 of all arrays as float32, in hexadecimal; it does not depend on their file."""
        digest = hashlib.sha256()
        for array in [*self.kernels, *self.biases, self.mean, self.std]:
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return digest.hexdigest()


def read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file from an untrusted source.

    Nothing is unpickled, and no more than `LARGEST` bytes are decompressed.

    Raises:
        ValueError: the file holds pickled objects or too many bytes. A damaged file makes zipfile
            and NumPy raise many other kinds of exceptions.
    """
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise ValueError("too large")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)

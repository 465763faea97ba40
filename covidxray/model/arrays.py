"""Named arrays in .npz files: the form of the trained layers, and a reader that runs no code."""

import hashlib
import zipfile
from dataclasses import dataclass
from typing import BinaryIO, Self

import numpy as np

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

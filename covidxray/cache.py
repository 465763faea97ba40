"""What was computed of an image is kept on disk, so that a second run of a job computes none of it.

An entry is a safetensors file, named by a hash of all that determines it. safetensors (Apache-2.0)
is kept up, needs nothing but NumPy, and reading runs no code, whatever a file holds; diskcache
unpickles what it reads and had its last release in 2023; zarr is for arrays larger than memory,
these have 10 KB. It has no checksum, so an entry holds one. Entries are written beside their place
and renamed into it: runs may share a folder, and a run that is killed leaves no half entry.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from covidxray.cli import info
from covidxray.errors import InputError
from covidxray.files import whole_file

LIMIT = 2 * 10**9  # bytes: about 200,000 images
CHECKSUM = "checksum"


class Cache:
    """Named arrays by key in a folder; those not used for longest go where it outgrows `limit`.

    It is brought down to nine tenths of the limit whenever a run has written a twentieth of it, so
    that two runs that share it stay below the limit together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder, self.limit = folder, limit
        self._written = limit  # bytes since the folder was last looked through: not yet
        self._said = False

    def __str__(self) -> str:
        files = self._files()
        entries = sum(name[0] != "." for _, _, name in files)
        size = sum(size for _, size, _ in files)
        return f"{self.folder}: {entries} images, {size / 1e6:.1f} MB of {self.limit / 1e6:.0f} MB"

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """An entry; None if there is none, or if it is damaged, which is said once."""
        path = self._place(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):  # others may read what they may not write
            os.utime(path)
        try:
            arrays = load(content)
            if arrays.pop(CHECKSUM).tobytes() == _checksum(key, arrays):
                return arrays
        except (SafetensorError, KeyError, ValueError, TypeError):
            pass
        if not self._said:
            info(f"{path}: is damaged; it is computed again, and so is any other")
            self._said = True
        return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep an entry. Where the folder cannot be written to, that is said, and no error."""
        if self.limit == 0:
            return
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        checksum = np.frombuffer(_checksum(key, arrays), np.uint8)
        content = save({**arrays, CHECKSUM: checksum})
        path = self._place(key)
        try:
            if self._written > self.limit / 20:
                self._trim()
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                part.write_bytes(content)
        except (OSError, InputError) as error:
            info(f"features are not kept: {error}")
            self.limit = 0
        self._written += len(content)

    def _place(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _files(self) -> list[tuple[float, int, str]]:
        """When each file was last used, its size, and its name; half-written ones among them."""
        found = []
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            for entry in os.scandir(folder):
                try:
                    status = entry.stat()
                except OSError:  # another run has just removed it
                    continue
                found.append((status.st_mtime, status.st_size, entry.name))
        return sorted(found)

    def _trim(self) -> None:
        files = self._files()
        excess = sum(size for _, size, _ in files) - 0.9 * self.limit
        for _, size, name in files:
            if excess <= 0:
                break
            (self.folder / name.lstrip(".")[:2] / name).unlink(missing_ok=True)
            excess -= size
        self._written = 0


def _checksum(key: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.blake2b(key.encode(), digest_size=32)
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.digest()

"""Keep the arrays computed from an image on disk, so that a second run need not compute them.

An entry is a safetensors file named by a hash of everything that determines its content. The
safetensors format needs only NumPy, and reading it runs no code, whatever the file holds. It has
no checksum, so each entry stores one. Entries are written to a temporary file and renamed: several
runs can share a folder, and a run that is killed leaves no incomplete entry.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from covidxray.errors import InputError
from covidxray.files import atomic_write

LIMIT = 2 * 10**9  # bytes: about 200,000 images
CHECKSUM = "checksum"
logger = logging.getLogger(__name__)


class Cache:
    """Named arrays by key, in the files of a folder of at most `limit` bytes.

    The entries used least recently are removed when the folder grows too large. A run reduces the
    folder to nine tenths of the limit each time it has written a twentieth of the limit, so that
    two runs that share a folder stay below the limit together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder, self.limit = folder, limit
        self._written = limit  # bytes since the last trim; this value makes the first `put` trim
        self._damage_reported = False

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays stored under `key`; None if there are none or if they are damaged.

        The first damaged entry is reported in the log.
        """
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):  # the folder may be read-only for this user
            os.utime(path)
        with suppress(SafetensorError, KeyError, ValueError, TypeError):
            arrays = load(content)
            if arrays.pop(CHECKSUM).tobytes() == _checksum(key, arrays):
                return arrays
        if not self._damage_reported:
            logger.info("%s: cache entry is damaged; damaged entries are computed again", path)
            self._damage_reported = True
        return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Store arrays under `key`.

        If the folder cannot be written to, this is reported in the log and nothing more is stored.
        """
        if self.limit == 0:
            return
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        checksum = np.frombuffer(_checksum(key, arrays), np.uint8)
        content = save({**arrays, CHECKSUM: checksum})
        path = self._path(key)
        try:
            if self._written > self.limit / 20:
                self._trim()
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as part:
                part.write_bytes(content)
        except (OSError, InputError) as error:
            logger.info("computed features are not kept in the cache: %s", error)
            self.limit = 0
        self._written += len(content)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _trim(self) -> None:
        """Remove the least recently used files until nine tenths of the limit are left."""
        files = []  # time of last use, size, path; temporary files of killed runs included
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):  # another run has just removed it
                    status = entry.stat()
                    files.append((status.st_mtime, status.st_size, Path(entry.path)))
        excess = sum(size for _, size, _ in files) - 0.9 * self.limit
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
        self._written = 0


def open_cache(folder: Path | None, engine: str) -> Cache | None:
    """The cache in a folder; None without a folder, and with the Ray engine, which uses none."""
    return Cache(folder) if folder and engine == "local" else None


def _checksum(key: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.blake2b(key.encode(), digest_size=32)
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.digest()

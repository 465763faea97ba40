"""Files that are whole or not there."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from covidxray.errors import InputError


def cache_folder() -> Path:
    """The user's cache folder for this program, or what COVIDXRAY_CACHE names."""
    default = platformdirs.user_cache_path("covidxray", appauthor=False)
    return Path(os.environ.get("COVIDXRAY_CACHE") or default)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """A file on this machine with the bytes of `path`, which may be in object storage (`UPath`).

    Raises:
        InputError: it cannot be fetched.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="covidxray-") as folder:
        copy = Path(folder, path.name)
        try:
            copy.write_bytes(path.read_bytes())
        except Exception as error:  # every kind of storage has errors of its own
            raise InputError(f"{path}: cannot be fetched ({error})") from error
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), str(path))) from error


def is_remote(path: Path) -> bool:
    """Whether a path is a `UPath`, which reads through fsspec, rather than a plain one."""
    return hasattr(path, "fs")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it into place once the block has ended well.

    The stand-in keeps the suffix, because writers choose their format by it.

    Raises:
        InputError: `path` is a folder, or its folder does not exist or cannot be written to.
    """
    check_writable(path)
    part = _beside(path)
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def check_writable(path: Path) -> None:
    """Say before the work begins that an output file could not be written, by trying to.

    Raises:
        InputError: `path` is a folder or no plain file, or its folder does not exist or cannot be
            written to.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):  # to rename a file onto it would end it
        raise InputError(f"{path}: is a device or a pipe; give the name of a file")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path.parent}: no such folder for {path.name}; make it first")
    try:
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another") from error


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path] = ()) -> None:
    """Say before the work begins that an output file could not be written (`check_writable`), or
    would overwrite an input or another output.

    Raises:
        InputError: it is so.
    """
    taken = {path.resolve() for path in inputs}
    for path in filter(None, outputs):
        check_writable(path)
        if path.resolve() in taken:
            raise InputError(f"{path}: is needed for something else; give another name")
        taken.add(path.resolve())

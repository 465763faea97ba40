"""Reading and writing files: digests, and outputs that are whole or absent."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import platformdirs

from covidxray.errors import InputError

_unfinished: set[Path] = set()


def cache_folder() -> Path:
    """The user's cache folder for this program, or what COVIDXRAY_CACHE names."""
    default = platformdirs.user_cache_path("covidxray", appauthor=False)
    return Path(os.environ.get("COVIDXRAY_CACHE") or default)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_remote(path: Path) -> bool:
    """Whether a path is a `UPath`, which reads from object storage through fsspec."""
    return hasattr(path, "fs")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` once the block has ended well.

    The temporary path keeps the suffix, because writers choose their format by it. Raises
    InputError if `path` cannot be written (`check_writable`) or the disk is full.
    """
    with atomic_writes() as output, output(path) as temporary:
        yield temporary


@contextmanager
def atomic_writes() -> Iterator[Callable[[Path], AbstractContextManager[Path]]]:
    """Write several files of one run: all are renamed into place at the end of the block, or none.

    Yields a function `output`; `with output(path) as temporary:` works as `atomic_write` does, but
    for the renaming.
    """
    temporary: dict[Path, Path] = {}

    @contextmanager
    def output(path: Path) -> Iterator[Path]:
        _check_place(path)
        temporary[path] = temporary_path(path)
        _unfinished.add(temporary[path])
        with _naming_in_errors(path):
            yield temporary[path]

    try:
        yield output
        for path, written in temporary.items():
            with _naming_in_errors(path):
                os.replace(written, path)
    finally:
        for written in temporary.values():
            written.unlink(missing_ok=True)
            _unfinished.discard(written)


def remove_unfinished() -> None:
    """Remove the temporary files of this process, for a process that ends at once."""
    for path in list(_unfinished):
        with suppress(OSError):
            path.unlink()


@contextmanager
def _naming_in_errors(path: Path) -> Iterator[None]:
    """Turn what the system raises while `path` is written into an InputError that names it."""
    try:
        yield
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise InputError(f"{path}: {reason}; make room there or choose another place") from error


def temporary_path(path: Path) -> Path:
    """A new hidden path next to `path`, with its suffix."""
    return path.with_name(f".{path.name}.covidxray-{secrets.token_hex(4)}{path.suffix}")


def check_outputs(*paths: Path | None, needed: Iterable[Path] = ()) -> None:
    """Check before the work begins that outputs can be written and replace nothing that is needed.

    Raises InputError if one of the `paths` cannot be written (`check_writable`), two are one file,
    or one is among the files `needed` by the run. A path is None if that output is not wanted.
    """
    taken = {os.path.realpath(str(path)) for path in needed}
    for path in filter(None, paths):
        check_writable(path)
        if os.path.realpath(path) in taken:
            raise InputError(f"{path}: is needed for something else; give another name")
        taken.add(os.path.realpath(path))


def check_writable(path: Path) -> None:
    """Check that an output file can be written, by creating a temporary file next to it.

    Raises InputError if `path` is a folder, a device or a pipe, or if its folder does not exist or
    takes no new file.
    """
    with _naming_in_errors(path):
        _check_place(path)
        trial = temporary_path(path)
        trial.touch()
        trial.unlink()


def _check_place(path: Path) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):  # a rename would replace the device
        raise InputError(f"{path}: is a device or a pipe; give the name of a file")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path.parent}: no such folder for {path.name}; make it first")

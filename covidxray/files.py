"""Files that are whole or not there."""

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
        InputError: `path` is a folder, or its folder does not exist, cannot be written to or is on
            a disk that is full.
    """
    with whole_files() as begin:
        part = begin(path)
        with naming(path):
            yield part


@contextmanager
def whole_files() -> Iterator[Callable[[Path], Path]]:
    """`whole_file` for the outputs of one run: a function from each to its stand-in. They are
    renamed together, once the block has ended well."""
    parts: dict[Path, Path] = {}

    def begin(path: Path) -> Path:
        _check_place(path)
        parts[path] = stand_in(path, path.suffix)
        _unfinished.add(parts[path])
        return parts[path]

    try:
        yield begin
        for path, part in parts.items():
            with naming(path):
                os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
            _unfinished.discard(part)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an InputError that names `path` of what the system says while it is written."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        mend = "make room there or choose another place"
        raise InputError(f"{path}: cannot be written ({why}); {mend}") from error


def check_outputs(*paths: Path | None, needed: Iterable[Path] = ()) -> None:
    """`check_writable` for several; nor may two be one file, or one that the run needs.

    Raises:
        InputError: one of them cannot be written, or would replace another.
    """
    taken = {os.path.realpath(str(path)) for path in needed}
    for path in filter(None, paths):
        check_writable(path)
        if os.path.realpath(path) in taken:
            raise InputError(f"{path}: is needed for something else; give another name")
        taken.add(os.path.realpath(path))


def check_writable(path: Path) -> None:
    """Say before the work begins that an output file could not be written, by trying to.

    What runs that were killed left beside it is cleared away.

    Raises:
        InputError: `path` is a folder or no plain file, or its folder does not exist or cannot be
            written to.
    """
    _check_place(path)
    sweep(path.parent)
    trial = stand_in(path, path.suffix)
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another") from error


def _check_place(path: Path) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):  # to rename a file onto it would end it
        raise InputError(f"{path}: is a device or a pipe; give the name of a file")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path.parent}: no such folder for {path.name}; make it first")


# Machines may share a folder, and a process number means something on its own machine alone.
_MARK = f".covidxray-{platform.node()[:20]}-"
_STAND_IN = re.compile(
    rf"\.(?P<name>.*){re.escape(_MARK)}(?P<process>\d+)(?P<suffix>\.[^.]*)?", re.DOTALL
)
_unfinished: set[Path] = set()


def stand_in(path: Path, suffix: str) -> Path:
    """A hidden path beside `path`, of this process, to be renamed to it or away from it."""
    return path.with_name(f".{path.name}{_MARK}{os.getpid()}{suffix}")


def sweep(folder: Path) -> None:
    """Clear away what processes of this machine that are no more left in `folder`.

    A folder that was about to be replaced (`stand_in` with ".old") goes back to its place.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            found = _STAND_IN.fullmatch(path.name)
            if not found or _is_alive(int(found["process"])):
                continue
            place = folder / found["name"]
            if found["suffix"] == ".old" and not place.exists():
                path.rename(place)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def abandon() -> None:
    """Remove what is not finished, because the process ends here."""
    for path in list(_unfinished):
        with suppress(OSError):
            path.unlink()


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # on Windows `os.kill` ends a process, whatever the signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True

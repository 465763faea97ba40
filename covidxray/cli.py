"""What the scripts share: the parser, `[INFO]` lines, exit codes."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from covidxray.errors import InputError

DISCLAIMER = "For learning and research only: this is not a medical device."


def make_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser that shows every default and the disclaimer."""
    return argparse.ArgumentParser(
        description=description,
        epilog=DISCLAIMER,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def number(
    kind: type, *, at_least: float, below: float | None = None, above: bool = False
) -> Callable[[str], float]:
    """A type for argparse: a number that is at least (or `above`) a bound, and below another."""

    def parse(text: str) -> float:
        value = kind(text)
        wrong = value <= at_least if above else value < at_least
        if wrong or value != value or (below is not None and value >= below):
            low = "more than" if above else "at least"
            high = f" and less than {below}" if below is not None else ""
            raise argparse.ArgumentTypeError(f"{text}: must be {low} {at_least}{high}")
        return value

    parse.__name__ = kind.__name__  # argparse names it when the text is no number at all
    return parse


def existing_folder(text: str) -> Path:
    """A type for argparse: a folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return path


def class_folder(text: str) -> tuple[str, Path]:
    """A type for argparse: CLASS=DIR, a class's name and a folder that is there."""
    name, separator, folder = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text}: must be CLASS=DIR, such as normal=our-normals")
    return name, existing_folder(folder)


def info(message: str) -> None:
    """Progress, on stderr, as the tutorial writes it."""
    print(f"[INFO] {message}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """One line that every terminal and encoding takes: other characters become escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # None: to import it fails
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def quiet_backend() -> Iterator[None]:
    """Start Keras: the block drops what TensorFlow's C++ side writes to stderr, whatever one sets.

    Keras imports scikit-learn and Matplotlib, a third of its own time, if they are there, for parts
    that are not used here. It starts without them; whoever needs them imports them after it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        with _hidden("sklearn", "matplotlib"):
            import keras  # noqa: F401
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(sink)


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`: exit code 0, 2 for what the user can mend, 130 for Ctrl-C."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

"""What the scripts share: `[INFO]` lines, how Keras is started, exit codes."""

import atexit
import errno
import gc
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from covidxray.errors import InputError
from covidxray.files import abandon

if TYPE_CHECKING:
    from covidxray.dataset import Dataset

DISCLAIMER = "For learning and research only: this is not a medical device."
UNPRINTED = (errno.ENOSPC, errno.EFBIG)
GRACE = 0.5  # seconds to tidy up after Ctrl-C


def info(message: str) -> None:
    """Progress, on stderr, as the tutorial writes it."""
    print(f"[INFO] {printable(message)}", file=sys.stderr, flush=True)


def show(data: "Dataset", before: int = 0) -> None:
    """A data set's line, on stdout, and why images were left out, but for the `before` first."""
    print(data)
    for error in data.left_out[before:]:
        info(f"left out: {error}")


def leave_out(data: "Dataset", unread: Mapping[int, InputError]) -> "Dataset":
    """The data set without images that could not be read, by index; if there are such, `show` it.

    Raises:
        InputError: no others are there.
    """
    if not unread:
        return data
    rest = data.without(unread)
    show(rest, len(data.left_out))
    return rest


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

    Keras imports scikit-learn, Matplotlib and pandas, a third of its own time, if they are there,
    for parts that are not used here. It starts without; whoever needs them imports them after it.
    What is imported stays: to look through it for garbage, again and again, takes as long.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    gc.disable()
    try:
        with _hidden("sklearn", "matplotlib", "pandas"):
            import keras  # noqa: F401
        yield
    finally:
        gc.freeze()
        gc.enable()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(sink)


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`: exit code 0, 2 for what the user can mend, 130 for Ctrl-C, 143 for
    SIGTERM, and 141 where nobody reads its output any more, as after `| head`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name need not be text
    # Once all is done, Python's own end is not interrupted.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    atexit.register(gc.freeze)  # nor does Python look for garbage in all that ends with it
    with _soon_stopped():
        try:
            try:
                main()
            finally:
                _flush()
        except InputError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            sys.exit(2)
        except BrokenPipeError:
            sys.exit(141)
        except OSError as error:
            # `whole_file` tells a file's own errors: one without a name is of what was printed.
            if error.filename is None and error.errno not in UNPRINTED:
                raise
            line = f"standard output: cannot be written ({error.strerror})"
            if error.filename is not None:
                line = f"{error.filename}: {error.strerror}; check its name and permissions"
            print(f"error: {printable(line)}", file=sys.stderr)
            sys.exit(2)


def _flush() -> None:
    try:
        print(end="", flush=True)
    except OSError:  # drop it: Python would try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def _soon_stopped() -> Iterator[None]:
    """Ctrl-C or SIGTERM in the block ends the process in little more than `GRACE` seconds.

    They raise KeyboardInterrupt, and what is open tidies up. But Python hears of a signal only
    after the forward pass that it is in, and imported code may swallow what is raised: if the
    process is still there after `GRACE`, a thread that the signal itself wakes ends it.
    """

    def stop(number: int, _) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the tidying up
        raise KeyboardInterrupt(number)

    def watch() -> None:
        with inner:
            if number := inner.recv(1):
                time.sleep(GRACE)
                abandon()
                os._exit(128 + number[0])

    inner, outer = socket.socketpair()
    outer.setblocking(False)
    kinds = [k for k in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(k) != signal.SIG_IGN]
    threading.Thread(target=watch, daemon=True).start()
    before = signal.set_wakeup_fd(outer.fileno()), [signal.signal(kind, stop) for kind in kinds]
    try:
        yield
    finally:
        signal.set_wakeup_fd(before[0])
        for kind, handler in zip(kinds, before[1], strict=True):
            signal.signal(kind, handler)
        outer.close()


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python calls for an exception that nothing caught (`sys.excepthook`).

    At once, because TensorFlow takes another second to end in order.
    """
    if isinstance(error, KeyboardInterrupt):
        os._exit(128 + (error.args[0] if error.args else signal.SIGINT))
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _end  # from here on, the imports that follow included

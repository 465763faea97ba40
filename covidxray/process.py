"""How a script starts Keras, reports its progress, and ends: by itself, by an error, or by Ctrl-C.

Exit codes: 0 done, 2 bad input or usage, 130 Ctrl-C, 143 SIGTERM, 141 nobody reads the output any
more (as after `| head`), and 1 for a defect of this program.
"""

import builtins
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from covidxray.errors import InputError, printable
from covidxray.files import remove_unfinished

GRACE = 0.5  # seconds that a stopped script has for removing its temporary files
STOPS = signal.SIGINT, signal.SIGTERM
UNUSED = ("sklearn", "matplotlib", "pandas")  # Keras imports them for parts that are not used here


class _InfoHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"[INFO] {printable(record.getMessage())}", file=sys.stderr, flush=True)


# The library reports its progress to this logger, and so do the scripts.
_logger = logging.getLogger("covidxray")
_logger.setLevel(logging.INFO)
_logger.propagate = False  # TensorFlow gives the root logger a handler of its own
_logger.addHandler(_InfoHandler())
info = _logger.info  # writes `[INFO] message` to stderr, as the tutorial does

_in_backend = threading.Event()  # set while TensorFlow's C++ code may call Python


@contextmanager
def quiet_backend() -> Iterator[None]:
    """Import Keras at the start of the block, and drop what TensorFlow writes to stderr in it.

    TensorFlow's C++ code writes to the file descriptor, whatever its log level. The import takes a
    third less time without the modules in `UNUSED`, and half as long without garbage collection of
    what it creates. Later blocks leave the collection alone, so that a notebook's networks go.
    """
    first = "keras" not in sys.modules
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
    if first:
        gc.disable()
    _in_backend.set()
    absent = [name for name in UNUSED if name not in sys.modules]
    try:
        for name in absent:
            sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError
        import keras  # noqa: F401

        # It warns that a network was traced for several sizes of a batch.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        for name in absent:
            del sys.modules[name]
        yield
    finally:
        _in_backend.clear()
        if first:
            gc.freeze()
            gc.enable()
        os.dup2(stderr, 2)
        os.close(stderr)


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main` and turn what it raises into a line on stderr and an exit code.

    Run by IPython (`%run`), the process is not the script's: signals and the end are IPython's.
    """
    alone = not hasattr(builtins, "__IPYTHON__")
    if alone:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # file names
        _end_soon_after_a_signal()
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except InputError as error:
        _exit_with_error(str(error))
    except KeyboardInterrupt as stopped:
        if not alone:
            raise
        number = stopped.args[0] if stopped.args else signal.SIGINT
        os._exit(128 + number)  # TensorFlow takes another second to end in order
    except OSError as error:
        if error.filename is not None:
            _exit_with_error(f"{error.filename}: {error.strerror}; check its name and permissions")
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EFBIG):
            raise
        # Errors of files name the file (`files.atomic_write`), so this one is of standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes to it again
        if error.errno == errno.EPIPE:
            sys.exit(141)
        _exit_with_error(f"standard output: cannot be written ({error.strerror}); make room there")
    finally:
        for kind in STOPS if alone else ():
            signal.signal(kind, signal.SIG_DFL)  # Python's own end need not be waited for
        gc.freeze()  # Python would look for garbage in all of TensorFlow before it ends


def _exit_with_error(message: str) -> None:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def _end_soon_after_a_signal() -> None:
    """Let Ctrl-C or SIGTERM end this process little more than `GRACE` seconds later.

    The signal raises KeyboardInterrupt, so that open files are removed. But Python handles a signal
    only between two of its own instructions, and an epoch of training is one call of TensorFlow;
    imported code may also swallow the exception, as Python itself does in a finaliser or a callback
    of its garbage collector (and prints a traceback, which is dropped here). The system, however,
    writes the signal's number to a socket at once: a thread that reads it there ends the process if
    nothing else has.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def interrupt(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second signal would interrupt the removal
        if _in_backend.is_set():
            os._exit(128 + number)  # C++ code aborts where it meets a Python exception
        raise KeyboardInterrupt(number)

    def end_after_grace() -> None:
        (number,) = receiver.recv(1)
        time.sleep(GRACE)
        remove_unfinished()
        os._exit(128 + number)

    def drop_interrupts(ignored: "sys.UnraisableHookArgs") -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(ignored)

    sys.unraisablehook = drop_interrupts
    threading.Thread(target=end_after_grace, daemon=True).start()
    signal.set_wakeup_fd(sender.detach())
    for kind in STOPS:
        if signal.getsignal(kind) != signal.SIG_IGN:
            signal.signal(kind, interrupt)

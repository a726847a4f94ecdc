"""Every error a user can meet, with the exit code it ends a command with.

AerialError                1  internal error
├── UsageError             2  the command line or the config file asks for something that cannot be
├── InputError             3  a file the user named is missing, damaged or of the wrong kind
│   └── ModelError         3  a model, its card, or what it computes
├── CameraError            4  no frames to be had from a camera
├── ResourceError          5  device, backend, socket or disk
└── CheckError             6  a check that was asked for failed (parity, score limits)

A message is one sentence that names the thing and says what to do. What a signal has ended exits with 130 (SIGINT,
Ctrl-C) or 143 (SIGTERM), as shells say it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aerial_runtime.log import fail
from aerial_runtime.say import fill_closed_streams, flush_stdout, say, stderr_free

INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM


class AerialError(Exception):
    """Base of all errors that end a command with a sentence instead of a traceback."""

    exit_code = 1


class UsageError(AerialError):
    """The command line or the config file asks for something that cannot be."""

    exit_code = 2


class InputError(AerialError):
    """A file the user named is missing, damaged or of the wrong kind."""

    exit_code = 3


class ModelError(InputError):
    """A model file, its card, or what the model computes is not usable."""


class CameraError(AerialError):
    """A camera gives no frames."""

    exit_code = 4


class ResourceError(AerialError):
    """Device, backend, socket or disk is not available."""

    exit_code = 5


class CheckError(AerialError):
    """A check that was asked for has failed."""

    exit_code = 6


def run_command(name: str, command: Callable[[], int]) -> int:
    """Run a command's body; turn an `AerialError` into its sentence on stderr and its exit code.

    Ctrl-C outside a command's own handling exits with 130, SIGTERM with 143, as shells do. Anything else is a bug
    and keeps its traceback.
    """
    fill_closed_streams()
    with _sigterm_interrupts() as terminated:
        code = _exit_code(name, command)
        return TERMINATED if code == INTERRUPTED and terminated.is_set() else code


def _exit_code(name: str, command: Callable[[], int]) -> int:
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk still is an error and a reader that has gone none
        return code
    except AerialError as error:
        with stderr_free():  # a reader that was left behind may decode a picture
            fail(name, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        with stderr_free():
            say(f"{name}: interrupted", error=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone (aerial-listen | head): not an error
        return 0
    finally:
        with stderr_free():  # for a traceback, too; and the interpreter must not end under a decoder at work
            flush_stdout()  # also after --help, which ends the process from within the command


@contextmanager
def _sigterm_interrupts() -> Iterator[threading.Event]:
    """Let SIGTERM do what Ctrl-C does, so that whatever tidies up does so; give an event that tells that it came.

    Once: `timeout` sends it twice, and the second must not interrupt the tidying. Who listens already, goes on to.
    """
    came = threading.Event()

    def interrupt(*_: object) -> None:
        if not came.is_set():
            came.set()
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

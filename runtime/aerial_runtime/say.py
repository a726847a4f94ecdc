"""Lines for a person, on stdout or stderr. That nobody can take them must never end a flight."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

FREE_S: Final = 5.0  # that the end of a command waits for stderr: no picture takes as long to decode
stderr_taken = threading.Lock()  # held while the process's stderr is another file: camera/image_file.py


@contextmanager
def stderr_free() -> Iterator[None]:
    """Wait until stderr is itself again, and keep it so during the block. Only the end of a command needs to."""
    is_held = stderr_taken.acquire(timeout=FREE_S)
    try:
        yield
    finally:
        if is_held:
            stderr_taken.release()


def say(line: str, *, error: bool = False) -> bool:
    """Print a line at once, on stderr if `error`; return False where it cannot be written, now or any more.

    A broken pipe or a full disk turns the stream to /dev/null from then on.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # the process was started with the stream closed
        return False
    try:
        _write(f"{_printable(line, stream)}\n", stream)
    except OSError:
        _silence(stream)
        return False
    return True


def takes_a_line(stream: TextIO | None, wait_s: float) -> bool:
    """Tell whether a line of up to 4 kB can be written within so many seconds without waiting for its reader."""
    poll = select.poll()
    try:
        poll.register(stream.fileno() if stream is not None else -1, select.POLLOUT)
    except (OSError, ValueError):  # none, closed, or in memory
        return True
    return bool(poll.poll(wait_s * 1000))


def flush_stdout() -> None:
    """Write what is buffered; where nobody takes it, drop it, for the interpreter's exit would fail over it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)


def fill_closed_streams() -> None:
    """Open /dev/null as stdin, stdout or stderr where closed, or the next file or socket would get their number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def utf8(text: str) -> str:
    """Escape the bytes of a file name that are no UTF-8: JSON has none."""
    return text.encode(errors="backslashreplace").decode()


def _printable(line: str, stream: TextIO) -> str:
    """Escape what the stream's encoding does not have, such as the bytes of a file name that are no UTF-8."""
    encoding = stream.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _write(text: str, stream: TextIO) -> None:
    """Write past the stream's own buffer: a thread that waits in it for a held terminal locks it against the exit."""
    stream.flush()
    try:
        descriptor = stream.fileno()
    except OSError:  # in memory
        print(text, end="", file=stream, flush=True)
        return
    data = text.encode(stream.encoding or "utf-8")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another program has set the terminal that we share not to wait
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


def _silence(stream: TextIO) -> None:
    with suppress(OSError):  # without /dev/null each line fails anew, which does no harm
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)

"""Lines in a file, written by a thread of its own: neither a slow nor a full disk holds up the flight."""

from __future__ import annotations

import errno
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType

from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.health import HealthMonitor

QUEUE_LINES = 256  # wait while the disk is busy or full: seconds of a flight, a megabyte of memory
RETRY_S = 1.0  # between two attempts while the disk takes nothing
POLL_S = 0.1
CLOSE_S = 1.0  # for what still waits at the end; a pipe that nobody reads would take for ever
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_FULL, OUTPUT_FAILED = "disk-full", "output-failed"  # reasons of `Health`


def _writable() -> None:
    """Where no fault is injected."""


class JsonlWriter:
    """A file of JSON objects, one a line, in the order of `put`; a line is written whole or not at all.

    A line that the disk does not take is tried again every second, and those behind it wait in a bounded queue. Where
    that overflows lines are left out and counted, and a reason of `monitor` says so until there is room again.
    """

    def __init__(
        self,
        path: Path,
        overwrite: bool = False,
        *,
        monitor: HealthMonitor,
        lossless: bool = False,
        writing: Callable[[], None] = _writable,
    ) -> None:
        """Check that the file can be written, but change and leave nothing: only the first line does.

        lossless: `put` waits for a slow disk (not for a full one). writing: called before each write, raises the
        OSErrors of fault injection. Raises UsageError if the file exists and `overwrite` is not given, ResourceError
        if it cannot be written.
        """
        self._path = path
        self._monitor = monitor
        self._lossless = lossless
        self._writing = writing
        self._whole_bytes = 0
        self._has_begun = False
        self._file: FileIO | None = None
        with self._opening():
            if overwrite and path.exists():
                self._file = path.open("ab", buffering=0)  # held open: what reads a pipe would see its end
            else:
                path.open("xb").close()
                path.unlink()
        self._lines: queue.Queue[bytes] = queue.Queue(QUEUE_LINES)
        self._failed: str | None = None  # code of the reason that stands
        self._closing = threading.Event()
        self._put = self._written = self._left_out = 0
        self._thread = threading.Thread(target=self._write_lines, name="output", daemon=True)
        self._thread.start()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Map the errors of opening the file."""
        try:
            yield
        except FileExistsError as error:
            raise UsageError(f"the output {self._path} exists; give --overwrite, or another --output") from error
        except OSError as error:
            reason = f"cannot write the output {self._path} ({error.strerror})"
            raise ResourceError(f"{reason}; give another --output") from error

    def put(self, payload: bytes) -> None:
        """Hand over one line, without its end; for one thread at a time. What the disk does never ends the flight."""
        self._put += 1
        while True:
            try:
                self._lines.put(payload, timeout=POLL_S if self._lossless else 0)
                return
            except queue.Full:
                if not self._lossless or self._failed is not None:
                    self._left_out += 1
                    self._monitor.count(unwritten=self._left_out)
                    return

    def _write_lines(self) -> None:
        """The thread: write every line, however many attempts it takes; at the end one for what is left."""
        while True:
            try:
                line = self._lines.get(timeout=POLL_S) + b"\n"
            except queue.Empty:
                if self._closing.is_set():
                    return
                continue
            while not self._try(line):
                if self._closing.is_set():
                    return
                self._closing.wait(RETRY_S)
            self._written += 1

    def _try(self, line: bytes) -> bool:
        """Write one line; return False where that failed, after cutting off what there is of it."""
        try:
            self._writing()
            file = self._begin()
            written = 0
            while written < len(line):
                written += file.write(line[written:])
        except OSError as error:
            with suppress(OSError):  # the error that led here is the one to report
                self._cut_partial_line()
            self._tell(error)
            return False
        self._whole_bytes += len(line)
        self._tell(None)
        return True

    def _begin(self) -> FileIO:
        """Return the file, at the first line new or emptied."""
        if self._file is None:
            self._file = self._path.open("xb", buffering=0)
        if not self._has_begun:
            self._has_begun = True  # before that, an old file is not ours to cut
            self._cut_partial_line()
        return self._file

    def _cut_partial_line(self) -> None:
        """Cut a regular file to its whole lines."""
        if self._has_begun and self._file is not None and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            self._file.truncate(self._whole_bytes)
            self._file.seek(self._whole_bytes)

    def _tell(self, error: OSError | None) -> None:
        """Give the reason why no line is written, and take back the one given before."""
        code = None if error is None else DISK_FULL if error.errno in FULL else OUTPUT_FAILED
        if self._failed not in (None, code):
            self._monitor.reason(self._failed, None)
        if code is not None and error is not None:
            text = f"the output {self._path} takes no lines ({error.strerror}); make room, then it goes on by itself"
            self._monitor.reason(code, text)
        self._failed = code

    def close(self) -> None:
        """Write what waits, in CLOSE_S at most, and close the file; the rest counts as unwritten."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        self._left_out = self._put - self._written
        self._monitor.count(unwritten=self._left_out)
        if self._file is not None and not self._thread.is_alive():  # else it is in the middle of a write
            self._file.close()

    @property
    def unwritten(self) -> int:
        """Lines that the file lacks; final after `close`."""
        return self._left_out

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

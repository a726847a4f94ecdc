"""Lines in a file, written by a thread of its own: neither a slow nor a full disk holds up the flight."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from aerial_runtime.health import HealthMonitor
from aerial_runtime.output_file import OUTPUT, OutputFile, writable

QUEUE_LINES = 256  # wait while the disk is busy or full: seconds of a flight, a megabyte of memory
RETRY_S = 1.0  # between two attempts while the disk takes nothing
POLL_S = 0.1
SYNC_S = 1.0  # what a battery that is pulled can cost of the file
CLOSE_S = 1.0  # for a line that waits at the end; a pipe that nobody reads would take for ever
LONGEST_CLOSE_S = 10.0  # for all of them, as long as one after the other is written


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
        writing: Callable[[], None] = writable,
    ) -> None:
        """Check that the file can be written, but change and leave nothing: only the first line does.

        lossless: `put` waits for a slow disk (not for a full one). writing: called before each write, raises the
        OSErrors of fault injection. Raises UsageError if the file exists and `overwrite` is not given, ResourceError
        if it cannot be written.
        """
        self._file = OutputFile(path, OUTPUT, overwrite, monitor=monitor, writing=writing)
        self._monitor = monitor
        self._lossless = lossless
        self._lines: queue.Queue[bytes] = queue.Queue(QUEUE_LINES)
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._put = self._written = self._synced = self._unsynced = self._left_out = 0
        self._thread = threading.Thread(target=self._write_lines, name="output", daemon=True)
        self._thread.start()

    def put(self, payload: bytes) -> None:
        """Hand over one line, without its end; for one thread at a time. What the disk does never ends the flight."""
        self._put += 1
        while True:
            try:
                self._lines.put(payload, timeout=POLL_S if self._lossless else 0)
                return
            except queue.Full:
                if not self._lossless or self._file.failed is not None:
                    self._left_out += 1
                    self._monitor.count(unwritten=self._left_out + self._unsynced)
                    return

    def _write_lines(self) -> None:
        """The thread: write every line, however many attempts it takes, at the end one for what is left; and close."""
        try:
            self._write_until_closed()
        finally:
            self._file.close()

    def _write_until_closed(self) -> None:
        synced_s = time.monotonic()
        while not self._given_up.is_set():
            try:
                line = self._lines.get(timeout=POLL_S) + b"\n"
            except queue.Empty:
                if self._closing.is_set():
                    break
                line = b""
            while line and not self._file.append(line):
                if self._closing.is_set():
                    return
                self._closing.wait(RETRY_S)
            self._written += bool(line)
            if time.monotonic() >= synced_s + SYNC_S:
                self._sync()
                synced_s = time.monotonic()
        self._sync()

    def _sync(self) -> None:
        """Put the lines on the disk; where that fails those since the last time count as lost: a kernel drops them."""
        if self._written == self._synced and self._file.failed is None:
            return
        if not self._file.sync():
            self._unsynced += self._written - self._synced
            self._monitor.count(unwritten=self._left_out + self._unsynced)
        self._synced = self._written

    def close(self) -> None:
        """Write what waits, as long as it goes on, and close the file; the rest counts as unwritten.

        Twice does no harm.
        """
        if self._closing.is_set():  # a disk that hangs is waited for once
            return
        self._closing.set()
        now_s = time.monotonic()
        end_s, written, patience_s = now_s + LONGEST_CLOSE_S, self._written, now_s + CLOSE_S
        while self._thread.is_alive() and time.monotonic() < min(end_s, patience_s):
            self._thread.join(POLL_S)
            if self._written > written:
                written, patience_s = self._written, time.monotonic() + CLOSE_S
        self._given_up.set()
        self._left_out = self._put - self._written + self._unsynced
        self._monitor.count(unwritten=self._left_out)

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

"""A file that grows by whole pieces, on a disk that may be full or gone: `--output` and `--record`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.health import HealthMonitor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class OutputKind:
    """What a person calls the file, the flag that names it, and the reasons of `Health` why it does not grow."""

    noun: str
    flag: str
    full: str
    failed: str
    synced: bool = False  # each piece is on the disk before the next; only regular files can be


OUTPUT: Final = OutputKind("output", "--output", "disk-full", "output-failed")
RECORDING: Final = OutputKind("recording", "--record", "record-disk-full", "record-failed", synced=True)


def writable() -> None:
    """Where no fault is injected."""


class OutputFile:
    """A file of whole pieces; a reason of `monitor` says why it takes none. For one thread."""

    def __init__(
        self,
        path: Path,
        kind: OutputKind,
        overwrite: bool,
        *,
        monitor: HealthMonitor,
        writing: Callable[[], None] = writable,
    ) -> None:
        """Check that the file can be written, but change and leave nothing: only the first piece does.

        writing: called before each write, raises the OSErrors of fault injection. Raises UsageError if the file
        exists and `overwrite` is not given, ResourceError if it cannot be written.
        """
        self.path = path
        self.size_bytes = 0
        self.failed: str | None = None  # code of the reason that stands
        self._kind = kind
        self._monitor = monitor
        self._writing = writing
        self._has_begun = self._is_unsynced = False
        self._file: FileIO | None = None
        with self._opening():
            if overwrite and path.exists():
                self._file = _opened(path)  # held open: what reads a pipe would see its end
            else:
                path.open("xb").close()
                path.unlink()
        if kind.synced and self._file is not None and not self._is_regular():
            self._file.close()
            raise UsageError(f"the {kind.noun} {path} is no regular file; give another {kind.flag}")

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Map the errors of opening the file."""
        noun, flag = self._kind.noun, self._kind.flag
        try:
            yield
        except FileExistsError as error:
            raise UsageError(f"the {noun} {self.path} exists; give --overwrite, or another {flag}") from error
        except OSError as error:
            reason = f"cannot write the {noun} {self.path} ({error.strerror})"
            raise ResourceError(f"{reason}; give another {flag}") from error

    def append(self, piece: bytes) -> bool:
        """Write one piece; return False where that failed, after cutting off what there is of it."""
        try:
            self._writing()
            file = self._begin()
            written = 0
            while written < len(piece):
                written += file.write(piece[written:] if written else piece)
            if self._kind.synced:
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):  # the error that led here is the one to report
                self._cut_partial_piece()
            self._tell(error)
            return False
        self.size_bytes += len(piece)
        if not self._is_unsynced:  # a disk that is gone takes pieces for a while, into memory
            self._tell(None)
        return True

    def sync(self) -> bool:
        """Put what is written on the disk, where it is a file that lies on one; return False where that failed."""
        if self._file is None or not self._is_regular():
            return True
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._is_unsynced = True
            self._tell(error)
            return False
        if self._is_unsynced:
            self._is_unsynced = False
            self._tell(None)
        return True

    def _begin(self) -> FileIO:
        """Return the file, at the first piece new or emptied."""
        if self._file is None:
            self._file = self.path.open("xb", buffering=0)
            with suppress(OSError):  # not every file system can
                sync_folder(self.path)
        if not self._has_begun:
            self._has_begun = True  # before that, an old file is not ours to cut
            self._cut_partial_piece()
        return self._file

    def _cut_partial_piece(self) -> None:
        """Cut a regular file to its whole pieces."""
        if self._has_begun and self._file is not None and self._is_regular():
            self._file.truncate(self.size_bytes)
            self._file.seek(self.size_bytes)

    def _is_regular(self) -> bool:
        return self._file is not None and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def _tell(self, error: OSError | None) -> None:
        """Give the reason why nothing is written, and take back the one given before."""
        kind = self._kind
        code = None if error is None else kind.full if error.errno in FULL else kind.failed
        if self.failed not in (None, code):
            self._monitor.reason(self.failed, None)
        if code is not None and error is not None:
            text = f"the {kind.noun} {self.path} takes nothing ({error.strerror}); make room, then it goes on by itself"
            self._monitor.reason(code, text)
        self.failed = code

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _opened(path: Path) -> FileIO:
    """Open what is there to append to it. Raises OSError.

    A pipe that nobody reads yet would keep us waiting, deaf to signals; with a reader of our own, for this moment, it
    opens at once. Its writes then fail until somebody reads.
    """
    with suppress(PermissionError), ExitStack() as stack:  # one that only takes: as it comes
        if stat.S_ISFIFO(path.stat().st_mode):
            stack.callback(os.close, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            return path.open("ab", buffering=0)
    return path.open("ab", buffering=0)


def sync_folder(path: Path) -> None:
    """Put the name of a new file on the disk. Raises OSError."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

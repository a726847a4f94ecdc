"""What happens in flight, as lines on stderr through `logging`: for a person, or as JSON for a log collector.

Each message has a key. The first of a key is written at once, then at most one in ten seconds, with the number left
out: a damaged camera gives thirty messages a second, and a log that grows without end fills the disk.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from datetime import datetime, timezone
from typing import Final, Literal

import msgspec

from aerial_runtime.say import say, takes_a_line, utf8

EVERY_S: Final = 10.0
CONSOLE_S: Final = 0.1  # that a line waits for a console or pipe that is full
MAX_KEYS: Final = 1000  # bounds the memory, also where keys are file names
COMMAND: Final = "aerial-runtime"

LogFormat = Literal["console", "json"]


def setup_log(format: LogFormat) -> None:
    """Begin a log: choose how lines look ("console" before this), and forget which messages there were."""
    _limit.clear()
    _handler.setFormatter(_JsonFormatter() if format == "json" else _ConsoleFormatter())


def warn(key: str, text: str) -> None:
    """Log that something is wrong, what and where. key: what counts as the same message, such as "unreadable"."""
    _log(logging.WARNING, key, text)


def note(key: str, text: str) -> None:
    """Log that something happened that is not wrong."""
    _log(logging.INFO, key, text)


def fail(command: str, text: str) -> None:
    """Log the sentence that a command ends with; never left out."""
    _logger.error(text, extra={"key": "exit", "command": command, "left_out": 0})


class RateLimit:
    """Which messages of a key may pass: the first, then one in `EVERY_S` seconds."""

    def __init__(self) -> None:
        """Start with no key known."""
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, tuple[int, int]] = OrderedDict()  # key -> (last passed, left out since)

    def left_out(self, key: str, now_ns: int) -> int | None:
        """Return how many of this key were left out since the last one, or None where this one is, too."""
        with self._lock:
            passed_ns, count = self._keys.get(key, (None, 0))
            if passed_ns is not None and now_ns - passed_ns < EVERY_S * 1e9:
                self._keys[key] = (passed_ns, count + 1)
                return None
            self._keys[key] = (now_ns, 0)
            self._keys.move_to_end(key)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
            return count

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            self._keys.clear()


def _log(level: int, key: str, text: str) -> None:
    left_out = _limit.left_out(key, time.monotonic_ns())
    if left_out is not None:
        _logger.log(level, text, extra={"key": key, "command": COMMAND, "left_out": left_out})


class _Handler(logging.Handler):
    """Writes through `say`, so that a pipe that broke or a disk that is full ends nothing.

    Where nobody reads the pipe, the line is dropped: whoever logs may hold what the frame path waits for.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if takes_a_line(sys.stderr, CONSOLE_S):
            say(self.format(record), error=True)


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = vars(record)
        error = "error: " if record.levelno >= logging.ERROR else ""
        more = f" ({fields['left_out']} more like it left out)" if fields["left_out"] else ""
        return f"{fields['command']}: {error}{record.getMessage()}{more}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = vars(record)
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "command": fields["command"],
            "key": utf8(fields["key"]),
            "text": utf8(record.getMessage()),
            "left_out": fields["left_out"],
        }
        return msgspec.json.encode(line).decode()


_limit = RateLimit()
_handler = _Handler()
_logger = logging.getLogger("aerial_runtime")
_logger.setLevel(logging.INFO)
_logger.propagate = False  # or whoever sets up the root logger would write each line twice
_logger.addHandler(_handler)
setup_log("console")

"""What a service manager is told, by the protocol of sd_notify(3): datagrams to the socket that it names.

Without a service manager nothing is sent. Nothing here raises: a manager that does not listen ends no flight.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final

STATUS_BYTES: Final = 512
WAIT_S: Final = 1.0  # for what must arrive; the watchdog's food is not waited for


class Watchdog:
    """The service manager that started this process, where there is one. For one thread, the main loop's.

    timeout_s: how long the main loop may stand still before the process is restarted; None: nobody watches.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, mono_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        self._mono_ns = mono_ns
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.timeout_s = _timeout_s(environment) if self._address else None
        self._fed_ns: int | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None

    def extend_start(self, seconds: float) -> None:
        """Ask that the start may take so many seconds from now on: before a model loads or warms up."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}", WAIT_S)

    def ready(self) -> None:
        """Tell that the start is over; from here on the watchdog wants to be fed."""
        self._send("READY=1", WAIT_S)

    def turn(self) -> None:
        """Feed the watchdog, at most every half of its time. The main loop alone may: a timer would hide a hang."""
        if self.timeout_s is None:
            return
        now_ns = self._mono_ns()
        is_hungry = self._fed_ns is None or now_ns - self._fed_ns >= self.timeout_s / 2 * 1e9
        if is_hungry and self._send("WATCHDOG=1", 0.0):
            self._fed_ns = now_ns

    def status(self, line: str) -> None:
        """Give the line that `systemctl status` shows."""
        # On one line: a line break would begin another assignment, whatever text an error brought along.
        text = " ".join(line.split()).encode(errors="backslashreplace")[:STATUS_BYTES]
        self._send(f"STATUS={text.decode(errors='ignore')}", 0.0)

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._send("STOPPING=1", WAIT_S)

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, state: str, wait_s: float) -> bool:
        """Send one datagram; return False where it could not be, within so many seconds."""
        if self._socket is None:
            return False
        try:
            self._socket.settimeout(wait_s)
            self._socket.sendto(state.encode(), self._address)
        except OSError:  # nobody is there, or its queue is full
            return False
        return True

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _address(name: str) -> str:
    """Return the address of a socket's name, empty for one of a kind that is not ours; @ is an abstract one."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""


def _timeout_s(environment: Mapping[str, str]) -> float | None:
    """Return the watchdog's time, None where it watches another process or none."""
    with suppress(ValueError):
        is_for_us = int(environment.get("WATCHDOG_PID") or os.getpid()) == os.getpid()
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        if is_for_us and microseconds > 0:
            return microseconds / 1e6
    return None

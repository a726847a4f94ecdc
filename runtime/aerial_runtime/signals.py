"""SIGTERM, SIGINT and SIGHUP: the first ends a flight after its frame, a second of the former ends the process."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM, SIGINT and SIGHUP set, so that a flight ends after the frame it is at.

    SIGHUP comes where the terminal is closed or its link is given up; under nohup it stays ignored. A second signal of
    the others ends the process at once, with 128 and its number: Python's own handlers wait for the main thread, which
    may hang in a camera's driver, so a thread of its own listens.
    """
    stop = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # Python asks for it
    threading.Thread(target=_hear_signals, args=(ours, stop), daemon=True).start()
    fd_before = signal.set_wakeup_fd(theirs.fileno())
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        theirs.close()  # ends the thread


def _hear_signals(wakeup: socket.socket, stop: threading.Event) -> None:
    """Read the number of each signal as a byte, nothing at the end; at the second end the process.

    SIGHUP is no second and has none: of one closed terminal shell, kernel and service manager may each send something.
    """
    is_asked = False
    with wakeup:
        while number := wakeup.recv(1):
            stop.set()
            if is_asked and number[0] != signal.SIGHUP:
                os._exit(128 + number[0])
            is_asked = is_asked or number[0] != signal.SIGHUP

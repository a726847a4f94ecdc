"""SIGTERM and SIGINT: the first ends a flight after its frame, the second ends the process."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set, so that a flight ends after the frame it is at.

    A second signal ends the process at once, with 128 and its number: Python's own handlers wait for the main
    thread, which may hang in a camera's driver, so a thread of its own listens.
    """
    stop = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # Python asks for it
    threading.Thread(target=_hear_signals, args=(ours, stop), daemon=True).start()
    fd_before = signal.set_wakeup_fd(theirs.fileno())
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        theirs.close()  # ends the thread


def _hear_signals(wakeup: socket.socket, stop: threading.Event) -> None:
    """Read the number of each signal as a byte, nothing at the end; at the second end the process."""
    with wakeup:
        if wakeup.recv(1):
            stop.set()
        second = wakeup.recv(1)
        if second:
            os._exit(128 + second[0])

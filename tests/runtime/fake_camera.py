"""Cameras that do what a test says, a monitor that can be waited on, and the waiting: for the tests of capture."""

from __future__ import annotations

import queue
import threading
import time

import numpy as np

from aerial_runtime.camera.base import Source, frame_now
from aerial_runtime.watch import WatchOptions

LONG_S = 60.0  # what a test waits at most for what must come
QUICK = WatchOptions(timeout_s=0.3, frozen_s=0.2, black_s=0.1)
PATIENT = WatchOptions(timeout_s=3600)  # where silence is not the matter: a busy machine may be silent, too


def noisy(seed, width=64, height=48):
    return np.random.default_rng(seed).integers(50, 200, (height, width, 3)).astype(np.uint8)


class WaitedClock:
    """Stands in for `time` and for an event's `wait`: time passes only where somebody waits."""

    def __init__(self):
        self._now_ns = 0

    def monotonic_ns(self):
        return self._now_ns

    def monotonic(self):
        return self._now_ns / 1e9

    def wait(self, wait_s):
        self._now_ns += round(wait_s * 1e9)
        return False


class Told:
    """A monitor that can be waited on."""

    def __init__(self):
        self.reasons, self.counts, self.history = {}, {}, []
        self._changed = threading.Condition()

    def reason(self, code, text):
        with self._changed:
            self.history.append((code, text is not None))
            if text is None:
                self.reasons.pop(code)  # KeyError: was not set
            else:
                self.reasons[code] = text
            self._changed.notify_all()

    def count(self, **numbers):
        with self._changed:
            self.counts |= numbers
            self._changed.notify_all()

    def until(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, LONG_S), (self.reasons, self.counts)

    def until_only(self, *codes):
        self.until(lambda: set(self.reasons) == set(codes))


class FakeCamera(Source):
    """Gives what the test puts into `cameras`: pictures, errors to raise, functions to call."""

    live = True

    def __init__(self, cameras):
        super().__init__("fake")
        self.cameras = cameras
        self.is_closed = threading.Event()
        self.closes, self.closed_by = 0, ""
        cameras.opened.append(self)

    def __iter__(self):
        index = 0
        while not self.is_closed.is_set():
            try:
                item = self.cameras.items.get(timeout=0.02)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, np.ndarray):
                yield frame_now(item, f"fake:{index}", index)
                index += 1
            elif callable(item):
                item()
            elif item == "unreadable":
                self._skip("test")
                index += 1
                yield None
            elif item == "gap":
                index += 1
            else:
                return  # "end"

    def close(self):
        self.closes += 1
        self.closed_by = threading.current_thread().name
        self.is_closed.set()


class Cameras:
    """Where cameras are opened: `opens` holds what happens at each opening, an error or a function."""

    def __init__(self):
        self.items, self.opens, self.opened = queue.Queue(), [], []
        self.tries = 0
        self.released = threading.Event()

    def open(self):
        self.tries += 1
        if self.opens:
            step = self.opens.pop(0)
            if isinstance(step, BaseException):
                raise step
            step()
        return FakeCamera(self)

    def hang(self):
        """Never return, like a driver, until the test is over."""
        self.released.wait()

    def give(self, *items):
        for item in items:
            self.items.put(item)


def threads_since(before):
    return set(threading.enumerate()) - before


def take(capture):
    frame = capture.take(LONG_S)
    assert frame is not None
    return frame


def until(condition):
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)

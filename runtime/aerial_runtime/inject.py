"""Faults on purpose, for rehearsals and tests: `--inject KIND@SECONDS[+DURATION]`.

Seconds count from the start of the flight on the monotonic clock, so that the same command fails in the same way again.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
import zmq

from aerial_runtime.camera import Source
from aerial_runtime.camera.base import frame_now
from aerial_runtime.contract import U8, Frame
from aerial_runtime.errors import CameraError, ModelError, UsageError
from aerial_runtime.watch import BLACK, FROZEN, LOST

CAMERA_FPS: Final = 10.0  # of files flown as a camera: leaves two cores room, so that what shows is the fault
JUMP_NS: Final = 3600 * 10**9  # as when a receiver finds the time


@dataclass(frozen=True)
class Kind:
    """What a fault does, and what must be seen of it with the daemon's own limits.

    for_s: how long it lasts where nothing else is said; 0: once, at the next opportunity. reason: the code in
    health, None where the flight is not degraded by it. shows_s: at the latest so long after it begins the reason
    stands. recovers_s: at the latest so long after it ends the reason is gone.
    """

    effect: str
    for_s: float
    reason: str | None
    shows_s: float = 0.0
    recovers_s: float = 0.0


KINDS: Final = {
    "camera-loss": Kind("reading ends with an error, and so does opening the camera anew", 3, LOST, 1, 11),
    "camera-freeze": Kind("the camera gives the same picture again and again", 8, FROZEN, 6, 1),
    "camera-black": Kind("the camera gives black pictures", 6, BLACK, 4, 1),
    "corrupt-frame": Kind("a frame cannot be decoded: counted as unreadable, no message", 0, None),
    "slow-subscriber": Kind("a subscriber connects and never reads: it alone loses messages", 10, None),
    "disk-full": Kind("every write of --output and --record fails with ENOSPC", 5, "disk-full", 1, 2),
    "backend-error": Kind("inference fails: the frame is counted as failed, no message", 0, "backend-error", 1, 11),
    "clock-jump": Kind("UTC is an hour ahead, then right again: two jumps", 5, "clock-jump", 1, 12),
}
CAMERA_KINDS: Final = frozenset(("camera-loss", "camera-freeze", "camera-black", "corrupt-frame"))


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, when it begins and how long it lasts, in seconds of the flight. for_s 0: once."""

    kind: str
    at_s: float
    for_s: float


def parse_fault(text: str) -> Fault:
    """Read KIND@SECONDS[+DURATION], such as camera-freeze@10s+5s; the `s` may be left out. Raises UsageError."""
    kind, _, times = text.partition("@")
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0)[0]
        raise UsageError(f"--inject {text!r}: there is no fault {kind!r}; did you mean {near}? All: {' '.join(KINDS)}")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)s?(?:\+(\d+(?:\.\d+)?)s?)?", times, re.ASCII)
    if match is None:
        raise UsageError(f"--inject {text!r}: write when and for how long in seconds, like {kind}@10s or {kind}@10s+5s")
    at_s, for_s = match.groups()
    return Fault(kind, float(at_s), KINDS[kind].for_s if for_s is None else float(for_s))


class Faults:
    """The faults of one flight. Every method may be called from any thread; before `start` all is well."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        """faults: what `parse_fault` returned; may be empty."""
        self._faults = list(faults)
        self._start_ns: int | None = None
        self._lock = threading.Lock()
        self._used: set[int] = set()  # positions of the faults that happen once and have
        self._shown_bgr: U8 | None = None
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, endpoints: Sequence[str] = ()) -> None:
        """Begin the flight. endpoints: where slow subscribers connect to, each to all.

        Raises UsageError where there is a slow subscriber and no endpoint for it.
        """
        slow = [fault for fault in self._faults if fault.kind == "slow-subscriber"]
        if slow and not endpoints:
            raise UsageError(
                "--inject slow-subscriber needs a socket without keys; give --bind ipc://NAME, or leave it out"
            )
        self._start_ns = time.monotonic_ns()
        for fault in slow:
            thread = threading.Thread(target=self._subscribe, args=(fault, list(endpoints)), daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End the slow subscribers."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Faults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_on(self, kind: str) -> bool:
        """Tell whether a fault of this kind is to happen now; of one that happens once, this is the time."""
        if self._start_ns is None:
            return False
        flown_s = (time.monotonic_ns() - self._start_ns) / 1e9
        with self._lock:
            for position, fault in enumerate(self._faults):
                if fault.kind != kind or flown_s < fault.at_s:
                    continue
                if flown_s < fault.at_s + fault.for_s:
                    return True
                if fault.for_s == 0 and position not in self._used:
                    self._used.add(position)
                    return True
        return False

    def inferring(self) -> None:
        """Raise ModelError while the models are to fail: call it before each inference."""
        if self.is_on("backend-error"):
            raise ModelError("the models fail on purpose (--inject backend-error)")

    def writing(self) -> None:
        """Raise OSError while the disk is to be full: call it before each write."""
        if self.is_on("disk-full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def utc_ns(self) -> int:
        """Return the time as `time.time_ns` does, an hour ahead while the clock is to be wrong."""
        return time.time_ns() + (JUMP_NS if self.is_on("clock-jump") else 0)

    def source(self, open_: Callable[[], Source]) -> Callable[[], Source]:
        """Return what opens the source with its faults.

        Where a camera is to fail, the files are flown as one: again and again, CAMERA_FPS frames a second, none held
        back for who is late. What is returned raises UsageError for a real camera.
        """
        if not self._faults:
            return open_
        as_camera = any(fault.kind in CAMERA_KINDS for fault in self._faults)

        def open_with_faults() -> Source:
            if as_camera:
                return FilesAsCamera(open_, self)
            source = open_()
            _refuse_cameras(source)
            return source

        return open_with_faults

    def seen(self, image_bgr: U8) -> U8:
        """Return what the camera shows of this picture: itself, black, or the one it is frozen at."""
        if self.is_on("camera-black"):
            return np.zeros_like(image_bgr)
        if self._shown_bgr is None or not self.is_on("camera-freeze"):
            self._shown_bgr = image_bgr  # kept here, since a frozen camera stays so when it is opened anew
        return self._shown_bgr

    def _subscribe(self, fault: Fault, endpoints: list[str]) -> None:
        """Be the slow subscriber: connect when it is time, read nothing, leave when it is over."""
        if self._stopped.wait(fault.at_s):
            return
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.set(zmq.RCVHWM, 1)
            socket.set(zmq.RCVBUF, 4096)  # or the kernel would take minutes of messages
            socket.set(zmq.SUBSCRIBE, b"")
            for endpoint in endpoints:
                socket.connect(endpoint)
            self._stopped.wait(fault.for_s)


class FilesAsCamera(Source):
    """Files flown as a camera that never ends, with the faults that a camera may have.

    Frames keep the names they have in the files. There is no truth to score against: frames are lost and come again.
    """

    live = True

    def __init__(self, open_: Callable[[], Source], faults: Faults) -> None:
        """Raise CameraError while the camera is to be lost, UsageError where `open_` opens a real one."""
        _lose(faults)
        self._open, self._faults = open_, faults
        self._files = open_()
        _refuse_cameras(self._files)
        super().__init__(self._files.name)
        self._is_closed = threading.Event()

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield a frame every 1 / CAMERA_FPS seconds. Raises CameraError while the camera is to be lost."""
        due_s = time.monotonic()
        for index, frame in enumerate(self._endless()):
            due_s = max(due_s + 1 / CAMERA_FPS, time.monotonic())  # files that are read slower are flown slower
            if self._is_closed.wait(due_s - time.monotonic()):
                return
            _lose(self._faults)
            if frame is None:
                yield None
            elif self._faults.is_on("corrupt-frame"):
                self._skip(f"{frame.name} is corrupt on purpose (--inject corrupt-frame)")
                yield None
            else:
                yield frame_now(self._faults.seen(frame.image_bgr), frame.name, index)

    def _endless(self) -> Iterator[Frame | None]:
        """Yield what the files give, from the start again after their end."""
        while not self._is_closed.is_set():
            unreadable = 0
            for frame in self._files:
                self.unreadable += self._files.unreadable - unreadable
                unreadable = self._files.unreadable
                yield frame
            self.unreadable += self._files.unreadable - unreadable
            self._files.close()
            self._files = self._open()

    def close(self) -> None:
        """Close the files; a wait for the next frame ends."""
        self._is_closed.set()
        self._files.close()


def _lose(faults: Faults) -> None:
    if faults.is_on("camera-loss"):
        raise CameraError("the camera is lost on purpose (--inject camera-loss)")


def _refuse_cameras(source: Source) -> None:
    if source.live:
        source.close()
        raise UsageError(f"--inject is for rehearsals, and {source.name} is a camera; give --camera demo, or files")

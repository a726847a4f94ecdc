"""Frames from a folder into which a still camera drops its pictures."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aerial_runtime.camera.base import Source
from aerial_runtime.camera.image_file import IMAGE_SUFFIXES, read_picture
from aerial_runtime.contract import Frame
from aerial_runtime.errors import InputError
from aerial_runtime.log import warn

LOOK_S = 0.1  # between two looks; inotify would hear nothing of a camera mounted by FUSE or NFS
GIVE_UP_S = 5.0  # after which a file that no longer grows and still is no picture counts as unreadable

State = tuple[int, int]  # of a file: bytes, time of change in ns


@dataclass(frozen=True)
class _Arrival:
    """A file that is not yet delivered: when it was first seen, and when it last changed."""

    path: Path
    utc_ns: int
    mono_ns: int
    state: State
    still_since_s: float


class WatchedFolder(Source):
    """Each picture that comes into a folder, once, in the order of their coming, and none dropped: they are on disk.

    A picture is taken when its size stood still between two looks and it decodes as a whole. What lay in the folder
    before is not flown. A frame is stamped with the moment when its file was first seen. A file that comes back,
    as with a memory card that is plugged in anew, is new only where its size or time is another.
    """

    def __init__(self, folder: Path) -> None:
        """Remember what lies in the folder already. Raises InputError where it cannot be read."""
        super().__init__(folder.resolve().name)
        self._folder = folder
        self._closing = threading.Event()
        self._seen_utc_ns = self._seen_mono_ns = 0  # moment of the last look, which all its new files share
        self._arriving: dict[str, _Arrival] = {}
        try:
            self._present = self._look()
        except OSError as error:
            raise InputError(
                f"cannot watch the folder {folder} ({error.strerror}); make it before the flight"
            ) from error
        self._known = {name: state for name in self._present if (state := self._state(name)) is not None}

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames until closed; None for each look at which no picture was ready, and for unreadable ones."""
        index = 0
        while not self._closing.is_set():
            for arrival in self._ready():
                name, is_there = arrival.path.name, True
                try:
                    image_bgr, encoded = read_picture(arrival.path)
                except InputError as error:
                    is_there = self._state(name) is not None
                    if is_there and time.monotonic() - arrival.still_since_s < GIVE_UP_S:
                        continue  # the rest may be on its way
                    self._skip(str(error))
                    frame = None
                else:
                    frame = Frame(image_bgr, name, index, arrival.utc_ns, arrival.mono_ns, encoded)
                index += 1
                if is_there:  # else it may come back, with the card that was pulled out
                    self._known[name] = arrival.state
                yield frame
                break  # looked at anew: what came while this one flew gets its own time
            else:
                yield None
                self._closing.wait(LOOK_S)

    def close(self) -> None:
        """End the watch."""
        self._closing.set()

    def _look(self) -> set[str]:
        """Return the pictures of the folder by their names alone: no call per file, there may be thousands."""
        with os.scandir(self._folder) as entries:
            return {entry.name for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES)}

    def _ready(self) -> list[_Arrival]:
        """Look at the folder; return what has come and stands still, in the order in which it came."""
        try:
            present = self._look()
            self._seen_utc_ns, self._seen_mono_ns = time.time_ns(), time.monotonic_ns()
        except OSError as error:  # a memory card that was pulled out may come back
            warn("watched-folder", f"the folder {self._folder} cannot be read ({error.strerror})")
            return []
        come = (present - self._present) | (present - self._known.keys())
        self._present = present
        arrivals = [arrival for name in come if (arrival := self._arrival(name)) is not None]
        self._arriving = {arrival.path.name: arrival for arrival in arrivals}
        still_s = time.monotonic() - LOOK_S
        ready = [arrival for arrival in arrivals if arrival.still_since_s <= still_s]
        return sorted(ready, key=lambda arrival: (arrival.mono_ns, arrival.state[1], arrival.path.name))

    def _arrival(self, name: str) -> _Arrival | None:
        """Return what is known of a file by now; None where it is gone or was delivered before."""
        state = self._state(name)
        if state is None or self._known.get(name) == state:
            return None
        self._known.pop(name, None)
        before = self._arriving.get(name)
        now_s = time.monotonic()
        if before is None:
            return _Arrival(self._folder / name, self._seen_utc_ns, self._seen_mono_ns, state, now_s)
        return before if before.state == state else replace(before, state=state, still_since_s=now_s)

    def _state(self, name: str) -> State | None:
        """Return size and time of a file; None where it was moved or deleted since the look."""
        try:
            found = (self._folder / name).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

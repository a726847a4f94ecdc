"""One opening of a source, in a thread of its own that can be left behind: a call into a driver may never return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from traceback import clear_frames
from typing import Final, Protocol

from aerial_runtime.camera import Source
from aerial_runtime.contract import Frame
from aerial_runtime.log import warn

ENDS_S: Final = 0.6  # for a reader to end by itself: longer than a source waits for a frame
CLOSED_S: Final = 0.2  # for it to end once its source has been closed under it


class Owner(Protocol):
    """Who is told, in the reader's thread, what happens to it."""

    def opened(self, reader: Reader, source: Source) -> None:
        """Hear that the source is open."""

    def received(self, reader: Reader, source: Source, frame: Frame | None) -> None:
        """Hear what the source gave, None for an attempt without a frame; the reader waits until it returns."""

    def over(self, reader: Reader) -> None:
        """Hear that nothing more comes; `error` says why, None at the end of the source."""


class Reader:
    """Opens a source, hands on its frames, closes it.

    first_index: of its first frame in the flight. The rest is its owner's book: is_open; next_index and unreadable
    count within this opening; alive_s: when it last opened or gave a frame; ill_s: since when it is to be
    replaced, both in monotonic seconds.
    """

    def __init__(self, open_: Callable[[], Source], owner: Owner, first_index: int) -> None:
        """Begin to open the source."""
        self.first_index = first_index
        self.next_index = self.unreadable = 0
        self.alive_s = time.monotonic()
        self.ill_s: float | None = None
        self.is_open = self.is_over = self.is_retired = False
        self.error: Exception | None = None
        self._open, self._owner = open_, owner
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._threads = [threading.Thread(target=self._run, name="camera", daemon=True)]
        self._threads[0].start()

    @property
    def is_gone(self) -> bool:
        """Whether no thread of it is left."""
        return not any(thread.is_alive() for thread in self._threads)

    def retire(self) -> None:
        """Let the thread end; where it hangs, close the source under it and leave both behind."""
        self.is_retired = True
        self._threads[0].join(ENDS_S)
        if self._threads[0].is_alive():
            self._threads.append(threading.Thread(target=self._close_under, name="camera-close", daemon=True))
            self._threads[-1].start()
            self._threads[0].join(CLOSED_S)

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 (not swallowed: the owner raises it, or opens the camera anew)
            # Its traceback would hold the source's last picture, and so the device, until a garbage collection.
            clear_frames(error.__traceback__)
            self.error = error
        self.is_over = True
        self._owner.over(self)

    def _read(self) -> None:
        source = self._source = self._open()
        try:
            if self.is_retired:  # whoever retired us found nothing to close
                return
            self._owner.opened(self, source)
            for frame in source:
                self._owner.received(self, source, frame)
                if self.is_retired:
                    return
            self._owner.received(self, source, None)  # some sources count only at their end what they could not read
        finally:
            self._close()

    def _close_under(self) -> None:
        try:
            self._close()
        except Exception as error:  # noqa: BLE001 (a driver's; the next opening shows whether it matters)
            warn("camera-close", f"a camera that hangs cannot be closed: {error}")

    def _close(self) -> None:
        """Close the source where it is open: one thread does, once."""
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()

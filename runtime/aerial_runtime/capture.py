"""Read a source in threads of their own: the newest frame of a camera, every frame of files.

A camera that is lost, frozen or of another size is opened anew for ever. A call into a driver may never return, so
whatever opens, reads or closes a source can be left behind, and whoever takes frames never waits for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from aerial_runtime.camera import Source
from aerial_runtime.contract import Frame
from aerial_runtime.errors import AerialError, CameraError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.reader import Reader
from aerial_runtime.watch import Watch, WatchOptions

FILE_QUEUE: Final = 2  # decoding overlaps with inference; more would only cost memory
START_S: Final = 10.0  # to open and to give the first frame: a stream waits for a key frame
STOP_S: Final = 0.1  # until a stop is seen meanwhile
FIRST_DELAY_S: Final = 0.5  # before a camera is opened anew; doubled while that does not help
LONGEST_DELAY_S: Final = 10.0
MAX_STUCK: Final = 16  # readers left hanging in a driver, each with a thread and perhaps some frames


class Capture:
    """The frames of a source, read ahead: `take` them until it has `ended`.

    name, live, truth_path: of the source; until it has been opened, the name given, True and None.
    dropped: frames lost up to the one that was taken last. unreadable: frames that could not be decoded.
    """

    def __init__(
        self,
        open_: Callable[[], Source],
        options: WatchOptions,
        monitor: HealthMonitor,
        name: str = "camera",
        stop: threading.Event | None = None,
    ) -> None:
        """Open the source and start to read it. Raises what `open_` raises, and CameraError where it hangs.

        stop: once set, the opening is not waited for. With `options.wait_for_camera` a CameraError is none: the camera
        is tried again for ever.
        """
        self.name, self.live = name, True
        self.truth_path: Path | None = None
        self.dropped = self.unreadable = 0
        self._open, self._options, self._monitor = open_, options, monitor
        self._watch = Watch(options)
        self._told: dict[str, str] = {}
        # One lock guards everything. Two conditions, or every frame would wake the thread that watches the reader.
        self._lock = threading.RLock()
        self._frames_changed = threading.Condition(self._lock)
        self._reader_changed = threading.Condition(self._lock)
        self._queue: deque[tuple[Frame, int]] = deque()  # each with the number of frames lost up to it
        self._lost = 0
        self._was_open = self._is_done = self._is_closing = False
        self._error: Exception | None = None
        self._delay_s = FIRST_DELAY_S
        self._stuck: list[Reader] = []
        self._reader = Reader(open_, self, first_index=0)
        self._wait_until_open(stop or threading.Event())
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> Frame | None:
        """Return the next frame, of a camera the newest; None where none came in time or the files have ended.

        Raises what the source raised where to try again is of no use.
        """
        with self._lock:
            self._frames_changed.wait_for(lambda: self._queue or self._is_done, timeout_s)
            if self._queue:
                frame, self.dropped = self._queue.popleft()
                self._frames_changed.notify_all()
                self._monitor.count(dropped=self.dropped)
                return frame
            if self._error is not None:
                raise self._error
            return None

    @property
    def ended(self) -> bool:
        """Whether every frame of the files has been taken. A camera never ends."""
        with self._lock:
            return self._is_done and self._error is None and not self._queue

    def close(self) -> None:
        """Stop reading and close the source, within a second even if that hangs. Calling it twice does no harm."""
        with self._lock:
            self._is_closing = True
            self._reader_changed.notify_all()
        self._thread.join()  # it leaves behind what hangs

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until_open(self, stop: threading.Event) -> None:
        reader, deadline_s = self._reader, time.monotonic() + START_S
        with self._lock:
            while not (self._was_open or reader.is_over) and time.monotonic() < deadline_s and not stop.is_set():
                self._reader_changed.wait(STOP_S)
            if self._was_open or (stop.is_set() and not reader.is_over):
                return
            hangs = f"the camera did not open within {START_S:g} s; check its cable, power or address"
            error = reader.error or CameraError(hangs)
        if not (self._options.wait_for_camera and isinstance(error, CameraError)):
            self._retire()
            raise error

    # The thread "capture": it watches the reader, and starts another where that may help.

    def _run(self) -> None:
        try:
            while self._wait_for_trouble():
                self._open_anew()
        except Exception as error:  # noqa: BLE001 (not swallowed: `take` raises it)
            self._end(error)
        finally:
            if not self._reader.is_retired:
                self._retire()

    def _wait_for_trouble(self) -> bool:
        """Wait until the source must be opened anew (True), or there is no more to do (False)."""
        with self._lock:
            while not self._is_closing:
                reader = self._reader
                if reader.is_over and not self._is_lost(reader):
                    self._end(reader.error)
                    return False
                wait_s = self._judge(reader, time.monotonic()) if self.live else None
                if wait_s is not None and wait_s <= 0:
                    return True
                self._reader_changed.wait(wait_s)
            return False

    def _is_lost(self, reader: Reader) -> bool:
        """Whether a reader that is over may be followed by another: a camera has no end."""
        if not self.live or reader.error is None or isinstance(reader.error, CameraError):
            return self.live
        # What could be opened once is asked for nothing wrong: after a reset, a driver offers nothing for a moment.
        return self._was_open and not reader.is_open and isinstance(reader.error, AerialError)

    def _judge(self, reader: Reader, now_s: float) -> float:
        """Return in how many seconds to look again; 0 or less where the camera must be opened anew."""
        if reader.is_over:
            self._tell_lost(str(reader.error or "the camera's stream has ended"))
            reader.ill_s = now_s
            return 0
        timeout_s = self._options.timeout_s
        patience_s = timeout_s if reader.next_index else max(timeout_s, START_S)
        silent_s = now_s - reader.alive_s
        if silent_s >= timeout_s:
            self._tell_lost(f"no frame for {timeout_s:g} s or longer")
        if silent_s >= patience_s:
            reader.ill_s = now_s
            return 0
        wait_s = (timeout_s if silent_s < timeout_s else patience_s) - silent_s
        if reader.ill_s is None:
            return wait_s
        return min(wait_s, reader.ill_s + self._delay_s - now_s)  # suspect frames are better than none meanwhile

    def _open_anew(self) -> None:
        """Leave the present reader, and start another when it is time."""
        self._retire()
        with self._lock:
            at_s = (self._reader.ill_s or 0.0) + self._delay_s
            self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
            while not self._is_closing and (wait_s := at_s - time.monotonic()) > 0:
                self._reader_changed.wait(wait_s)
            self._stuck.append(self._reader)
            while not self._is_closing and self._count_stuck() >= MAX_STUCK:
                self._tell_lost(f"{MAX_STUCK} calls hang in the camera's driver; switch the camera off and on")
                self._reader_changed.wait(FIRST_DELAY_S)
            if not self._is_closing:
                self._reader = Reader(self._open, self, first_index=self._reader.first_index + self._reader.next_index)

    def _retire(self) -> None:
        with self._lock:
            self._reader.is_retired = True
            self._frames_changed.notify_all()  # of files it may wait for room
        self._reader.retire()

    def _count_stuck(self) -> int:
        self._stuck = [reader for reader in self._stuck if not reader.is_gone]
        return len(self._stuck)

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            self._is_done, self._error = True, error
            self._frames_changed.notify_all()

    def _tell_lost(self, why: str) -> None:
        self._watch.lost(why)
        self._tell()

    def _tell(self) -> None:
        """Tell the monitor what has changed since it was last told."""
        problems = self._watch.problems
        if problems == self._told:
            return
        for code in self._told.keys() - problems.keys():
            self._monitor.reason(code, None)
        for code, text in problems.items():
            self._monitor.reason(code, text)
        self._told = dict(problems)

    # The reader's thread.

    def opened(self, reader: Reader, source: Source) -> None:
        """Hear that the source is open."""
        with self._lock:
            self._was_open = reader.is_open = True
            self.name, self.live, self.truth_path = source.name, source.live, source.truth_path
            reader.alive_s = time.monotonic()
            self._reader_changed.notify_all()

    def over(self, reader: Reader) -> None:
        """Hear that a reader has ended."""
        with self._lock:
            self._reader_changed.notify_all()

    def received(self, reader: Reader, source: Source, frame: Frame | None) -> None:
        """Take what the source gave; of files, when there is room for it."""
        with self._lock:
            if reader.is_retired:
                return
            self._count_unreadable(reader, source)
            if frame is None:
                return
            self._lost += max(0, frame.index - reader.next_index)
            reader.next_index = frame.index + 1
            if self.live:
                self._look_at(reader, frame)
                self._lost += len(self._queue)
                self._queue.clear()
            else:
                self._frames_changed.wait_for(lambda: len(self._queue) < FILE_QUEUE or reader.is_retired)
            self._queue.append((_renumbered(frame, source.name, reader.first_index), self._lost))
            self._frames_changed.notify_all()

    def _count_unreadable(self, reader: Reader, source: Source) -> None:
        more = source.unreadable - reader.unreadable
        if more:
            reader.unreadable += more
            reader.next_index += more  # they have an index, but were not lost by being late
            self.unreadable += more
            self._monitor.count(unreadable=self.unreadable)

    def _look_at(self, reader: Reader, frame: Frame) -> None:
        reader.alive_s = time.monotonic()
        self._watch.frame(frame.image_bgr, reader.alive_s)
        self._tell()
        if not self._watch.is_suspect:
            reader.ill_s, self._delay_s = None, FIRST_DELAY_S
        elif reader.ill_s is None:
            reader.ill_s = reader.alive_s
            self._reader_changed.notify_all()


def _renumbered(frame: Frame, source: str, first_index: int) -> Frame:
    """Return the frame with its index in the flight; `source` is the one's name that gave it."""
    if first_index == 0:
        return frame
    index = first_index + frame.index
    name = f"{source}:{index}" if frame.name == f"{source}:{frame.index}" else frame.name
    return replace(frame, name=name, index=index)

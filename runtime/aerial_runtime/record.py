"""`--record`: the flight in a file that replays it, written by a thread of its own that never holds up the flight."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

import cv2
import msgspec

from aerial_runtime.contract import U8, Detections, Frame
from aerial_runtime.health import HealthMonitor
from aerial_runtime.output_file import RECORDING, OutputFile, writable
from aerial_runtime.record_file import RecordingWriter
from aerial_runtime.record_messages import ANNOTATIONS, CAMERA, DETECTIONS, EVENTS, annotations_of, event_of, picture_of
from aerial_runtime.say import utf8

QUEUE_BYTES: Final = 64 << 20  # that wait for the thread: ten frames of 1080p, or a hundred of its JPEGs
SYNC_S: Final = 0.5  # from one chunk to the next; the other half second is for encoding and a slow disk
RETRY_S: Final = 1.0  # between two attempts while the disk takes nothing
POLL_S: Final = 0.1
CLOSE_S: Final = 5.0  # for what still waits at the end
PICTURES_SHARE: Final = 0.9  # of the queue and of the limit; the rest is kept for the messages, which are small
# 4/7 of the time of OpenCV's own choice, for an eighth more bytes; its filter came late, older ones pass over the flag.
PNG_FILTER, PNG_FILTER_UP = 19, 32
PNG_OPTIONS: Final = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(PNG_FILTER, PNG_FILTER_UP),
)
LIMIT_MB: Final = 20_000  # where nothing else is asked for: 22 minutes of 1080p JPEGs of 500 kB at 30 frames/s
LIMIT: Final = "record-limit"  # reason of `Health`
AUTO, ORIGINAL, PNG, NONE = "auto", "original", "png", "none"
FRAMES_PATTERN: Final = rf"{AUTO}|{ORIGINAL}|{PNG}|{NONE}|jpeg:(?:[1-9]|[1-9][0-9]|100)"
# Of AUTO, where the camera gives no file: a tenth of the time of a PNG, and of a live camera so many a second.
AUTO_QUALITY: Final = 90
AUTO_FPS: Final = 10.0


@dataclass(frozen=True)
class RecordOptions:
    """What is asked of a recording.

    frames: "auto" or "original" (the camera's own bytes where it gives JPEG or PNG, else JPEG or PNG), "png",
    "jpeg:QUALITY" or "none". fps: pictures a second at most; None = all, but with "auto" AUTO_FPS of those of a live
    camera that must be encoded. limit_bytes: of the file.
    """

    frames: str = AUTO
    fps: float | None = None
    limit_bytes: int = LIMIT_MB * 1_000_000

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be."""
        if not re.fullmatch(FRAMES_PATTERN, self.frames):
            raise ValueError(f"frames cannot be {self.frames!r}")


@dataclass(frozen=True)
class _Item:
    """What waits for the thread. message: of a frame; picture: of the same, a file's bytes or pixels to be encoded;
    is_whole: no picture was left out for want of room."""

    topic: str
    utc_ns: int
    payload: bytes
    message: Detections | None = None
    picture: bytes | U8 | None = None
    is_whole: bool = True

    @property
    def size_bytes(self) -> int:
        if self.picture is None:
            return len(self.payload)
        return len(self.payload) + (len(self.picture) if isinstance(self.picture, bytes) else self.picture.nbytes)


class Recorder:
    """Frames with their detections, health and events -> an MCAP file. `frame` is for one thread, the others for any.

    What the thread cannot keep up with, what the disk does not take and what is beyond the limit is left out and
    counted as `unrecorded` of `monitor`. A chunk is closed and on the disk twice a second.
    """

    def __init__(
        self,
        path: Path,
        options: RecordOptions,
        about: Mapping[str, str],
        cards: Mapping[str, str],
        *,
        monitor: HealthMonitor,
        overwrite: bool = False,
        lossless: bool = False,
        writing: Callable[[], None] = writable,
    ) -> None:
        """Check that the file can be written, but change and leave nothing: only the first message does.

        about: metadata, such as the source. cards: role -> a model's card as JSON. lossless: `frame` waits for a slow
        disk (not for a full one). writing: as in `OutputFile`. Raises UsageError or ResourceError.
        """
        self._file = OutputFile(path, RECORDING, overwrite, monitor=monitor, writing=writing)
        self._options, self._monitor, self._lossless = options, monitor, lossless
        about = {name: utf8(text) for name, text in about.items()}
        self._source = about.get("source", "")
        self._writer = RecordingWriter(about, cards)
        self._due_ns = 0  # monotonic: when the next picture is
        self._lock = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_bytes = self._put = self._left_out = self._stored = self._open = 0
        self.pictures = self.beyond_limit = 0
        self._is_broken = False
        self._closing = threading.Event()
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def frame(self, frame: Frame, message: Detections, payload: bytes) -> None:
        """Hand over a frame and its message, with the payload that was published."""
        item = _Item(DETECTIONS, frame.captured_utc_ns, payload, message)
        if self._is_due(frame):
            own = frame.encoded if self._options.frames in (AUTO, ORIGINAL) else None
            item = replace(item, picture=frame.image_bgr if own is None else own)
        self._hand_over(item, self._lossless)

    def message(self, topic: bytes, payload: bytes, utc_ns: int) -> None:
        """Hand over a message of another topic, as published. utc_ns: when it was sent."""
        self._hand_over(_Item(topic.decode(), utc_ns, payload), self._lossless)

    def event(self, code: str, text: str | None) -> None:
        """Hand over that a reason of `Health` came (text) or went (None); never waits."""
        utc_ns = time.time_ns()
        self._hand_over(_Item(EVENTS, utc_ns, msgspec.json.encode(event_of(code, text, utc_ns))), False)

    def _is_due(self, frame: Frame) -> bool:
        """Whether a frame's picture is one of those a second that are asked for."""
        fps = self._options.fps
        if fps is None and self._options.frames == AUTO and frame.encoded is None and not self._lossless:
            fps = AUTO_FPS
        if self._options.frames == NONE or fps is None:
            return self._options.frames != NONE
        period_ns = round(1e9 / fps)
        late_ns = frame.captured_mono_ns - self._due_ns
        if -period_ns <= late_ns < 0:
            return False
        self._due_ns += period_ns if 0 <= late_ns < period_ns else late_ns + period_ns  # after a gap from there on
        return True

    def _hand_over(self, item: _Item, wait: bool) -> None:
        if self._closing.is_set():  # a reason that goes at the end
            return
        with self._lock:
            self._put += 1
            while wait and not (self._has_room(item) or self._is_broken or self._file.failed is not None):
                self._lock.wait(POLL_S)
            if not self._has_room(item):
                item = replace(item, picture=None, is_whole=False)  # what was seen is worth more, and small
            if self._has_room(item) and not self._is_broken:
                self._queue.append(item)
                self._queued_bytes += item.size_bytes
                self._lock.notify_all()
                if item.is_whole:
                    return
        self._leave_out()

    def _has_room(self, item: _Item) -> bool:
        limit_bytes = QUEUE_BYTES if item.picture is None else PICTURES_SHARE * QUEUE_BYTES
        return not self._queue or self._queued_bytes + item.size_bytes <= limit_bytes

    def _leave_out(self) -> None:
        with self._lock:
            self._left_out += 1
            count = self._left_out
        self._monitor.count(unrecorded=count)

    # The thread.

    def _run(self) -> None:
        try:
            self._record()
        except Exception as error:  # noqa: BLE001 (a recording never ends the flight; health tells of it)
            text = f"the recording {self._file.path} has ended ({type(error).__name__}: {error}); the flight goes on"
            self._monitor.reason(RECORDING.failed, text)
        with suppress(OSError):  # each piece is on the disk already
            self._file.close()
        with self._lock:
            self._is_broken = True
            self._lock.notify_all()

    def _record(self) -> None:
        """Store what comes until the end; close a chunk when it is time."""
        due_s = time.monotonic() + SYNC_S
        while True:
            item = self._next(due_s - time.monotonic())
            if item is not None:
                self._store(item)
            now_s = time.monotonic()
            is_over = item is None and self._closing.is_set()
            if is_over or now_s >= due_s:
                due_s = now_s + SYNC_S
                if self._writer.is_open and not self._append(self._writer.close_chunk()):
                    return
                self._stored, self._open = self._stored + self._open, 0
            if is_over:
                if self._file.size_bytes:
                    self._append(self._writer.finish())
                return

    def _next(self, timeout_s: float) -> _Item | None:
        """Return the next item; None where there is none within the time."""
        with self._lock:
            if not self._queue and not self._closing.is_set():
                self._lock.wait(max(timeout_s, 0))
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._queued_bytes -= item.size_bytes
            self._lock.notify_all()
            return item

    def _append(self, piece: bytes) -> bool:
        """Put a piece on the disk, however many attempts it takes; at the end one. Return False where it is not."""
        while not self._file.append(piece):
            if self._closing.is_set():
                return False
            self._closing.wait(RETRY_S)
        return True

    def _store(self, item: _Item) -> None:
        """Add an item to the open chunk as far as the limit allows, and count it where that is not whole."""
        messages = [(item.topic, item.payload)]
        if item.message is not None:
            messages.append((ANNOTATIONS, self._encoder.encode(annotations_of(item.message))))
        sequence = 0 if item.message is None else item.message.sequence
        limit_bytes = self._options.limit_bytes
        is_whole = self._add(messages, item.utc_ns, sequence, limit_bytes)
        if is_whole and item.message is not None and item.picture is not None:
            data = self._encoded(item.picture)
            picture = self._encoder.encode(picture_of(item.message.frame, self._source, data))
            is_whole = self._add([(CAMERA, picture)], item.utc_ns, sequence, round(PICTURES_SHARE * limit_bytes))
            self.pictures += is_whole
        self.beyond_limit += not is_whole and item.is_whole
        if not item.is_whole:  # counted when it was handed over
            return
        if is_whole:
            self._open += 1
        else:
            self._leave_out()

    def _add(self, messages: list[tuple[str, bytes]], utc_ns: int, sequence: int, limit_bytes: int) -> bool:
        """Add messages where they fit within the limit; else say so."""
        if self._writer.size_bytes + sum(len(data) for _, data in messages) > limit_bytes:
            text = f"the recording {self._file.path} has reached its limit; give a higher --record-limit"
            self._monitor.reason(LIMIT, text)
            return False
        for topic, data in messages:
            self._writer.add(topic, utc_ns, data, sequence)
        return True

    def _encoded(self, picture: bytes | U8) -> bytes:
        """Return the picture as a JPEG or PNG file."""
        if isinstance(picture, bytes):
            return picture
        if self._options.frames in (ORIGINAL, PNG):
            _, data = cv2.imencode(".png", picture, PNG_OPTIONS)
        else:
            _, _, quality = self._options.frames.partition(":")
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(quality or AUTO_QUALITY)])
        return data.tobytes()

    def close(self) -> None:
        """Store what waits, in CLOSE_S at most, and close the file; the rest counts as unrecorded.

        Twice does no harm.
        """
        if self._closing.is_set():  # a disk that hangs is waited for once
            return
        self._closing.set()
        with self._lock:
            self._lock.notify_all()
        self._thread.join(CLOSE_S)
        self._left_out = self._put - self._stored
        self._monitor.count(unrecorded=self._left_out)

    @property
    def unrecorded(self) -> int:
        """Frames and other messages that the recording lacks, wholly or in part; final after `close`."""
        return self._left_out

    def summary(self) -> str:
        """Return one line on what was recorded."""
        megabytes = self._file.size_bytes / 1e6
        return f"recording {self._file.path}: {self.pictures} pictures, {megabytes:.1f} MB; {self.unrecorded} left out"

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

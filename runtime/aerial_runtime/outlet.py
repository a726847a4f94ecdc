"""Results -> numbered messages, in a thread of its own: for sockets, file and console; and health once a second."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType

import msgspec

from aerial_runtime.contract import Detections, Frame, FrameInfo, Health, TargetEvent, TargetEvents, TimingMs
from aerial_runtime.crop_jpegs import CropBudget
from aerial_runtime.health import HealthMonitor
from aerial_runtime.jsonl import JsonlWriter
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.publish import DETECTIONS, HEALTH, TARGETS, Publisher
from aerial_runtime.record import Recorder
from aerial_runtime.say import utf8
from aerial_runtime.track import Tracker

QUEUE_FRAMES = 4
PUT_S = 0.5  # that a frame waits for room in the queue
HEALTH_S = 1.0
POLL_S = 0.1  # late joiners wait for the last message at most so long
CLOSE_S = 1.0  # for what is queued at the end

OnMessage = Callable[[Detections, PipelineResult], object]


class Outlet:
    """Numbers messages, encodes each once, hands it to the sockets and the files, then calls `on_message`.

    Everything behind `put` happens in the outlet's own thread, `on_message` too. Frames are neither copied nor
    changed. A `with` block starts and ends the thread.
    """

    def __init__(
        self,
        source: str,
        models: dict[str, str],
        publisher: Publisher | None,
        writer: JsonlWriter | None,
        monitor: HealthMonitor,
        *,
        recorder: Recorder | None = None,
        tracker: Tracker | None = None,
        crops: CropBudget | None = None,
        lossless: bool = False,
        on_message: Sequence[OnMessage] = (),
        stop: threading.Event | None = None,
    ) -> None:
        """source: stands in every message. models: role -> "sha256:..." of the file loaded.

        tracker: gives targets their track ids before they are published, and the events of the topic `targets`.
        lossless: `put` waits until there is room, or until `stop` is set.
        """
        self._source = utf8(source)
        self._models = models
        self._publisher = publisher
        self._writer = writer
        self._recorder = recorder
        self._monitor = monitor
        self._tracker = tracker
        self._crops = crops if publisher is not None else None  # a file holds none
        self._lossless = lossless
        self._on_message = on_message
        self._stop = stop or threading.Event()
        self._encoder = msgspec.json.Encoder()
        self._sequence = self._events_sequence = self._dropped = self._late = 0
        self._health_ns = time.monotonic_ns()  # when the next one is due
        self._queue: queue.Queue[tuple[Frame, PipelineResult, int]] = queue.Queue(QUEUE_FRAMES)
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)

    def put(self, frame: Frame, result: PipelineResult, dropped_in_all: int) -> None:
        """Hand over what one frame held; for one thread at a time.

        dropped_in_all: frames lost since the start; the message tells those since the message before. Where there is
        no room for PUT_S, the frame is counted as unsent. Raises what has ended the outlet's thread.
        """
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put((frame, result, dropped_in_all), timeout=PUT_S)
                return
            except queue.Full:
                if not self._lossless or self._stop.is_set():
                    self._late += 1
                    return

    def _run(self) -> None:
        """The thread: messages as they come, health when it is due, the last health at the end."""
        try:
            while not (self._closing.is_set() and self._queue.empty()):
                self._publish_next()
                self._publish_health_when_due()
                if self._publisher is not None:
                    self._publisher.repeat()
            if self._tracker is not None:
                self._publish_events(self._tracker.finish())
            self._publish_health()
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that flies)
            self._error = error

    def _publish_next(self) -> None:
        try:
            frame, result, dropped_in_all = self._queue.get(timeout=POLL_S)
        except queue.Empty:
            return
        dropped, self._dropped = dropped_in_all - self._dropped, dropped_in_all
        events: list[TargetEvent] = []
        if self._tracker is not None:
            targets, events = self._tracker(frame, result)
            result = replace(result, targets=targets)
        crops = self._crops.jpegs(frame.image_bgr, result.targets) if self._crops is not None else []
        message = detections_of(frame, result, self._source, self._models, self._sequence, dropped)
        self._sequence += 1
        payload = self._encoder.encode(message)
        if self._publisher is not None:
            self._publisher.send(DETECTIONS, [payload, *crops])
        if self._writer is not None:
            self._writer.put(payload)
        if self._recorder is not None:
            self._recorder.frame(frame, message, payload)
        self._publish_events(events)
        times = message.timing_ms
        self._monitor.frame(times.age, times.segment, times.classify, times.total)
        for call in self._on_message:
            call(message, result)

    def _publish_events(self, events: list[TargetEvent]) -> None:
        if not events or (self._publisher is None and self._recorder is None):
            return
        message = TargetEvents(self._source, self._events_sequence, time.time_ns(), events)
        self._events_sequence += 1
        self._send(TARGETS, message)

    def _publish_health_when_due(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self._health_ns:
            self._health_ns = max(self._health_ns + round(HEALTH_S * 1e9), now_ns)  # no burst after a stall
            self._publish_health()

    def _publish_health(self) -> None:
        unsent = self._late + (self._publisher.unsent if self._publisher is not None else 0)
        self._monitor.count(unsent=unsent)
        if self._publisher is None and self._recorder is None:
            return
        self._send(HEALTH, self._monitor.snapshot())

    def _send(self, topic: bytes, message: Health | TargetEvents) -> None:
        """Publish and record a message, the same bytes."""
        payload = self._encoder.encode(message)
        if self._publisher is not None:
            self._publisher.send(topic, [payload])
        if self._recorder is not None:
            self._recorder.message(topic, payload, message.sent_utc_ns)

    def close(self) -> None:
        """Publish what is queued and the last health. Raises what has ended the thread.

        In CLOSE_S at most, but of `lossless` frames none is left behind: they are waited for until `stop` is set.
        """
        self._closing.set()
        while self._lossless and self._thread.is_alive() and not self._stop.is_set():
            self._thread.join(POLL_S)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():  # a console that takes nothing holds it; it dies with the process
            self._monitor.count(unsent=self._late + self._queue.qsize() + 1)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Outlet:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def detections_of(
    frame: Frame, result: PipelineResult, source: str, models: dict[str, str], sequence: int, dropped: int
) -> Detections:
    """Return the message of one frame, sent now."""
    height, width = frame.image_bgr.shape[:2]
    age_ms = (time.monotonic_ns() - frame.captured_mono_ns) / 1e6
    times_ms = (age_ms, result.segment_ms, result.classify_ms, result.total_ms)
    return Detections(
        source=source,
        sequence=sequence,
        sent_utc_ns=time.time_ns(),
        frame=FrameInfo(utf8(frame.name), frame.index, width, height, frame.captured_utc_ns, frame.captured_mono_ns),
        timing_ms=TimingMs(*(round(value, 3) for value in times_ms)),
        dropped=dropped,
        models=models,
        targets=result.targets,
    )

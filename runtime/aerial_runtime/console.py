"""What a person reads: a line per frame, per target, per health; the summary of a flight."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque

import msgspec
import numpy as np

from aerial_runtime.contract import Attribute, Detections, FusedAttribute, Health, Target, TargetEvent, TrackedTarget
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.say import say

STAGES = ("segment", "classify", "total", "age")
LOSSES = ("dropped", "unreadable", "failed", "unsent", "unwritten", "unrecorded")
LAST_FRAMES = 10_000  # for the percentiles: bounds the memory of a flight of hours
QUEUE_LINES = 64  # wait for a console that is busy or held
POLL_S = 0.1
CLOSE_S = 0.5  # for what waits at the end


def frame_line(message: Detections) -> str:
    """Return one line for one frame."""
    frame, count = message.frame, len(message.targets)
    found = f"{count} target{'' if count == 1 else 's'}"
    labels = "  ".join(labels_of(target) for target in message.targets)
    size = f"{frame.width}x{frame.height}"
    return f"{frame.name:<28} {size:>9} {message.timing_ms.total:7.1f} ms  {found:<11} {labels}".rstrip()


def target_line(message: Detections, target: Target) -> str:
    """Return one line for one target of a message."""
    box = target.box
    place = f"{box.width}x{box.height} px at {box.x},{box.y}"
    number = "" if target.track_id is msgspec.UNSET else f"  target {target.track_id}"
    return f"#{message.sequence} {message.frame.name}{number}  {place}  {target.confidence:.2f}  {labels_of(target)}"


def event_line(event: TargetEvent) -> str:
    """Return one line for what is new of one target."""
    target, box = event.target, event.target.last.box
    place = f"{box.width}x{box.height} px at {box.x},{box.y} in {target.last.frame_name}"
    seen = f"{target.sightings} sighting{'' if target.sightings == 1 else 's'}"
    return f"{event.event:<7} target {target.track_id}  {labels_of(target)}  {target.confidence:.2f}  {seen}  {place}"


def health_line(health: Health) -> str:
    """Return one line for one message of the daemon's health; what is wrong stands at its end."""
    lost = {name: getattr(health, name) for name in LOSSES}
    parts = [f"{health.source} {health.state}", f"{health.frames} frames", f"{health.frame_rate:.1f} frames/s"]
    if health.age_ms is not msgspec.UNSET:
        parts.append(f"age {health.age_ms.p50:.0f} ms, p95 {health.age_ms.p95:.0f} ms")
    parts += [f"{count} {name}" for name, count in lost.items() if count]
    parts += [f"{reason.code}: {reason.text}" for reason in health.reasons]
    return "  ".join(parts)


def labels_of(target: Target | TrackedTarget) -> str:
    """Return the attributes as "star/A/red/white/NE 42°"; a question mark stands where the model abstains."""
    return "/".join(_label(attribute) for attribute in target.attributes.values())


def _label(attribute: Attribute | FusedAttribute) -> str:
    label = attribute.label or "?"
    return label if attribute.degrees is msgspec.UNSET else f"{label} {attribute.degrees:.0f}°"


class FlightLog:
    """Prints a line per frame and sums up the flight. Percentiles are over the last LAST_FRAMES frames.

    A thread of its own prints: a terminal that is held, by Ctrl-S or a link that is down, takes nothing, and
    messages must not wait for it.

    frames: counted so far. flown: their messages, kept only where asked for: a flight has no end to them.
    """

    def __init__(self, quiet: bool, keep: bool, lossless: bool, stop: threading.Event) -> None:
        """Start the clock. quiet: no line per frame. keep: the messages, to score them against the truth.

        lossless: lines wait for the console until `stop` is set; else those that it does not take are left out.
        """
        self.frames = 0
        self.flown: list[Detections] = []
        self._quiet, self._keep = quiet, keep
        self._lossless, self._stop = lossless, stop
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._print, name="console", daemon=True)
        self._thread.start()
        self._targets = 0
        self._candidates = 0
        self._cut = 0
        self._start_ns = time.monotonic_ns()
        self._times_ms = {stage: deque[float](maxlen=LAST_FRAMES) for stage in STAGES}

    def __call__(self, message: Detections, result: PipelineResult) -> None:
        """Take one frame."""
        self.frames += 1
        self._targets += len(result.targets)
        self._candidates += result.candidates
        self._cut += result.cut
        for stage, times_ms in self._times_ms.items():
            times_ms.append(getattr(message.timing_ms, stage))
        if not self._quiet and self._has_room():
            self._texts.put(frame_line(message))
        if self._keep:
            self.flown.append(message)

    def _has_room(self) -> bool:
        """Tell whether the console keeps up; of files wait until it does."""
        while self._texts.qsize() >= QUEUE_LINES:
            if not self._waits():
                return False
            time.sleep(POLL_S)
        return True

    def _waits(self) -> bool:
        return self._lossless and not self._stop.is_set() and self._thread.is_alive()

    def _print(self) -> None:
        """The thread: print what comes, None at the end."""
        while (text := self._texts.get()) is not None:
            self._quiet = not say(text) or self._quiet

    def close(self, *last: str) -> None:
        """Print what waits and these last texts; where the console is held, for CLOSE_S. Twice does no harm."""
        for text in (*last, None):
            self._texts.put(text)
        end_s = time.monotonic() + CLOSE_S
        while self._thread.is_alive() and (self._waits() or time.monotonic() < end_s):
            self._thread.join(POLL_S)

    def summary(self, unreadable: int, dropped: int, provider: str) -> str:
        """Return the summary, several lines. unreadable, dropped: frames of the source. provider: engine used."""
        seconds = (time.monotonic_ns() - self._start_ns) / 1e9
        lines = [
            f"frames    {self.frames} in {seconds:.1f} s, {self.frames / seconds:.1f} frames/s; "
            f"{unreadable} unreadable, {dropped} dropped",
            f"targets   {self._targets} of {self._candidates} candidates; {self._cut} cut by --max-candidates",
            f"engine    {provider}",
        ]
        for stage, times_ms in self._times_ms.items():
            if times_ms:
                median, p95 = np.percentile(times_ms, (50, 95))
                lines.append(f"{stage:<9} median {median:.1f} ms, p95 {p95:.1f} ms")
        return "\n".join(lines)

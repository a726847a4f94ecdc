"""Detections of one frame as arrays, and what is kept of one track."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aerial_runtime.assign import F64
from aerial_runtime.contract import Frame, Sighting, TargetEvent, TrackedTarget
from aerial_runtime.fuse import Belief
from aerial_runtime.motion import Mask, Points
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.say import utf8

Indices = npt.NDArray[Any]

UPDATE_NS = 1_000_000_000  # between two updates of one track whose labels stay
DIGITS = 4
# Standard errors of a box's middle: a cell of the mask and what a shape's parts may add, more where the frame cuts it.
BOX_PX, BOX_SHARE, CUT_SHARE = 2.0, 0.06, 0.35


class Seen:
    """What one frame holds, [N]: middles in pixels from the frame's, squared errors, roots of areas, cut by the edge.

    looks: [N, sum of classes], the probabilities of all heads; [N, 0] where the result has none.
    """

    def __init__(self, frame: Frame, result: PipelineResult) -> None:
        height, width = frame.image_bgr.shape[:2]
        self.frame, self.result = frame, result
        self.diagonal_px = float(np.hypot(width, height))
        boxes = np.array([(t.box.x, t.box.y, t.box.width, t.box.height) for t in result.targets], np.float64).reshape(
            -1, 4
        )
        x, y, w, h = boxes.T
        self.places: Points = (x + w / 2 - width / 2) + 1j * (y + h / 2 - height / 2)
        self.sizes: F64 = np.sqrt(np.array([target.area_px for target in result.targets], np.float64))
        self.is_cut: Mask = (x <= 0) | (y <= 0) | (x + w >= width) | (y + h >= height)
        longer = np.maximum(w, h)
        self.errors2: F64 = (BOX_PX + np.where(self.is_cut, CUT_SHARE, BOX_SHARE) * longer) ** 2
        heads = [rows for name, rows in result.probabilities.items() if name != "heading"]
        self.looks: F64 = np.hstack(heads).astype(np.float64) if heads else np.zeros((len(boxes), 0))


class Track:
    """One target: its sightings and what they say together.

    is_cut: by the frame's edge in every sighting so far. look: as in `Seen`, of all sightings.
    """

    def __init__(self, track_id: int, seen: Seen, row: int, belief: Belief) -> None:
        """Begin with one sighting."""
        self.track_id, self.belief = track_id, belief
        self.first = self.last = self.largest = _sighting(seen, row)
        self.is_cut = True
        self.sightings = self.last_frame = 0
        self._confidence = 0.0  # the sum
        self.look: F64 = np.zeros(0)
        self.add(seen, row)
        self._told_ns, self._told = seen.frame.captured_mono_ns, self._labels(self.target())

    def add(self, seen: Seen, row: int) -> None:
        """Take one more sighting."""
        target, is_cut = seen.result.targets[row], bool(seen.is_cut[row])
        self.last = _sighting(seen, row)
        was_cut, self.is_cut = self.is_cut, self.is_cut and is_cut
        if (was_cut and not is_cut) or (was_cut == is_cut and self.last.box.area_px > self.largest.box.area_px):
            self.largest = self.last
        self.belief.add(seen.result.probabilities, row, is_cut)
        self.look = self.belief.probabilities()
        self.sightings += 1
        self._confidence += target.confidence

    def target(self) -> TrackedTarget:
        """Return what is known by now."""
        return TrackedTarget(
            self.track_id, self.sightings, round(self._confidence / self.sightings, DIGITS), self.belief.attributes(),
            self.first, self.last, self.largest,
        )  # fmt: skip

    def news(self) -> list[TargetEvent]:
        """Return an update where a label has changed, or the last one was UPDATE_NS ago."""
        target, now_ns = self.target(), self.last.captured_mono_ns
        labels = self._labels(target)
        if labels == self._told and now_ns - self._told_ns < UPDATE_NS:
            return []
        self._told, self._told_ns = labels, now_ns
        return [TargetEvent("updated", target)]

    @staticmethod
    def _labels(target: TrackedTarget) -> list[str | None]:
        return [attribute.label for attribute in target.attributes.values()]


def _sighting(seen: Seen, row: int) -> Sighting:
    frame = seen.frame
    box = seen.result.targets[row].box
    return Sighting(utf8(frame.name), frame.index, frame.captured_utc_ns, frame.captured_mono_ns, box)

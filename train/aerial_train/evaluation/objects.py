"""Objects in the map of a segmenter: which labels it found and what it found beside them, as the runtime would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aerial_runtime.contract import Box
from aerial_runtime.label_file import MIN_LABEL_PX
from aerial_runtime.score import boxes_match, iou
from aerial_runtime.segment import find_candidates, mask_level
from aerial_train.evaluation.gather import FrameOutcome
from aerial_train.evaluation.significance import wilson
from aerial_train.scenes.frames import LabelledTarget

STRICT_IOU: Final = 0.5
SIZE_EDGES_PX: Final = (8, 12, 17, 25, 40, 80, 160)  # lower edges of the certificate's sizes
IGNORED_SHARE: Final = 0.5  # of an object's cells: from here on nobody knows what it is


@dataclass(frozen=True)
class LabelOutcome:
    """One label: found by the runtime's match rule, found at an IoU of 0.5; peak: highest value of the map in its
    box and one cell around it, 0..1. scored: not truncated, so that a miss counts in the table of sizes."""

    frame: int
    target: LabelledTarget
    scored: bool
    found: bool
    found_strictly: bool
    peak: float


@dataclass(frozen=True)
class ExtraOutcome:
    """One object without a label, in a frame whose every target is labelled. confidence: its mean in the map, 0..1."""

    frame: int
    box: Box
    confidence: float


@dataclass(frozen=True)
class Objects:
    """All frames at one threshold. extras, extras_strict: objects without a label by either rule."""

    threshold: float
    labels: list[LabelOutcome]
    extras: list[ExtraOutcome]
    extras_strict: int
    complete_frames: int


@dataclass(frozen=True)
class ObjectScore:
    """Counts of labels from 17 px on that no edge cuts. precision: over the frames whose every target is labelled,
    None where nothing was found in any."""

    threshold: float
    labels: int
    found: int
    recall: float
    low: float
    high: float
    precision: float | None
    extras: int
    complete_frames: int
    strict_recall: float
    strict_precision: float | None


@dataclass(frozen=True)
class SizeScore:
    """Recall of one range of sizes; upto_px: None = no upper end. Intervals are of 95 % (Wilson)."""

    from_px: int
    upto_px: int | None
    labels: int
    found: int
    low: float
    high: float
    strict_found: int


def find_objects(frames: Sequence[FrameOutcome], threshold: float, stride: int) -> Objects:
    """Cut every map at a threshold and compare what remains with the labels."""
    labels: list[LabelOutcome] = []
    extras: list[ExtraOutcome] = []
    strict = 0
    for number, frame in enumerate(frames):
        level = mask_level(threshold)
        found = find_candidates(frame.probability, level, stride, frame.width, frame.height).candidates
        boxes = [candidate.box for candidate in found]
        # Small and truncated labels take part: a detection of one is no extra. They are left out of the counts.
        loose = assign([t.box for t in frame.targets], boxes, boxes_match)
        tight = assign([t.box for t in frame.targets], boxes, lambda a, b: iou(a, b) >= STRICT_IOU)
        labels += [
            LabelOutcome(number, t, not t.truncated, i in loose, i in tight, _peak(frame, t.box, stride))
            for i, t in enumerate(frame.targets)
        ]
        if frame.complete:
            extras += [
                ExtraOutcome(number, box, _confidence(frame, box, level, stride))
                for box in _extras(frame, boxes, set(loose.values()), level, stride)
            ]
            strict += len(_extras(frame, boxes, set(tight.values()), level, stride))
    return Objects(threshold, labels, extras, strict, sum(frame.complete for frame in frames))


def assign(labels: Sequence[Box], boxes: Sequence[Box], matches: Callable[[Box, Box], bool]) -> dict[int, int]:
    """Return label index -> box index, each at most once, the pair of the highest IoU first."""
    pairs = [(iou(a, b), i, k) for i, a in enumerate(labels) for k, b in enumerate(boxes) if matches(a, b)]
    taken: dict[int, int] = {}
    for _, label, box in sorted(pairs, key=lambda pair: -pair[0]):
        if label not in taken and box not in taken.values():
            taken[label] = box
    return taken


def score_objects(objects: Objects, frames: Sequence[FrameOutcome]) -> ObjectScore:
    """Count recall and precision."""
    counted = [label for label in objects.labels if label.scored and label.target.size_px >= MIN_LABEL_PX]
    found = sum(label.found for label in counted)
    low, high = wilson(found, len(counted))
    sure = [label for label in counted if frames[label.frame].complete]
    return ObjectScore(
        threshold=objects.threshold,
        labels=len(counted),
        found=found,
        recall=found / max(1, len(counted)),
        low=low,
        high=high,
        precision=_precision(sum(label.found for label in sure), len(objects.extras)),
        extras=len(objects.extras),
        complete_frames=objects.complete_frames,
        strict_recall=sum(label.found_strictly for label in counted) / max(1, len(counted)),
        strict_precision=_precision(sum(label.found_strictly for label in sure), objects.extras_strict),
    )


def score_sizes(objects: Objects) -> list[SizeScore]:
    """Return the certificate of the smallest target: recall by the longer side of the label's box."""
    rows = []
    for low_px, upto_px in zip(SIZE_EDGES_PX, (*SIZE_EDGES_PX[1:], None), strict=True):
        group = [
            label
            for label in objects.labels
            if label.scored and label.target.size_px >= low_px and (upto_px is None or label.target.size_px < upto_px)
        ]
        found = sum(label.found for label in group)
        low, high = wilson(found, len(group))
        strict = sum(label.found_strictly for label in group)
        rows.append(SizeScore(low_px, upto_px, len(group), found, low, high, strict))
    return rows


def _extras(frame: FrameOutcome, boxes: Sequence[Box], matched: set[int], level: int, stride: int) -> list[Box]:
    """Return the boxes that count as false alarms: on nothing, and where it is known that there is nothing."""
    unscored = [t.box for t in frame.targets if t.truncated or t.size_px < MIN_LABEL_PX]
    return [
        box
        for index, box in enumerate(boxes)
        if index not in matched
        and not any(boxes_match(label, box) for label in unscored)
        and _ignored_share(frame, box, level, stride) < IGNORED_SHARE
    ]


def _cells(box: Box, stride: int, margin: int = 0) -> tuple[slice, slice]:
    rows = slice(max(0, box.y // stride - margin), -(-(box.y + box.height) // stride) + margin)
    return rows, slice(max(0, box.x // stride - margin), -(-(box.x + box.width) // stride) + margin)


def _ignored_share(frame: FrameOutcome, box: Box, level: int, stride: int) -> float:
    cells = _cells(box, stride)
    inside = frame.probability[cells] >= level
    return float((frame.weight[cells] == 0)[inside].mean()) if inside.any() else 0.0


def _confidence(frame: FrameOutcome, box: Box, level: int, stride: int) -> float:
    part = frame.probability[_cells(box, stride)]
    return float(part[part >= level].mean()) / 255


def _peak(frame: FrameOutcome, box: Box, stride: int) -> float:
    part = frame.probability[_cells(box, stride, margin=1)]
    return float(part.max()) / 255 if part.size else 0.0


def _precision(found: int, extras: int) -> float | None:
    return found / (found + extras) if found + extras else None

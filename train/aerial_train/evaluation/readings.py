"""What the whole pipeline makes of labelled frames: found, missed, extra, and what it reads, by size.

The rules are those of aerial_runtime.score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.classify import sector_of
from aerial_runtime.contract import U8, Box, Target
from aerial_runtime.label_file import MIN_LABEL_PX, LabelledBox, LabelledFrame
from aerial_runtime.score import AttributeScore, Score, boxes_match, match_targets, place, score_attributes, unlabelled
from aerial_train.data.photos import PhotoTarget
from aerial_train.evaluation.pair import Pair
from aerial_train.evaluation.significance import bootstrap, wilson
from aerial_train.scenes.frames import LabelledTarget

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """One frame. targets: what a flight reports; matches: index of a label -> of a target; extras: indices of targets.

    seen: every candidate with every label; unvetoed: how many extras there would be, were all of them reported.
    """

    frame: LabelledFrame
    seen: list[Target]
    targets: list[Target]
    matches: dict[int, int]
    extras: list[int]
    unvetoed: int

    @property
    def missed(self) -> list[LabelledBox]:
        """The labels that count and were not found."""
        return [label for k, label in enumerate(self.frame.targets) if label.scored and k not in self.matches]

    def why_missed(self, label: LabelledBox) -> str:
        """Tell which model missed a label."""
        vetoed = [target.confidence for target in self.seen if boxes_match(label.box, target.box)]
        return f"taken for no target ({max(vetoed):.2f})" if vetoed else "not segmented"


@dataclass(frozen=True)
class SizeReading:
    """Targets of one range of sizes. attributes: of those that were found. Intervals are of 95 % (Wilson)."""

    from_px: int
    upto_px: int | None
    labels: int
    found: int
    low: float
    high: float
    attributes: dict[str, AttributeScore]


@dataclass(frozen=True)
class PipelineScore:
    """All frames. extras, unvetoed: a frame whose every target is labelled, with and without the classifier's veto.

    fields_known, fields_right: labels of the heads, the heading left out, of all targets that were found.
    attributes: the same by head, and of the heading.
    """

    frames: int
    complete_frames: int
    labels: int
    found: int
    low: float
    high: float
    extras: int
    extras_a_frame: float
    extras_low: float
    extras_high: float
    unvetoed_a_frame: float
    fields_known: int
    fields_right: int
    sizes: list[SizeReading]
    attributes: dict[str, AttributeScore]
    missed: list[str]


def read_frame(pair: Pair, image_bgr: U8, frame: LabelledFrame) -> Reading:
    """Fly one frame, uint8 [H, W, 3]. Raises ModelError."""
    seen = pair.see(image_bgr, frame.image)
    targets = pair.fly(seen)
    matches = match_targets(frame.targets, targets)
    unvetoed = len(unlabelled(frame, seen, match_targets(frame.targets, seen)))
    return Reading(frame, seen, targets, matches, unlabelled(frame, targets, matches), unvetoed)


def score_readings(readings: Sequence[Reading], space: LabelSpace, edges_px: Sequence[int]) -> PipelineScore:
    """Score all frames. edges_px: lower edges of the ranges of sizes; the last has no upper end."""
    spans = zip(edges_px, (*edges_px[1:], None), strict=True)
    sizes = [_score_size(readings, space, low, upto) for low, upto in spans]
    attributes = _found_attributes(readings, space, 0, None)
    fields = [attributes[head.name] for head in space.heads if head.name in attributes]
    labels, found = sum(size.labels for size in sizes), sum(size.found for size in sizes)
    low, high = wilson(found, labels)
    complete = [reading for reading in readings if reading.frame.complete]
    extras: Counts = np.array([len(reading.extras) for reading in complete], np.int64)
    extras_low, extras_high = bootstrap([extras] if complete else [], _mean)
    return PipelineScore(
        frames=len(readings),
        complete_frames=len(complete),
        labels=labels,
        found=found,
        low=low,
        high=high,
        extras=int(extras.sum()),
        extras_a_frame=float(extras.sum()) / max(1, len(complete)),
        extras_low=extras_low,
        extras_high=extras_high,
        unvetoed_a_frame=sum(reading.unvetoed for reading in complete) / max(1, len(complete)),
        fields_known=sum(field.known for field in fields),
        fields_right=sum(field.right for field in fields),
        sizes=sizes,
        attributes=attributes,
        missed=[
            f"{place(reading.frame.image, label.box)}: {reading.why_missed(label)}"
            for reading in readings
            for label in reading.missed
        ],
    )


def photo_label(target: PhotoTarget, space: LabelSpace) -> LabelledBox:
    """Return the label of a photo as scores take it; what is to be ignored counts neither way."""
    return _label(target.box, target.labels, target.degrees, target.truncated or target.ignored, space, MIN_LABEL_PX)


def scene_label(target: LabelledTarget, space: LabelSpace, least_px: int) -> LabelledBox:
    """Return the label of a drawn target as scores take it. least_px: longer side from which a miss counts."""
    return _label(target.box, target.labels, target.degrees, target.truncated, space, least_px)


def _label(
    box: Box, labels: dict[str, int], degrees: float | None, unscored: bool, space: LabelSpace, least_px: int
) -> LabelledBox:
    words = {head.name: head.classes[labels[head.name]] for head in space.heads if labels[head.name] >= 0}
    if space.heading is not None and degrees is not None:
        words[space.heading.name] = sector_of(degrees, space.heading.sectors)
    known: dict[str, str | None] = {**words}
    return LabelledBox(box.x, box.y, box.width, box.height, unscored, known, least_px=least_px)


def _score_size(readings: Sequence[Reading], space: LabelSpace, low_px: int, upto_px: int | None) -> SizeReading:
    here = [
        k in reading.matches
        for reading in readings
        for k, label in enumerate(reading.frame.targets)
        if label.scored and _within(label, low_px, upto_px)
    ]
    low, high = wilson(sum(here), len(here))
    attributes = _found_attributes(readings, space, low_px, upto_px)
    return SizeReading(low_px, upto_px, len(here), sum(here), low, high, attributes)


def _found_attributes(
    readings: Sequence[Reading], space: LabelSpace, low_px: int, upto_px: int | None
) -> dict[str, AttributeScore]:
    score = Score()
    for reading in readings:
        for k, index in reading.matches.items():
            label = reading.frame.targets[k]
            if _within(label, low_px, upto_px):
                score_attributes(score, label, reading.targets[index].attributes, space)
    return score.attributes


def _within(label: LabelledBox, low_px: int, upto_px: int | None) -> bool:
    return label.size_px >= low_px and (upto_px is None or label.size_px < upto_px)


def _mean(groups: Sequence[npt.NDArray[Any]]) -> float:
    return float(groups[0].mean())

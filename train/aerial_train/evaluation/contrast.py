"""How far boards stand out from their ground, and what share of them is found by it: certificates mix boards that
nobody could see with boards that nobody should miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aerial_train.evaluation.readings import Reading
from aerial_train.evaluation.significance import wilson
from aerial_train.evaluation.tables import Table, interval, percent, span
from aerial_train.scenes.frames import FrameSample

EDGES: Final = (0, 40, 80, 160, 320)  # lower edges of the ranges, levels
LEAST_PX: Final = 25  # longer side of the boards counted: smaller ones are missed for their size
RING: Final = 0.25  # of the box's longer side: how much ground around a box is looked at


@dataclass(frozen=True)
class ContrastReading:
    """Boards of LEAST_PX and more of one range of contrast. The interval is of 95 % (Wilson)."""

    from_levels: int
    upto_levels: int | None
    labels: int
    found: int
    low: float
    high: float


def contrasts(sample: FrameSample) -> list[float]:
    """Return for each target how far the mean colour of its box's target pixels, letter and all, is from that of the
    ground around the box: differences of the three channels added, 0..765, as the camera shows them. 0 where one of
    both cannot be seen."""
    return [_contrast(sample, index) for index in range(len(sample.targets))]


def _contrast(sample: FrameSample, index: int) -> float:
    box = sample.targets[index].box
    ring = max(2, round(RING * max(box.width, box.height)))
    rows = slice(max(0, box.y - ring), box.y + box.height + ring)
    columns = slice(max(0, box.x - ring), box.x + box.width + ring)
    image, mask = sample.image_bgr[rows, columns], sample.mask[rows, columns]
    board = np.zeros(mask.shape, bool)
    top, left = box.y - rows.start, box.x - columns.start
    board[top : top + box.height, left : left + box.width] = True
    board &= mask > 127
    ground = mask == 0
    if not board.any() or not ground.any():
        return 0.0
    return float(np.abs(image[board].mean(axis=0) - image[ground].mean(axis=0)).sum())


def score_contrasts(readings: Sequence[Reading], levels: Sequence[Sequence[float]]) -> list[ContrastReading]:
    """Return recall by contrast. levels: of every reading, what `contrasts` says of its frame's targets."""
    found = [
        (level, k in reading.matches)
        for reading, of_frame in zip(readings, levels, strict=True)
        for k, (label, level) in enumerate(zip(reading.frame.targets, of_frame, strict=True))
        if label.scored and label.size_px >= LEAST_PX
    ]
    scores = []
    for low, upto in zip(EDGES, (*EDGES[1:], None), strict=True):
        here = [hit for level, hit in found if level >= low and (upto is None or level < upto)]
        scores.append(ContrastReading(low, upto, len(here), sum(here), *wilson(sum(here), len(here))))
    return scores


def contrast_table(scores: Sequence[ContrastReading]) -> Table:
    """Return a line for each range in which there are boards."""
    rows = [
        (span(score.from_levels, score.upto_levels), str(score.labels), str(score.found),
         percent(score.found / score.labels), interval(score.low, score.high))
        for score in scores if score.labels
    ]  # fmt: skip
    note = (
        "levels: mean colour of a board, its letter included, less that of the ground around it, three channels added"
    )
    return Table(
        f"Recall from {LEAST_PX} px by contrast", ("levels", "targets", "found", "recall", "95 %"), rows, [note]
    )

"""How good the map of a segmenter is, cell by cell and object by object, at its threshold and at all others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.segment import mask_level
from aerial_train.evaluation.gather import FrameOutcome
from aerial_train.evaluation.objects import ObjectScore, find_objects, score_objects

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

LEVELS: Final = 256
THRESHOLDS: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True)
class CellScore:
    """Cells of the model's stride, those that nobody knows left out. A cell is target from half its area on.

    background: the accuracy of an all-background map, whose Dice and Jaccard are 0.
    """

    threshold: float
    cells: int
    dice: float
    jaccard: float
    accuracy: float
    precision: float
    recall: float
    background: float


@dataclass(frozen=True)
class SegmenterScore:
    """At the threshold and, as curves, at THRESHOLDS."""

    frames: int
    cells: CellScore
    objects: ObjectScore
    cell_curve: list[CellScore]
    object_curve: list[ObjectScore]


def score_segmenter(frames: Sequence[FrameOutcome], threshold: float, stride: int) -> SegmenterScore:
    """Score all frames."""
    counts = cell_histograms(frames)
    return SegmenterScore(
        frames=len(frames),
        cells=score_cells(counts, threshold),
        objects=score_objects(find_objects(frames, threshold, stride), frames),
        cell_curve=[score_cells(counts, value) for value in THRESHOLDS],
        object_curve=[score_objects(find_objects(frames, value, stride), frames) for value in THRESHOLDS],
    )


def cell_histograms(frames: Iterable[FrameOutcome]) -> Ints:
    """Return int64 [2, 256]: how many cells of background (0) and of target (1) have each level in the map."""
    counts = np.zeros((2, LEVELS), np.int64)
    for frame in frames:
        known = frame.weight > 0
        target = frame.coverage > 127
        for kind, cells in enumerate((known & ~target, known & target)):
            counts[kind] += np.bincount(frame.probability[cells], minlength=LEVELS)
    return counts


def score_cells(counts: Ints, threshold: float) -> CellScore:
    """Score cells. counts: of `cell_histograms`."""
    level = mask_level(threshold)
    tn, fn = (int(row[:level].sum()) for row in counts)
    fp, tp = (int(row[level:].sum()) for row in counts)
    total = tp + fp + fn + tn
    return CellScore(
        threshold=threshold,
        cells=total,
        dice=2 * tp / max(1, 2 * tp + fp + fn),
        jaccard=tp / max(1, tp + fp + fn),
        accuracy=(tp + tn) / max(1, total),
        precision=tp / max(1, tp + fp),
        recall=tp / max(1, tp + fn),
        background=(tn + fp) / max(1, total),
    )


def frame_errors(frame: FrameOutcome, threshold: float) -> int:
    """Return how many known cells of a frame are wrong."""
    said = frame.probability >= mask_level(threshold)
    return int(((said != (frame.coverage > 127)) & (frame.weight > 0)).sum())

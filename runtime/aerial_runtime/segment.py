"""Full frame -> candidates: where something may be a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from aerial_runtime.backends import Backend
from aerial_runtime.contract import U8, Box
from aerial_runtime.errors import ModelError

MIN_CELLS = 2  # a single cell is noise: the smallest target, 8 px across, covers 4 cells at stride 4
MAX_CANDIDATES = 100  # bounds the time one frame can take


@dataclass(frozen=True)
class Candidate:
    """Something that may be a target. box: in the full frame. area_px: mask cells times stride squared."""

    box: Box
    area_px: int


@dataclass(frozen=True)
class Segmentation:
    """The candidates of one frame, from top to bottom. cut: how many more there were beyond the limit."""

    candidates: list[Candidate]
    cut: int = 0


class Segmenter:
    """Find candidates with a segmenter model."""

    def __init__(self, backend: Backend, max_candidates: int = MAX_CANDIDATES) -> None:
        """Raise ModelError where the model is no segmenter of the graph contract."""
        card = backend.card
        if card.kind != "segmenter" or card.stride is None:
            raise ModelError(f"{backend.name} is a {card.kind}; give it as --{card.kind}")
        if [spec.name for spec in card.outputs] != ["probability"] or card.outputs[0].dtype != "uint8":
            raise ModelError(f"the segmenter {backend.name} has no uint8 output 'probability'; export it again")
        self.backend = backend
        self.stride = card.stride
        self._max_candidates = max_candidates
        self._level = mask_level(card.thresholds.mask)

    def __call__(self, image_bgr: U8) -> Segmentation:
        """Segment one frame, uint8 [H, W, 3]. Raises ModelError for what the model computes."""
        height, width = image_bgr.shape[:2]
        probability = self._probability(image_bgr)
        return find_candidates(probability, self._level, self.stride, width, height, self._max_candidates)

    def _probability(self, image_bgr: U8) -> U8:
        """Return the map, uint8 [ceil(H/s), ceil(W/s)]."""
        output = self.backend.infer(image_bgr[np.newaxis])["probability"]
        height, width = image_bgr.shape[:2]
        expected = (1, -(-height // self.stride), -(-width // self.stride))
        if output.shape != expected:
            raise ModelError(
                f"{self.backend.name} turned a {width}x{height} frame into a map of {list(output.shape)} "
                f"instead of {list(expected)}; export it again"
            )
        probability: U8 = output[0]
        return probability


def mask_level(threshold: float) -> int:
    """Return the level of 0..255 from which on a cell belongs to a target; at level 0 every cell would."""
    return max(1, math.ceil(threshold * 255 - 1e-6))


def find_candidates(
    probability: U8, level: int, stride: int, width: int, height: int, max_candidates: int = MAX_CANDIDATES
) -> Segmentation:
    """Return the components of a map, uint8 [ceil(H/s), ceil(W/s)], from a level on, in a frame of width x height."""
    _, mask = cv2.threshold(probability, level - 1, 255, cv2.THRESH_BINARY)
    if cv2.countNonZero(mask) == 0:  # most frames of a flight: 0.01 ms instead of 0.5
        return Segmentation([])
    # On the map, not on the frame: at full resolution this alone takes 9 ms at 1080p.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    components = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= MIN_CELLS) + 1  # 0 is the background
    found = len(components)
    if found > max_candidates:
        strength = _mean_probability(probability, labels, count)[components]
        strongest = np.argsort(-strength, kind="stable")[:max_candidates]
        components = components[np.sort(strongest)]
    candidates = [candidate_of(stats[component], stride, width, height) for component in components]
    return Segmentation(candidates, cut=found - len(candidates))


def candidate_of(stats: npt.NDArray[np.int32], stride: int, width: int, height: int) -> Candidate:
    """Return the candidate of one component.

    stats: x, y, width, height, area in cells, as OpenCV gives them. width, height: of the frame in pixels, to
    which the box is clipped: the last cells of a row or column may reach beyond it.
    """
    x, y, columns, rows, cells = (int(value) for value in stats)
    right, bottom = min((x + columns) * stride, width), min((y + rows) * stride, height)
    return Candidate(Box(x * stride, y * stride, right - x * stride, bottom - y * stride), cells * stride**2)


def _mean_probability(probability: U8, labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Return the mean of the map, 0..255, over each of `count` components."""
    cells = np.flatnonzero(labels)
    component = labels.ravel()[cells]
    total = np.bincount(component, weights=probability.ravel()[cells], minlength=count)
    return np.asarray(total / np.maximum(np.bincount(component, minlength=count), 1))

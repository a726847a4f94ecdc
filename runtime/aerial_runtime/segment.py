"""Full frame -> candidates: where something may be a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from aerial_runtime.backends import Backend
from aerial_runtime.contract import U8, Box
from aerial_runtime.errors import ModelError, UsageError
from aerial_runtime.tile import OVERLAP_PX, Tiling

MIN_CELLS = 2  # a single cell is noise: the smallest target, 8 px across, covers 4 cells at stride 4
MAX_CANDIDATES = 100  # bounds the time one frame can take
# Probabilities at which doubtful candidates are framed anew: a faint board's mask holds its letter alone or half of it,
# or runs into the path beside it, and the classifier rejects such a crop. Spread over all that maps show.
OTHER_THRESHOLDS: Final = (0.03, 0.06, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class Candidate:
    """Something that may be a target. box: in the full frame. area_px: mask cells times stride squared."""

    box: Box
    area_px: int


@dataclass(frozen=True)
class Segmentation:
    """The candidates of one frame, from top to bottom. cut: how many more there were beyond the limit.

    probability: the map that they are of, uint8 [ceil(H/s), ceil(W/s)], valid until the segmenter is called again.
    """

    candidates: list[Candidate]
    probability: U8 = field(compare=False, repr=False)
    cut: int = 0


class Segmenter:
    """Find candidates with a segmenter model."""

    def __init__(
        self,
        backend: Backend,
        max_candidates: int = MAX_CANDIDATES,
        *,
        mask_threshold: float | None = None,
        min_size_px: int = 0,
        max_size_px: int | None = None,
        tile: tuple[int, int] | None = None,
        overlap_px: int = OVERLAP_PX,
    ) -> None:
        """Prepare a segmenter.

        mask_threshold: probability 0..1 from which a cell belongs to a target; None: the card's. min_size_px,
        max_size_px: see `find_candidates`. tile: (width, height) in pixels of what the model is given at once; None:
        the whole frame. Raises ModelError where the model is no segmenter of the graph contract, UsageError for a
        tile that cannot be.
        """
        card = backend.card
        if card.kind != "segmenter" or card.stride is None:
            raise ModelError(f"{backend.name} is a {card.kind}; give it as --{card.kind}")
        if [spec.name for spec in card.outputs] != ["probability"] or card.outputs[0].dtype != "uint8":
            raise ModelError(f"the segmenter {backend.name} has no uint8 output 'probability'; export it again")
        self.backend = backend
        self.stride = card.stride
        self._max_candidates = max_candidates
        self._sizes_px = (min_size_px, max_size_px)
        self._level = mask_level(card.thresholds.mask if mask_threshold is None else mask_threshold)
        self._tiling = None if tile is None else _tiling(backend, tile, overlap_px, card.stride)

    def __call__(self, image_bgr: U8) -> Segmentation:
        """Segment one frame, uint8 [H, W, 3]. Raises ModelError for what the model computes."""
        height, width = image_bgr.shape[:2]
        probability = self.probability(image_bgr)
        return find_candidates(
            probability, self._level, self.stride, width, height, self._max_candidates, *self._sizes_px
        )

    def reframe(self, image_bgr: U8, segmentation: Segmentation, doubtful: Sequence[Candidate]) -> list[Candidate]:
        """Return what else may frame the doubtful candidates of a frame, whose segmentation is still valid.

        Those are components of its map at other thresholds whose boxes touch one of theirs, no box twice; only as many
        as keep all candidates of the frame within the limit, the first in `doubtful` first.
        """
        room = self._max_candidates - len(segmentation.candidates)
        if room <= 0:
            return []
        height, width = image_bgr.shape[:2]
        known = {candidate.box for candidate in segmentation.candidates}
        others: dict[Box, Candidate] = {}
        for threshold in OTHER_THRESHOLDS:
            found = find_candidates(
                segmentation.probability, mask_level(threshold), self.stride, width, height, self._max_candidates,
                *self._sizes_px,
            )  # fmt: skip
            others |= {one.box: one for one in found.candidates if one.box not in known}
        near = {box: None for one in doubtful for box in others if one.box.shared_px(box)}
        return [others[box] for box in list(near)[:room]]

    def probability(self, image_bgr: U8) -> U8:
        """Return the map of a frame, uint8 [ceil(H/s), ceil(W/s)], valid until the next call. Raises ModelError."""
        return self._infer(image_bgr) if self._tiling is None else self._tiling(image_bgr, self._infer)

    def _infer(self, image_bgr: U8) -> U8:
        """Return the map of what the model is given at once."""
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


def _tiling(backend: Backend, tile: tuple[int, int], overlap_px: int, stride: int) -> Tiling:
    """Return the tiling for a model. Raises UsageError for tiles that it cannot be given."""
    _, height, width, _ = backend.card.inputs[0].shape
    has_own_size = isinstance(height, int) and isinstance(width, int)  # an engine
    if has_own_size and tile != (width, height):
        raise UsageError(
            f"{backend.name} takes frames of {width}x{height} alone; give --tile {width}x{height}, or an engine that "
            f"was built for {tile[0]}x{tile[1]}"
        )
    return Tiling(tile, overlap_px, stride, padded=has_own_size)


def mask_level(threshold: float) -> int:
    """Return the level of 0..255 from which on a cell belongs to a target; at level 0 every cell would."""
    return max(1, math.ceil(threshold * 255 - 1e-6))


def find_candidates(
    probability: U8,
    level: int,
    stride: int,
    width: int,
    height: int,
    max_candidates: int = MAX_CANDIDATES,
    min_size_px: int = 0,
    max_size_px: int | None = None,
) -> Segmentation:
    """Return the components of a map, uint8 [ceil(H/s), ceil(W/s)], from a level on, in a frame of width x height.

    min_size_px, max_size_px: the longer side of a box, clipped to the frame, that is kept, both inclusive.
    """
    _, mask = cv2.threshold(probability, level - 1, 255, cv2.THRESH_BINARY)
    if cv2.countNonZero(mask) == 0:  # most frames of a flight: 0.01 ms instead of 0.5
        return Segmentation([], probability)
    # On the map, not on the frame: at full resolution this alone takes 9 ms at 1080p.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=_label_type(mask))
    boxes = _boxes(stats, stride, width, height)
    size_px, area_cells = boxes[:, 2:].max(axis=1), stats[:, cv2.CC_STAT_AREA]
    kept = (area_cells >= MIN_CELLS) & (size_px >= min_size_px)
    if max_size_px is not None:
        kept &= size_px <= max_size_px
    kept[0] = False  # the background
    components = np.flatnonzero(kept)
    cut = max(0, len(components) - max_candidates)
    if cut:
        strength = _mean_probability(probability, labels, count)[components]
        strongest = np.argsort(-strength, kind="stable")[:max_candidates]
        components = components[np.sort(strongest)]
    areas_px = area_cells[components] * stride**2
    found = zip(boxes[components].tolist(), areas_px.tolist(), strict=True)  # plain numbers, all at once
    return Segmentation([Candidate(Box(*box), area_px) for box, area_px in found], probability, cut)


def _label_type(mask: npt.NDArray[Any]) -> int:
    """Return a type that can number the components of any mask of this size; 16 bits: 0.35 ms instead of 0.5 to 0.8."""
    rows, columns = mask.shape
    return cv2.CV_16U if -(-rows // 2) * -(-columns // 2) < 1 << 15 else cv2.CV_32S


def _boxes(stats: npt.NDArray[Any], stride: int, width: int, height: int) -> npt.NDArray[Any]:
    """Return (x, y, width, height) in pixels of each component, [N, 4].

    stats: x, y, width, height, ... in cells, as OpenCV gives them. width, height: of the frame, to which boxes are
    clipped: the last cells of a row or column may reach beyond it.
    """
    start = stats[:, :2] * stride
    stop = np.minimum(start + stats[:, 2:4] * stride, (width, height))
    return np.hstack([start, stop - start])


def _mean_probability(probability: U8, labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Return the mean of the map, 0..255, over each of `count` components."""
    cells = np.flatnonzero(labels)
    component = labels.ravel()[cells]
    total = np.bincount(component, weights=probability.ravel()[cells], minlength=count)
    return np.asarray(total / np.maximum(np.bincount(component, minlength=count), 1))

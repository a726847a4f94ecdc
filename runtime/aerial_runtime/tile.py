"""Frames too large for memory: the map of a frame, computed a tile at a time and joined before anything is found in it.

The seam rule: tiles overlap, and each gives the joined map only the part that lies at least half the overlap away
from its inner edges. Where the overlap is at least the network's receptive field, those cells saw all that they would
have seen in the whole frame, so the joined map is the map of the whole frame, and a target at a seam is one component
of it like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aerial_runtime.contract import U8
from aerial_runtime.errors import UsageError

OVERLAP_PX = 192  # the default network sees 187 px around a cell
# Tiles start on this grid: a network that halves its map four times after a stride of 4 then pools the same pixels
# together in a tile as in the whole frame.
GRID_PX = 64


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels: what is read, [start, stop), and what of it is kept, [first, last)."""

    start: int
    stop: int
    first: int
    last: int


class Tiling:
    """The map of a frame from the maps of its tiles."""

    def __init__(self, tile: tuple[int, int], overlap_px: int, stride: int, *, padded: bool = False) -> None:
        """tile: (width, height) in pixels, at most. stride: pixels per cell. Raises UsageError for what cannot be.

        padded: what is shorter at the frame's right and lower end gets black up to the tile's size, for a model that
        takes no other. Within what it sees of that black its map may differ from that of the whole frame.
        """
        grid = math.lcm(GRID_PX, stride)
        least = overlap_px + grid
        if overlap_px < 0:
            raise UsageError(f"--tile-overlap cannot be {overlap_px}; give pixels, 0 or more ({OVERLAP_PX})")
        if min(tile) < least:
            raise UsageError(
                f"--tile {tile[0]}x{tile[1]} is too small for an overlap of {overlap_px} px; "
                f"give at least {least}x{least}, or a smaller --tile-overlap"
            )
        self._tile = tile
        self._steps = [(side - overlap_px) // grid * grid for side in tile]
        self._stride, self._padded = stride, padded
        self._pixels: U8 = np.empty(0, np.uint8)

    def __call__(self, image_bgr: U8, map_of: Callable[[U8], U8]) -> U8:
        """Return the map of a frame, uint8 [ceil(H/s), ceil(W/s)].

        map_of: uint8 [h, w, 3], contiguous -> its map, uint8 [ceil(h/s), ceil(w/s)].
        """
        height, width = image_bgr.shape[:2]
        stride = self._stride
        joined: U8 = np.empty((-(-height // stride), -(-width // stride)), np.uint8)
        for row in spans(height, self._tile[1], self._steps[1], stride):
            for column in spans(width, self._tile[0], self._steps[0], stride):
                part = map_of(self._cut(image_bgr, row, column))
                joined[_cells(row.first, row.last, stride), _cells(column.first, column.last, stride)] = part[
                    _cells(row.first - row.start, row.last - row.start, stride),
                    _cells(column.first - column.start, column.last - column.start, stride),
                ]
        return joined

    def _cut(self, image_bgr: U8, row: Span, column: Span) -> U8:
        """Return a tile, contiguous: of the frame itself where it spans its width, else in a buffer used again."""
        tile = image_bgr[row.start : row.stop, column.start : column.stop]
        height, width = self._tile[::-1] if self._padded else tile.shape[:2]
        if tile.flags.c_contiguous and tile.shape[:2] == (height, width):
            return tile
        size = height * width * 3
        if size > self._pixels.size:
            self._pixels = np.empty(size, np.uint8)
        copy = self._pixels[:size].reshape(height, width, 3)
        if tile.shape[:2] != (height, width):
            copy[:] = 0
        np.copyto(copy[: tile.shape[0], : tile.shape[1]], tile)
        return copy


def spans(length: int, tile: int, step: int, stride: int) -> list[Span]:
    """Return the tiles along one axis of `length` pixels; what they keep covers it without gap or overlap.

    Each starts `step` after the one before; the last ends with the axis. Neighbours share the middle of their overlap,
    to the stride.
    """
    starts = range(0, max(1, length - tile + step), step)
    half = (tile - step) // 2 // stride * stride
    firsts = [start + half if start else 0 for start in starts]
    lasts = [*firsts[1:], length]
    return [Span(start, min(start + tile, length), *kept) for start, *kept in zip(starts, firsts, lasts, strict=True)]


def _cells(first_px: int, last_px: int, stride: int) -> slice:
    """Return the cells of the pixels [first, last); first lies on a cell, last too or at the frame's end."""
    return slice(first_px // stride, -(-last_px // stride))

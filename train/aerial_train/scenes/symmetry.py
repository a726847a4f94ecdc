"""What symmetry leaves of a direction: how often the sector of letter-up can be right, for whoever sees everything.

An H looks the same after half a turn, so that its raw sector is a guess between two; on a triangle it is none, for the
letter is turned with its board. What a picture leaves open is the turns that both the letter and its board allow.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8
from aerial_train.scenes.glyphs import FONT_FILES, STROKES, glyph, glyph_variants
from aerial_train.scenes.shapes import SHAPES
from aerial_train.scenes.target import Style

SIDE_PX: Final = 192
SAME_LETTER: Final = 0.9  # overlap (IoU) from which on letters a few pixels high look the same
SAME_OUTLINE: Final = 0.98  # a heptagon overlaps with an eighth of a turn of itself by 0.96
EVERY_ANGLE: Final = 0  # the order of what looks the same at every angle: gcd(0, n) = n
FOLDS: Final = range(2, 9)


def orientation_limit(space: LabelSpace, style: Style) -> float:
    """Return the share of raw sectors that can be right at best, over letters, looks and shapes as scenes draw them.

    Raises ValueError for a label space without orientation.
    """
    if space.heading is None:
        raise ValueError(f"the label space {space.name!r} has no orientation")
    sectors = len(space.heading.sectors)
    letters = _drawn(space, "letter", list(STROKES))
    shapes = [_outline_order(shape) for shape in _drawn(space, "shape", list(SHAPES))]
    looks = ((style.fonts, 1 - style.strokes), (range(len(FONT_FILES), glyph_variants()), style.strokes))
    limit = 0.0
    for variants, share in looks:
        if share > 0:
            orders = [_glyph_order(letter, variant) for letter in letters for variant in variants]
            alone = np.mean([_best(order, sectors) for order in orders])
            on_board = np.mean([_best(math.gcd(order, shape), sectors) for order in orders for shape in shapes])
            limit += share * float(style.turned_letter * alone + (1 - style.turned_letter) * on_board)
    return limit


def rotation_order(contours: tuple[F32, ...], same: float) -> int:
    """Return how many equal turns bring contours (even-odd, about their origin) to an overlap of at least `same`.

    EVERY_ANGLE where any turn does.
    """
    mask = _raster(contours)
    overlaps = {n: _overlap(mask, _raster(tuple(_turned(c, 2 * math.pi / n) for c in contours))) for n in FOLDS}
    orders = {n for n, overlap in overlaps.items() if overlap >= same}
    if {5, 7} <= orders:  # no shape but a round one has both
        return EVERY_ANGLE
    return max(orders, default=1)


@cache
def _glyph_order(letter: str, variant: int) -> int:
    return rotation_order(glyph(letter, variant), SAME_LETTER)


def _outline_order(shape: str) -> int:
    outline, _ = SHAPES[shape](np.random.default_rng(0))
    return rotation_order((outline,), SAME_OUTLINE)


def _drawn(space: LabelSpace, attribute: str, everything: list[str]) -> list[str]:
    """Return the values of an attribute that scenes of this label space draw."""
    found = [
        value
        for head in space.heads
        for name in head.classes
        for key, value in head.draw.get(name, {head.name: name}).items()
        if key == attribute
    ]
    return found or everything


def _best(order: int, sectors: int) -> float:
    """Return how often the best guess among `order` equal turns, or among all sectors, is right."""
    return 1 / sectors if order == EVERY_ANGLE else 1 / min(order, sectors)


def _turned(points: F32, angle: float) -> F32:
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array(((cos, sin), (-sin, cos)), np.float32)


def _raster(contours: tuple[F32, ...]) -> U8:
    """Fill contours into a square that holds them at every angle."""
    reach = max(float(np.hypot(c[:, 0], c[:, 1]).max()) for c in contours)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    points = [np.rint((c / reach * 0.48 + 0.5) * SIDE_PX * 16).astype(np.int32) for c in contours]
    cv2.fillPoly(mask, points, 1, cv2.LINE_8, 4)
    return mask


def _overlap(first: U8, second: U8) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))

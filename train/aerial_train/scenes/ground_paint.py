"""Paint that lies flat on the ground and belongs to no board: markings, numerals, emblems.

Each painter gets a place (pixels) and a size (longer side, pixels).
"""

from __future__ import annotations

import math

import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_train.scenes.brush import Rng, along, any_color, blob, fill, oblong
from aerial_train.scenes.glyphs import STROKES, glyph, glyph_variants
from aerial_train.scenes.painting import coverage


def marking(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A short painted bar, a dash, an arrow's shaft: much longer than wide."""
    paint = np.array((225, 230, 232) if rng.random() < 0.7 else (60, 185, 225), np.float32)
    bar = oblong(x, y, size, size * rng.uniform(0.04, 0.16), rng.uniform(0, math.pi))
    fill(rng, picture, bar, paint, rng.uniform(0.4, 1))


def numeral(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Letters and numerals painted straight on the ground, as on pitches and parking places."""
    paint = np.array((228, 230, 232), np.float32) if rng.random() < 0.7 else any_color(rng)
    _letter(rng, picture, x, y, size, rng.uniform(0, 2 * math.pi), paint, rng.uniform(0.5, 0.95))


def emblem(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """What is painted flat on the ground: a paw print, an arrow, a short word, a ring around a letter."""
    paint = np.array((228, 230, 232), np.float32) if rng.random() < 0.5 else any_color(rng)
    opacity, angle, kind = rng.uniform(0.5, 1), rng.uniform(0, 2 * math.pi), rng.random()
    if kind < 0.35:
        heel = along(x, y, angle, -0.15 * size, 0.0)
        fill(rng, picture, blob(rng, *heel, size * rng.uniform(0.45, 0.6), 0.15), paint, opacity)
        for spread in (-0.9, -0.3, 0.3, 0.9):
            toe = along(x, y, angle + spread, size * 0.36, 0.0)
            fill(rng, picture, blob(rng, *toe, size * rng.uniform(0.14, 0.24), 0.05), paint, opacity)
    elif kind < 0.55:
        fill(rng, picture, oblong(x, y, size * 0.8, size * rng.uniform(0.06, 0.2), angle), paint, opacity)
        head = [
            along(x, y, angle, ahead * size, aside * size) for ahead, aside in ((0.5, 0), (0.1, 0.25), (0.1, -0.25))
        ]
        fill(rng, picture, np.array(head, np.float32), paint, opacity)
    elif kind < 0.8:
        letters = int(rng.integers(2, 5))
        for aside in np.linspace(-0.4, 0.4, letters).tolist():
            _letter(rng, picture, *along(x, y, angle, 0.0, aside * size), size * 1.1 / letters, angle, paint, opacity)
    else:
        angles = np.linspace(0, 2 * math.pi, 40)
        ring = np.stack((np.cos(angles), np.sin(angles)), axis=1) * size / 2
        band = np.concatenate((ring, ring[::-1] * rng.uniform(0.7, 0.9))) + np.array((x, y))
        fill(rng, picture, np.asarray(band, np.float32), paint, opacity)
        if rng.random() < 0.6:
            _letter(rng, picture, x, y, size * 0.5, angle, paint, opacity)


def _letter(
    rng: Rng, picture: U8, x: float, y: float, size: float, angle: float, paint_bgr: F32, opacity: float
) -> None:
    """One random letter, `size` px high, turned by `angle`."""
    letter = list(STROKES)[int(rng.integers(len(STROKES)))]
    cos, sin = math.cos(angle) * size / 2, math.sin(angle) * size / 2
    matrix = np.array(((cos, sin), (-sin, cos)), np.float32)
    contours = tuple(
        np.asarray(c @ matrix + (x, y), np.float32) for c in glyph(letter, int(rng.integers(glyph_variants())))
    )
    points = np.concatenate(contours)
    height, width = picture.shape[:2]
    x0, y0 = max(0, math.floor(points[:, 0].min())), max(0, math.floor(points[:, 1].min()))
    x1, y1 = min(width, math.ceil(points[:, 0].max())), min(height, math.ceil(points[:, 1].max()))
    if x1 > x0 and y1 > y0:
        share = coverage(contours, x0, y0, x1 - x0, y1 - y0, 2)[..., None] * np.float32(opacity / 255)
        region = picture[y0:y1, x0:x1]
        region[:] = region + share * (paint_bgr - region)

"""Things that lie on the ground and are not targets.

Each painter gets a place (pixels) and a size (longer side, pixels).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_train.scenes import colors, textures
from aerial_train.scenes.glyphs import STROKES, glyph, glyph_variants
from aerial_train.scenes.painting import coverage

Rng = np.random.Generator
Painter = Callable[[Rng, U8, float, float, float], None]


def paint_distractor(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Paint one random distractor into `picture` (uint8 [H, W, 3], in place)."""
    PAINTERS[int(rng.integers(len(PAINTERS)))](rng, picture, x, y, size)


def _fill(rng: Rng, picture: U8, points: F32, bgr: F32, opacity: float = 1.0, soft_px: float = 0.0) -> None:
    """Fill a polygon [K, 2] (pixels) with a slightly blotched colour; soft_px blurs its edge."""
    height, width = picture.shape[:2]
    pad = 1 + math.ceil(2 * soft_px)
    x0, y0 = max(0, math.floor(points[:, 0].min()) - pad), max(0, math.floor(points[:, 1].min()) - pad)
    x1 = min(width, math.ceil(points[:, 0].max()) + pad)
    y1 = min(height, math.ceil(points[:, 1].max()) + pad)
    if x1 <= x0 or y1 <= y0:
        return
    w, h = x1 - x0, y1 - y0
    mask = coverage((points,), x0, y0, w, h, 2 if max(w, h) <= 120 else 1)
    if soft_px:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soft_px), np.uint8)
    share = mask[..., None] * np.float32(opacity / 255)
    blotches = textures.patch(rng, textures.smooth_pool(), h, w)[..., None] * np.float32(rng.uniform(0, 0.12))
    region = picture[y0:y1, x0:x1]
    ground = region.astype(np.float32)
    region[:] = np.clip(ground + share * (bgr * (1 + blotches) - ground), 0, 255)


def _oblong(x: float, y: float, width: float, height: float, angle: float) -> F32:
    """Corners of a turned rectangle."""
    cos, sin = math.cos(angle), math.sin(angle)
    corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)), np.float32) * (width / 2, height / 2)
    return np.asarray(corners @ np.array(((cos, sin), (-sin, cos))) + (x, y), np.float32)


def _blob(rng: Rng, x: float, y: float, size: float, lobes: float = 0.2) -> F32:
    """A closed smooth curve without corners."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    radius = np.ones(48)
    for k in range(2, 6):
        radius += rng.normal(0, lobes / k) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    points = np.stack((np.cos(angles), np.sin(angles) * rng.uniform(0.45, 1)), axis=1) * radius[:, None] * size / 2
    turn = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.asarray(points @ np.array(((cos, sin), (-sin, cos))) + (x, y), np.float32)


def _any_color(rng: Rng) -> F32:
    names = list(colors.WIDE)
    return colors.sample_bgr(rng, colors.WIDE[names[int(rng.integers(len(names)))]])


def _dull_color(rng: Rng) -> F32:
    return np.asarray(rng.uniform(20, 215) + rng.normal(0, 14, 3), np.float32)


def _car(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    angle, body = rng.uniform(0, 2 * math.pi), _dull_color(rng) if rng.random() < 0.5 else _any_color(rng)
    _fill(
        rng, picture, _oblong(x + 0.06 * size, y + 0.06 * size, size, size * 0.46, angle), np.zeros(3, np.float32), 0.5
    )
    _fill(rng, picture, _oblong(x, y, size, size * 0.44, angle), body)
    for along, length in ((-0.24, 0.14), (0.12, 0.16)):
        cx, cy = x + along * size * math.cos(angle), y + along * size * math.sin(angle)
        _fill(rng, picture, _oblong(cx, cy, length * size, size * 0.38, angle), np.full(3, 35, np.float32), 0.85)


def _marking(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A short painted bar, a dash, an arrow's shaft: much longer than wide."""
    paint = np.array((225, 230, 232) if rng.random() < 0.7 else (60, 185, 225), np.float32)
    bar = _oblong(x, y, size, size * rng.uniform(0.04, 0.16), rng.uniform(0, math.pi))
    _fill(rng, picture, bar, paint, rng.uniform(0.4, 1))


def _numeral(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Letters and numerals painted straight on the ground, as on pitches and parking places."""
    letter = list(STROKES)[int(rng.integers(len(STROKES)))]
    angle = rng.uniform(0, 2 * math.pi)
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
        share = coverage(contours, x0, y0, x1 - x0, y1 - y0, 2)[..., None] * np.float32(rng.uniform(0.5, 0.95) / 255)
        region = picture[y0:y1, x0:x1]
        paint = np.array((228, 230, 232), np.float32) if rng.random() < 0.7 else _any_color(rng)
        region[:] = region + share * (paint - region)


def _tarp(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A long crumpled sheet with folds."""
    angle, width = rng.uniform(0, math.pi), size * rng.uniform(0.25, 0.5)
    corners = _oblong(x, y, size * 1.4, width, angle)
    corners += rng.normal(0, 0.07 * size, corners.shape).astype(np.float32)
    color = _any_color(rng)
    _fill(rng, picture, corners, color)
    for _ in range(int(rng.integers(2, 6))):
        a, b = rng.uniform(0.2, 0.8, 2)
        start, stop = corners[0] * (1 - a) + corners[1] * a, corners[3] * (1 - b) + corners[2] * b
        middle, (dx, dy) = (start + stop) / 2, (stop - start).tolist()
        fold = _oblong(float(middle[0]), float(middle[1]), math.hypot(dx, dy), size * 0.05, math.atan2(dy, dx))
        _fill(rng, picture, fold, color * np.float32(rng.uniform(0.6, 1.25)), 0.7, 1.0)


def _roof(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A gable roof: two slopes of one material in different light; larger than any board."""
    size, angle = size * rng.uniform(1.5, 3), rng.uniform(0, math.pi)
    width, color = size * rng.uniform(0.5, 0.8), _dull_color(rng)
    if rng.random() < 0.4:
        color = colors.sample_bgr(rng, colors.WIDE["brown"])
    _fill(rng, picture, _oblong(x + size * 0.04, y + size * 0.04, size, width, angle), np.zeros(3, np.float32), 0.5)
    across = np.array((-math.sin(angle), math.cos(angle))) * width / 4
    for side, light in ((-1, 1.0), (1, rng.uniform(0.55, 0.85))):
        half = _oblong(x + side * across[0], y + side * across[1], size, width / 2, angle)
        _fill(rng, picture, half, color * np.float32(light))


def _bin(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A barrel or bin from above: a rim around a dark inside, with its shadow."""
    size *= 0.6
    for scale, color, opacity in ((1.15, np.zeros(3, np.float32), 0.4), (1.0, _any_color(rng), 1.0),
                                  (0.72, np.full(3, rng.uniform(5, 60), np.float32), 0.9)):  # fmt: skip
        shift = size * 0.12 if opacity == 0.4 else 0.0
        _fill(rng, picture, _blob(rng, x + shift, y + shift, size * scale, 0.0), color, opacity)


def _person(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Shoulders, a head and a long shadow."""
    size *= 0.5
    angle = rng.uniform(0, 2 * math.pi)
    shadow = _oblong(x + size * 0.8 * math.cos(angle), y + size * 0.8 * math.sin(angle), size * 1.6, size * 0.4, angle)
    _fill(rng, picture, shadow, np.zeros(3, np.float32), 0.5, 0.8)
    _fill(rng, picture, _blob(rng, x, y, size, 0.1), _any_color(rng))
    _fill(
        rng, picture, _blob(rng, x, y, size * 0.45, 0.05), np.asarray((40, 60, 90) * rng.uniform(0.3, 2, 1), np.float32)
    )


def _roundel(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Discs in each other or wedges in turns: a landing place, a parasol, a planting ring, a manhole."""
    colors_bgr = [_any_color(rng) if rng.random() < 0.4 else _dull_color(rng) for _ in range(4)]
    squeeze = rng.uniform(0.8, 1)
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    circle = np.stack((np.cos(angles), np.sin(angles) * squeeze), axis=1) * size / 2
    radii = np.sort(rng.uniform(0.3, 0.9, int(rng.integers(1, 4))))[::-1]
    for radius, color in zip((1.0, *radii), colors_bgr, strict=False):
        _fill(rng, picture, np.asarray(circle * radius + (x, y), np.float32), color, rng.uniform(0.7, 1))
    if rng.random() < 0.3:
        wedges = int(rng.integers(3, 6))
        turn = rng.uniform(0, 2 * math.pi)
        for wedge in range(wedges):
            start = turn + 2 * math.pi * wedge / wedges
            arc = np.linspace(start, start + math.pi / wedges, 8)
            rim = np.stack((np.cos(arc), np.sin(arc) * squeeze), axis=1) * size / 2
            wedge_px = np.asarray(np.concatenate((np.zeros((1, 2)), rim)) + np.array((x, y)), np.float32)
            _fill(rng, picture, wedge_px, colors_bgr[3])


def _bush(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A tuft of many small leaves, darker below than on the sunny side."""
    green = np.array((40, 78, 62), np.float32) * np.float32(rng.uniform(0.4, 1.5)) + rng.normal(0, 12, 3)
    _fill(rng, picture, _blob(rng, x, y, size * 0.9, 0.3), np.asarray(np.clip(green * 0.6, 0, 255), np.float32))
    for _ in range(int(rng.integers(6, 16))):
        angle, far = rng.uniform(0, 2 * math.pi), 0.42 * size * math.sqrt(rng.random())
        leaf = np.asarray(np.clip(green * rng.uniform(0.5, 1.4), 0, 255), np.float32)
        place = x + far * math.cos(angle), y + far * math.sin(angle)
        _fill(rng, picture, _blob(rng, *place, size * rng.uniform(0.12, 0.3), 0.4), leaf, rng.uniform(0.6, 1), 0.5)


def _plain_blob(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A coloured patch without sharp geometry: a flower bed, a puddle, a dropped jacket."""
    color = _any_color(rng) if rng.random() < 0.6 else _dull_color(rng)
    _fill(rng, picture, _blob(rng, x, y, size, 0.5), color, rng.uniform(0.5, 1), size * rng.uniform(0.0, 0.08))


def _stain(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A darker or lighter spot of the ground itself, a shadow, a stone."""
    shade = np.full(3, rng.choice((0.0, 235.0)), np.float32)
    _fill(rng, picture, _blob(rng, x, y, size, 0.4), shade, rng.uniform(0.1, 0.6), size * rng.uniform(0.02, 0.15))


PAINTERS: tuple[Painter, ...] = (
    _car,
    _marking,
    _numeral,
    _tarp,
    _roof,
    _bin,
    _person,
    _roundel,
    _bush,
    _plain_blob,
    _stain,
)

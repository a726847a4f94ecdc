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


def _along(x: float, y: float, angle: float, ahead: float, aside: float) -> tuple[float, float]:
    """The place `ahead` and `aside` pixels from (x, y) for one who looks along `angle`."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x + ahead * cos - aside * sin, y + ahead * sin + aside * cos


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
    paint = np.array((228, 230, 232), np.float32) if rng.random() < 0.7 else _any_color(rng)
    _letter(rng, picture, x, y, size, rng.uniform(0, 2 * math.pi), paint, rng.uniform(0.5, 0.95))


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


def _square_bin(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A bin or chest with a rim, a small hole or a slit in its lid, and its shadow."""
    size, angle, color = size * 0.7, rng.uniform(0, 2 * math.pi), _any_color(rng)
    width = size * rng.uniform(0.65, 1)
    shadow = _along(x, y, rng.uniform(0, 2 * math.pi), size * rng.uniform(0.05, 0.35), 0.0)
    _fill(rng, picture, _oblong(*shadow, size, width, angle), np.zeros(3, np.float32), 0.5, size * 0.02)
    _fill(rng, picture, _oblong(x, y, size, width, angle), color * np.float32(rng.uniform(0.5, 0.9)))
    inset = rng.uniform(0.75, 0.95)
    _fill(rng, picture, _oblong(x, y, size * inset, width * inset, angle), color)
    dark = float(color.mean()) > 80
    mark = np.full(3, rng.uniform(5, 50) if dark else rng.uniform(90, 180), np.float32)
    place = _along(x, y, angle, rng.uniform(-0.25, 0.25) * size, 0.0)
    if rng.random() < 0.6:
        hole = _blob(rng, *place, size * rng.uniform(0.15, 0.45), 0.0)
    else:
        hole = _oblong(*place, size * rng.uniform(0.06, 0.2), width * rng.uniform(0.3, 0.7), angle)
    _fill(rng, picture, hole, mark, 0.95)


def _lid(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A round lid, a bucket, a parasol's top: one colour with a darker rim and a knob or a bar across."""
    size, color = size * rng.uniform(0.4, 0.8), np.maximum(_any_color(rng), 30)
    far = size * rng.uniform(0.02, 0.3)
    _fill(rng, picture, _blob(rng, x + far, y + far, size, 0.0), np.zeros(3, np.float32), 0.4, size * 0.03)
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    circle = np.stack((np.cos(angles), np.sin(angles)), axis=1) * size / 2
    for radius, light in ((1.0, rng.uniform(0.4, 0.85)), (rng.uniform(0.7, 0.9), 1.0)):
        _fill(rng, picture, np.asarray(circle * radius + (x, y), np.float32), color * np.float32(light))
    mark = color * np.float32(rng.choice((0.4, 0.65)))
    if rng.random() < 0.5:
        knob = np.asarray(circle * rng.uniform(0.12, 0.3) + (x, y), np.float32)
    else:
        knob = _oblong(x, y, size * rng.uniform(0.3, 0.9), size * rng.uniform(0.05, 0.15), rng.uniform(0, math.pi))
    _fill(rng, picture, knob, mark)


def _resting(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Somebody who sits or lies: a wide coloured garment, legs or arms of other colours, hair and skin."""
    size, angle = size * rng.uniform(0.6, 1), rng.uniform(0, 2 * math.pi)
    skin = np.array((120, 150, 195), np.float32) * np.float32(rng.uniform(0.35, 1.15))
    garment, trousers = _any_color(rng), _dull_color(rng) if rng.random() < 0.6 else _any_color(rng)
    far = size * rng.uniform(0.05, 0.3)
    _fill(rng, picture, _blob(rng, x + far, y + far, size * 0.7, 0.2), np.zeros(3, np.float32), 0.45, size * 0.03)
    length = rng.uniform(0.2, 0.5)
    for hand in (-1, 1):
        knee = _along(x, y, angle, size * (0.2 + length / 2), hand * size * rng.uniform(0.05, 0.2))
        turn = angle + hand * rng.uniform(-0.3, 0.5)
        _fill(rng, picture, _oblong(*knee, length * size, size * rng.uniform(0.1, 0.18), turn), trousers)
    for hand in (-1, 1):
        if rng.random() < 0.7:
            elbow = _along(x, y, angle, size * rng.uniform(-0.1, 0.2), hand * size * rng.uniform(0.2, 0.32))
            arm = _oblong(*elbow, size * rng.uniform(0.2, 0.35), size * 0.08, rng.uniform(0, math.pi))
            _fill(rng, picture, arm, skin if rng.random() < 0.5 else garment)
    _fill(rng, picture, _blob(rng, x, y, size * rng.uniform(0.45, 0.65), 0.15), garment)
    if rng.random() < 0.3:  # a print or a folded thing on it
        _fill(rng, picture, _blob(rng, x, y, size * rng.uniform(0.1, 0.25), 0.3), _any_color(rng))
    hair = skin * np.float32(rng.uniform(0.2, 1))
    head = _along(x, y, angle, -size * rng.uniform(0.1, 0.35), 0.0)
    _fill(rng, picture, _blob(rng, *head, size * rng.uniform(0.18, 0.26), 0.05), hair)


def _emblem(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """What is painted flat on the ground: a paw print, an arrow, a short word, a ring around a letter."""
    paint = np.array((228, 230, 232), np.float32) if rng.random() < 0.5 else _any_color(rng)
    opacity, angle, kind = rng.uniform(0.5, 1), rng.uniform(0, 2 * math.pi), rng.random()
    if kind < 0.35:
        heel = _along(x, y, angle, -0.15 * size, 0.0)
        _fill(rng, picture, _blob(rng, *heel, size * rng.uniform(0.45, 0.6), 0.15), paint, opacity)
        for spread in (-0.9, -0.3, 0.3, 0.9):
            toe = _along(x, y, angle + spread, size * 0.36, 0.0)
            _fill(rng, picture, _blob(rng, *toe, size * rng.uniform(0.14, 0.24), 0.05), paint, opacity)
    elif kind < 0.55:
        _fill(rng, picture, _oblong(x, y, size * 0.8, size * rng.uniform(0.06, 0.2), angle), paint, opacity)
        head = [
            _along(x, y, angle, ahead * size, aside * size) for ahead, aside in ((0.5, 0), (0.1, 0.25), (0.1, -0.25))
        ]
        _fill(rng, picture, np.array(head, np.float32), paint, opacity)
    elif kind < 0.8:
        letters = int(rng.integers(2, 5))
        for aside in np.linspace(-0.4, 0.4, letters).tolist():
            _letter(rng, picture, *_along(x, y, angle, 0.0, aside * size), size * 1.1 / letters, angle, paint, opacity)
    else:
        angles = np.linspace(0, 2 * math.pi, 40)
        ring = np.stack((np.cos(angles), np.sin(angles)), axis=1) * size / 2
        band = np.concatenate((ring, ring[::-1] * rng.uniform(0.7, 0.9))) + np.array((x, y))
        _fill(rng, picture, np.asarray(band, np.float32), paint, opacity)
        if rng.random() < 0.6:
            _letter(rng, picture, x, y, size * 0.5, angle, paint, opacity)


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
    _square_bin,
    _lid,
    _person,
    _resting,
    _emblem,
    _roundel,
    _bush,
    _plain_blob,
    _stain,
)

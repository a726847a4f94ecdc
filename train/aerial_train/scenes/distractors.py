"""Things that lie on the ground and are not targets.

Each painter gets a place (pixels) and a size (longer side, pixels).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from aerial_runtime.contract import U8
from aerial_train.scenes import colors
from aerial_train.scenes.brush import Rng, along, any_color, blob, disc, dull_color, fill, oblong
from aerial_train.scenes.ground_paint import emblem, marking, numeral

Painter = Callable[[Rng, U8, float, float, float], None]


def paint_distractor(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Paint one random distractor into `picture` (uint8 [H, W, 3], in place)."""
    PAINTERS[int(rng.integers(len(PAINTERS)))](rng, picture, x, y, size)


def _car(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    angle, body = rng.uniform(0, 2 * math.pi), dull_color(rng) if rng.random() < 0.5 else any_color(rng)
    fill(rng, picture, oblong(x + 0.06 * size, y + 0.06 * size, size, size * 0.46, angle), np.zeros(3, np.float32), 0.5)
    fill(rng, picture, oblong(x, y, size, size * 0.44, angle), body)
    for ahead, length in ((-0.24, 0.14), (0.12, 0.16)):
        window = oblong(*along(x, y, angle, ahead * size, 0.0), length * size, size * 0.38, angle)
        fill(rng, picture, window, np.full(3, 35, np.float32), 0.85)


def _tarp(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A long crumpled sheet with folds."""
    angle, width = rng.uniform(0, math.pi), size * rng.uniform(0.25, 0.5)
    corners = oblong(x, y, size * 1.4, width, angle)
    corners += rng.normal(0, 0.07 * size, corners.shape).astype(np.float32)
    color = any_color(rng)
    fill(rng, picture, corners, color)
    for _ in range(int(rng.integers(2, 6))):
        a, b = rng.uniform(0.2, 0.8, 2)
        start, stop = corners[0] * (1 - a) + corners[1] * a, corners[3] * (1 - b) + corners[2] * b
        middle, (dx, dy) = (start + stop) / 2, (stop - start).tolist()
        fold = oblong(float(middle[0]), float(middle[1]), math.hypot(dx, dy), size * 0.05, math.atan2(dy, dx))
        fill(rng, picture, fold, color * np.float32(rng.uniform(0.6, 1.25)), 0.7, 1.0)


def _roof(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A gable roof: two slopes of one material in different light; larger than any board."""
    size, angle = size * rng.uniform(1.5, 3), rng.uniform(0, math.pi)
    width, color = size * rng.uniform(0.5, 0.8), dull_color(rng)
    if rng.random() < 0.4:
        color = colors.sample_bgr(rng, colors.WIDE["brown"])
    fill(rng, picture, oblong(x + size * 0.04, y + size * 0.04, size, width, angle), np.zeros(3, np.float32), 0.5)
    across = np.array((-math.sin(angle), math.cos(angle))) * width / 4
    for side, light in ((-1, 1.0), (1, rng.uniform(0.55, 0.85))):
        half = oblong(x + side * across[0], y + side * across[1], size, width / 2, angle)
        fill(rng, picture, half, color * np.float32(light))


def _bin(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A barrel or bin from above: a rim around a dark inside, with its shadow."""
    size *= 0.6
    for scale, color, opacity in ((1.15, np.zeros(3, np.float32), 0.4), (1.0, any_color(rng), 1.0),
                                  (0.72, np.full(3, rng.uniform(5, 60), np.float32), 0.9)):  # fmt: skip
        shift = size * 0.12 if opacity == 0.4 else 0.0
        fill(rng, picture, blob(rng, x + shift, y + shift, size * scale, 0.0), color, opacity)


def _person(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Shoulders, a head and a long shadow."""
    size *= 0.5
    angle = rng.uniform(0, 2 * math.pi)
    shadow = oblong(x + size * 0.8 * math.cos(angle), y + size * 0.8 * math.sin(angle), size * 1.6, size * 0.4, angle)
    fill(rng, picture, shadow, np.zeros(3, np.float32), 0.5, 0.8)
    fill(rng, picture, blob(rng, x, y, size, 0.1), any_color(rng))
    fill(
        rng, picture, blob(rng, x, y, size * 0.45, 0.05), np.asarray((40, 60, 90) * rng.uniform(0.3, 2, 1), np.float32)
    )


def _square_bin(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A bin or chest with a rim, a small hole or a slit in its lid, and its shadow."""
    size, angle, color = size * 0.7, rng.uniform(0, 2 * math.pi), any_color(rng)
    width = size * rng.uniform(0.65, 1)
    shadow = along(x, y, rng.uniform(0, 2 * math.pi), size * rng.uniform(0.05, 0.35), 0.0)
    fill(rng, picture, oblong(*shadow, size, width, angle), np.zeros(3, np.float32), 0.5, size * 0.02)
    fill(rng, picture, oblong(x, y, size, width, angle), color * np.float32(rng.uniform(0.5, 0.9)))
    inset = rng.uniform(0.75, 0.95)
    fill(rng, picture, oblong(x, y, size * inset, width * inset, angle), color)
    bright = float(color.mean()) > 80
    mark = np.full(3, rng.uniform(5, 50) if bright else rng.uniform(90, 180), np.float32)
    place = along(x, y, angle, rng.uniform(-0.25, 0.25) * size, 0.0)
    if rng.random() < 0.6:
        hole = blob(rng, *place, size * rng.uniform(0.15, 0.45), 0.0)
    else:
        hole = oblong(*place, size * rng.uniform(0.06, 0.2), width * rng.uniform(0.3, 0.7), angle)
    fill(rng, picture, hole, mark, 0.95)


def _lid(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A round lid, a bucket, a parasol's top: one colour with a darker rim and a knob or a bar across."""
    size, color = size * rng.uniform(0.4, 0.8), np.maximum(any_color(rng), 30)
    far = size * rng.uniform(0.02, 0.3)
    fill(rng, picture, blob(rng, x + far, y + far, size, 0.0), np.zeros(3, np.float32), 0.4, size * 0.03)
    for radius, light in ((1.0, rng.uniform(0.4, 0.85)), (rng.uniform(0.7, 0.9), 1.0)):
        fill(rng, picture, disc(x, y, size * radius), color * np.float32(light))
    mark = color * np.float32(rng.choice((0.4, 0.65)))
    if rng.random() < 0.5:
        knob = disc(x, y, size * rng.uniform(0.12, 0.3))
    else:
        knob = oblong(x, y, size * rng.uniform(0.3, 0.9), size * rng.uniform(0.05, 0.15), rng.uniform(0, math.pi))
    fill(rng, picture, knob, mark)


def _resting(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Somebody who sits or lies: a wide coloured garment, legs or arms of other colours, hair and skin."""
    size, angle = size * rng.uniform(0.6, 1), rng.uniform(0, 2 * math.pi)
    skin = np.array((120, 150, 195), np.float32) * np.float32(rng.uniform(0.35, 1.15))
    garment, trousers = any_color(rng), dull_color(rng) if rng.random() < 0.6 else any_color(rng)
    far = size * rng.uniform(0.05, 0.3)
    fill(rng, picture, blob(rng, x + far, y + far, size * 0.7, 0.2), np.zeros(3, np.float32), 0.45, size * 0.03)
    length = rng.uniform(0.2, 0.5)
    for hand in (-1, 1):
        knee = along(x, y, angle, size * (0.2 + length / 2), hand * size * rng.uniform(0.05, 0.2))
        turn = angle + hand * rng.uniform(-0.3, 0.5)
        fill(rng, picture, oblong(*knee, length * size, size * rng.uniform(0.1, 0.18), turn), trousers)
    for hand in (-1, 1):
        if rng.random() < 0.7:
            elbow = along(x, y, angle, size * rng.uniform(-0.1, 0.2), hand * size * rng.uniform(0.2, 0.32))
            arm = oblong(*elbow, size * rng.uniform(0.2, 0.35), size * 0.08, rng.uniform(0, math.pi))
            fill(rng, picture, arm, skin if rng.random() < 0.5 else garment)
    fill(rng, picture, blob(rng, x, y, size * rng.uniform(0.45, 0.65), 0.15), garment)
    if rng.random() < 0.3:  # a print or a folded thing on it
        fill(rng, picture, blob(rng, x, y, size * rng.uniform(0.1, 0.25), 0.3), any_color(rng))
    hair = skin * np.float32(rng.uniform(0.2, 1))
    head = along(x, y, angle, -size * rng.uniform(0.1, 0.35), 0.0)
    fill(rng, picture, blob(rng, *head, size * rng.uniform(0.18, 0.26), 0.05), hair)


def _roundel(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """Discs in each other or wedges in turns: a landing place, a parasol, a planting ring, a manhole."""
    colors_bgr = [any_color(rng) if rng.random() < 0.4 else dull_color(rng) for _ in range(4)]
    squeeze = rng.uniform(0.8, 1)
    radii = np.sort(rng.uniform(0.3, 0.9, int(rng.integers(1, 4))))[::-1]
    for radius, color in zip((1.0, *radii), colors_bgr, strict=False):
        fill(rng, picture, disc(x, y, size * radius, squeeze), color, rng.uniform(0.7, 1))
    if rng.random() < 0.3:
        wedges = int(rng.integers(3, 6))
        turn = rng.uniform(0, 2 * math.pi)
        for wedge in range(wedges):
            start = turn + 2 * math.pi * wedge / wedges
            arc = np.linspace(start, start + math.pi / wedges, 8)
            rim = np.stack((np.cos(arc), np.sin(arc) * squeeze), axis=1) * size / 2
            wedge_px = np.asarray(np.concatenate((np.zeros((1, 2)), rim)) + np.array((x, y)), np.float32)
            fill(rng, picture, wedge_px, colors_bgr[3])


def _bush(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A tuft of many small leaves, darker below than on the sunny side."""
    green = np.array((40, 78, 62), np.float32) * np.float32(rng.uniform(0.4, 1.5)) + rng.normal(0, 12, 3)
    fill(rng, picture, blob(rng, x, y, size * 0.9, 0.3), np.asarray(np.clip(green * 0.6, 0, 255), np.float32))
    for _ in range(int(rng.integers(6, 16))):
        angle, far = rng.uniform(0, 2 * math.pi), 0.42 * size * math.sqrt(rng.random())
        leaf = np.asarray(np.clip(green * rng.uniform(0.5, 1.4), 0, 255), np.float32)
        place = x + far * math.cos(angle), y + far * math.sin(angle)
        fill(rng, picture, blob(rng, *place, size * rng.uniform(0.12, 0.3), 0.4), leaf, rng.uniform(0.6, 1), 0.5)


def _plain_blob(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A coloured patch without sharp geometry: a flower bed, a puddle, a dropped jacket."""
    color = any_color(rng) if rng.random() < 0.6 else dull_color(rng)
    fill(rng, picture, blob(rng, x, y, size, 0.5), color, rng.uniform(0.5, 1), size * rng.uniform(0.0, 0.08))


def _stain(rng: Rng, picture: U8, x: float, y: float, size: float) -> None:
    """A darker or lighter spot of the ground itself, a shadow, a stone."""
    shade = np.full(3, rng.choice((0.0, 235.0)), np.float32)
    fill(rng, picture, blob(rng, x, y, size, 0.4), shade, rng.uniform(0.1, 0.6), size * rng.uniform(0.02, 0.15))


PAINTERS: tuple[Painter, ...] = (
    _car,
    marking,
    numeral,
    _tarp,
    _roof,
    _bin,
    _square_bin,
    _lid,
    _person,
    _resting,
    emblem,
    _roundel,
    _bush,
    _plain_blob,
    _stain,
)

"""Outlines of the 13 shapes in the unit circle, y down, upright, with the circle that a letter fits into.

Proportions are those of the reference protocol: r = 1 is half the target's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from aerial_runtime.contract import F32

# What a shape function returns: the polygon float32 [K, 2], and (x, y, radius) of the letter's circle.
Outline = tuple[F32, tuple[float, float, float]]
Rng = np.random.Generator

ARC_POINTS = 40


def _polygon(points: list[tuple[float, float]]) -> F32:
    return np.array(points, np.float32)


def _arc(start: float, stop: float, radius: float, count: int = ARC_POINTS) -> F32:
    """Points on a circle about the origin; angles in degrees clockwise from image-right."""
    angles = np.radians(np.linspace(start, stop, count))
    return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32) * np.float32(radius)


def _regular(corners: int) -> Callable[[Rng], Outline]:
    """Regular polygon with a corner (3, 5, 7) or an edge (4, 6, 8) on top, circumradius 0.8-1.0."""

    def outline(rng: Rng) -> Outline:
        radius = rng.uniform(0.8, 1.0)
        first = -90.0 if corners % 2 else -90.0 + 180.0 / corners
        points = _arc(first, first + 360.0, radius, corners + 1)[:-1]
        return points, (0.0, 0.0, radius * math.cos(math.pi / corners))

    return outline


def _circle(rng: Rng) -> Outline:
    radius = rng.uniform(0.8, 1.0)
    return _arc(0, 360, radius)[:-1], (0.0, 0.0, radius)


def _semicircle(rng: Rng) -> Outline:
    # The box of a half disc is R high and 2 R wide; centred, its corners lie at R sqrt(5) / 2 from the origin.
    # Its largest inscribed circle has radius R / 2.
    radius = 2 / math.sqrt(5.0) * rng.uniform(0.85, 1.0)
    points = _arc(180, 360, radius)
    points[:, 1] += radius / 2
    return points, (0.0, 0.0, radius / 2)


def _quartercircle(rng: Rng) -> Outline:
    # Quarter disc of radius R: the circle about its box centre has radius R / sqrt(2); inscribed: R (sqrt(2) - 1).
    radius = math.sqrt(2.0) * rng.uniform(0.85, 1.0)
    points = np.concatenate((np.zeros((1, 2), np.float32), _arc(180, 270, radius)))
    inscribed = radius * (math.sqrt(2.0) - 1.0)
    points += np.float32(radius / 2)
    return points, (radius / 2 - inscribed, radius / 2 - inscribed, inscribed)


def _rectangle(rng: Rng) -> Outline:
    half_height = rng.uniform(0.81, 0.97)
    half_width = math.sqrt(1.0 - half_height**2)
    points = _polygon([(-half_width, -half_height), (half_width, -half_height),
                       (half_width, half_height), (-half_width, half_height)])  # fmt: skip
    if rng.random() < 0.5:  # letters are written along the long side as often as across it
        return np.ascontiguousarray(points[:, ::-1]), (0.0, 0.0, half_width)
    return points, (0.0, 0.0, half_width)


def _trapezoid(rng: Rng) -> Outline:
    half_height = rng.uniform(0.40, 0.50)
    half_bottom = math.sqrt(1.0 - half_height**2)
    half_top = half_bottom * (1.0 - rng.uniform(0.40, 0.70))
    points = _polygon([(-half_top, -half_height), (half_top, -half_height),
                       (half_bottom, half_height), (-half_bottom, half_height)])  # fmt: skip
    return points, (0.0, 0.0, half_height)


def _star(rng: Rng) -> Outline:
    radius = rng.uniform(0.85, 1.0)
    inner = radius * rng.uniform(0.38, 0.52)  # 0.382 is the pentagram
    outer_points, inner_points = _arc(-90, 270, radius, 6)[:-1], _arc(-54, 306, inner, 6)[:-1]
    points = np.stack((outer_points, inner_points), axis=1).reshape(10, 2)
    return points, (0.0, 0.0, inner * 1.05)


def _cross(rng: Rng) -> Outline:
    arm = rng.uniform(0.35, 0.43) / rng.uniform(1.0, 1.3)  # half width of a bar
    end = math.sqrt(1.0 - arm**2)
    points = _polygon([(-arm, -end), (arm, -end), (arm, -arm), (end, -arm), (end, arm), (arm, arm),
                       (arm, end), (-arm, end), (-arm, arm), (-end, arm), (-end, -arm), (-arm, -arm)])  # fmt: skip
    return points, (0.0, 0.0, arm * 1.35)


SHAPES: dict[str, Callable[[Rng], Outline]] = {
    "circle": _circle,
    "semicircle": _semicircle,
    "quartercircle": _quartercircle,
    "triangle": _regular(3),
    "square": _regular(4),
    "rectangle": _rectangle,
    "trapezoid": _trapezoid,
    "pentagon": _regular(5),
    "hexagon": _regular(6),
    "heptagon": _regular(7),
    "octagon": _regular(8),
    "star": _star,
    "cross": _cross,
}


# How much of the stretch a shape takes. Squares and circles take little: beside them begin rectangles and ovals.
STRETCHABLE = {"circle": 0.4, "square": 0.35, "octagon": 0.5, "triangle": 1.8}


def stretch(rng: Rng, shape: str, outline: F32, circle: tuple[float, float, float], spread: float) -> Outline:
    """Make a shape wider or higher, as boards cut by hand are; it still fits into the unit circle.

    spread: standard deviation of the logarithm of width over height. Trapezoids are also made higher and their tops
    longer, since those of the reference protocol are flat.
    """
    points, (x, y, radius) = outline.copy(), circle
    if shape == "trapezoid":
        bottom = float(points[2, 0])
        top = min(0.8 * bottom, float(points[1, 0]) * rng.uniform(1.0, 1.6))
        points[:2, 0] = (-top, top)
        higher = rng.uniform(1.0, 2.0)
        points[:, 1] *= np.float32(higher)
        radius = min(radius * higher, 0.42 * (top + bottom))
    ratio = math.exp(0.5 * spread * STRETCHABLE.get(shape, 0.8) * min(2.0, max(-2.0, rng.standard_normal())))
    wide, high = ratio, 1 / ratio
    points *= np.array((wide, high), np.float32)
    fit = 1 / max(1.0, float(np.hypot(points[:, 0], points[:, 1]).max()))
    return points * np.float32(fit), (x * wide * fit, y * high * fit, radius * min(wide, high) * fit)

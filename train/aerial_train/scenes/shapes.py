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

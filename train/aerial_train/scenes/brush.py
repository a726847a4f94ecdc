"""What distractors are painted with: filled outlines with soft edges, outlines in pixels, and colours."""

from __future__ import annotations

import math

import cv2
import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_train.scenes import colors, textures
from aerial_train.scenes.painting import coverage

Rng = np.random.Generator


def fill(rng: Rng, picture: U8, points: F32, bgr: F32, opacity: float = 1.0, soft_px: float = 0.0) -> None:
    """Fill a polygon [K, 2] (pixels) with a slightly blotched colour; soft_px blurs its edge."""
    height, width = picture.shape[:2]
    pad = 1 + math.ceil(2 * soft_px)
    x0, y0 = max(0, math.floor(points[:, 0].min()) - pad), max(0, math.floor(points[:, 1].min()) - pad)
    x1 = min(width, math.ceil(points[:, 0].max()) + pad)
    y1 = min(height, math.ceil(points[:, 1].max()) + pad)
    if x1 <= x0 or y1 <= y0:
        return
    w, h = x1 - x0, y1 - y0
    mask = coverage((points,), x0, y0, w, h, 2)
    if soft_px:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soft_px), np.uint8)
    share = mask[..., None] * np.float32(opacity / 255)
    blotches = textures.patch(rng, textures.smooth_pool(), h, w)[..., None] * np.float32(rng.uniform(0, 0.12))
    region = picture[y0:y1, x0:x1]
    ground = region.astype(np.float32)
    region[:] = np.clip(ground + share * (bgr * (1 + blotches) - ground), 0, 255)


def oblong(x: float, y: float, width: float, height: float, angle: float) -> F32:
    """Corners, float32 [4, 2], of a rectangle in pixels that is turned clockwise by `angle` (radians)."""
    cos, sin = math.cos(angle), math.sin(angle)
    corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)), np.float32) * (width / 2, height / 2)
    return np.asarray(corners @ np.array(((cos, sin), (-sin, cos))) + (x, y), np.float32)


def blob(rng: Rng, x: float, y: float, size: float, lobes: float = 0.2) -> F32:
    """A closed smooth curve without corners, float32 [48, 2]; `size`: about its longer side, pixels."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    radius = np.ones(48)
    for k in range(2, 6):
        radius += rng.normal(0, lobes / k) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    points = np.stack((np.cos(angles), np.sin(angles) * rng.uniform(0.45, 1)), axis=1) * radius[:, None] * size / 2
    turn = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.asarray(points @ np.array(((cos, sin), (-sin, cos))) + (x, y), np.float32)


def disc(x: float, y: float, size: float, squeeze: float = 1.0) -> F32:
    """A circle of `size` pixels across, float32 [40, 2], its height times `squeeze`."""
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    return np.asarray(np.stack((np.cos(angles), np.sin(angles) * squeeze), axis=1) * size / 2 + (x, y), np.float32)


def along(x: float, y: float, angle: float, ahead: float, aside: float) -> tuple[float, float]:
    """The place `ahead` and `aside` pixels from (x, y) for one who looks along `angle` (radians clockwise from x)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x + ahead * cos - aside * sin, y + ahead * sin + aside * cos


def any_color(rng: Rng) -> F32:
    """A colour of boards, BGR 0..255, float32 [3]."""
    names = list(colors.WIDE)
    return colors.sample_bgr(rng, colors.WIDE[names[int(rng.integers(len(names)))]])


def dull_color(rng: Rng) -> F32:
    """A colour near grey, BGR 0..255, float32 [3]."""
    return np.asarray(rng.uniform(20, 215) + rng.normal(0, 14, 3), np.float32)

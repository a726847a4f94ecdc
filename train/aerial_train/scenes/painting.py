"""Painting a target into a picture: its board and letter, their wear, the shadow beside it.

Polygons are painted by one supersampled fill: no interpolation blurs a letter before the camera does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_train.scenes import textures
from aerial_train.scenes.target import Look, Style, warp

Rng = np.random.Generator


@dataclass(frozen=True)
class Painted:
    """Where a target went: the corner x, y of its region in pixels and how much of each pixel it covers, uint8."""

    x: int
    y: int
    coverage: U8


def coverage(contours: tuple[F32, ...], x: int, y: int, width: int, height: int, supersample: int) -> U8:
    """Fill polygons (pixels, even-odd) into a region: uint8 [height, width], 255 = fully covered pixel."""
    mask = np.zeros((height * supersample, width * supersample), np.uint8)
    # OpenCV's coordinates are of pixel centres, ours of pixel corners, hence the half; 4 fractional bits.
    origin = np.array((x, y), np.float32)
    points = [np.rint(((c - origin) * supersample - 0.5) * 16).astype(np.int32) for c in contours]
    cv2.fillPoly(mask, points, 255, cv2.LINE_8, 4)
    # fillPoly also fills every pixel that the outline touches: on average half of such a pixel is inside.
    cv2.polylines(mask, points, True, 128, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def paint(rng: Rng, picture: U8, look: Look, homography: F32) -> Painted | None:
    """Paint a target into `picture` (uint8 [H, W, 3], changed in place). None where nothing of it is inside."""
    outline = warp(homography, look.outline)
    height, width = picture.shape[:2]
    low, high = outline.min(axis=0), outline.max(axis=0)
    x0, y0 = max(0, math.floor(low[0]) - 1), max(0, math.floor(low[1]) - 1)
    x1, y1 = min(width, math.ceil(high[0]) + 1), min(height, math.ceil(high[1]) + 1)
    if x1 <= x0 or y1 <= y0:
        return None
    w, h = x1 - x0, y1 - y0
    supersample = 3 if max(w, h) <= 64 else 2
    style = look.style
    if style.shadow and rng.random() < style.shadow:
        _cast_shadow(rng, picture, outline, supersample)
    shape = coverage((outline,), x0, y0, w, h, supersample)
    ground = picture[y0:y1, x0:x1].astype(np.float32)
    board = np.empty_like(ground)
    board[:] = look.shape_bgr
    if look.border_bgr is not None:
        inner = warp(homography, look.outline * np.float32(rng.uniform(0.82, 0.94)))
        _blend(board, look.border_bgr, 1 - coverage((inner,), x0, y0, w, h, supersample) * np.float32(1 / 255))
    if look.letter:
        ink = coverage(tuple(warp(homography, c) for c in look.letter), x0, y0, w, h, supersample) * np.float32(1 / 255)
        if style.worn and rng.random() < style.worn:
            ink *= 1 - np.clip(textures.patch(rng, textures.smooth_pool(), h, w) * 0.5 - 0.2, 0, 0.7)
        _blend(board, look.letter_bgr, ink)
    opacity = shape * np.float32(1 / 255)
    _weather(rng, board, opacity, style)
    ground += opacity[..., None] * (board - ground)
    picture[y0:y1, x0:x1] = np.clip(ground, 0, 255)
    return Painted(x0, y0, shape)


def _blend(board: F32, bgr: F32, share: F32) -> None:
    board += share[..., None] * (bgr - board)


def _weather(rng: Rng, board: F32, opacity: F32, style: Style) -> None:
    """Cloth texture, uneven light on the board, and grass over it; changes `board` and `opacity` in place."""
    h, w = opacity.shape
    if style.texture and rng.random() < style.texture:
        board *= 1 + textures.patch(rng, textures.smooth_pool(), h, w)[..., None] * np.float32(rng.uniform(0, 0.09))
    if style.gloss and rng.random() < style.gloss:  # a ramp of light: gloss, a fold, a board that is not flat
        ramp = np.linspace(-1, 1, w, dtype=np.float32) * np.float32(rng.normal(0, 0.12))
        ramp = ramp + np.linspace(-1, 1, h, dtype=np.float32)[:, None] * np.float32(rng.normal(0, 0.12))
        board *= 1 + ramp[..., None]
        board += np.float32(rng.uniform(0, 30) * (rng.random() < 0.5))
    if style.folds and rng.random() < style.folds:
        _fold(rng, board)
    if style.grass and rng.random() < style.grass:
        opacity *= 1 - textures.patch(rng, textures.blades_pool(), h, w) * np.float32(rng.uniform(0.3, 0.9))


def _fold(rng: Rng, board: F32) -> None:
    """Shade a bent board, in place: two or three planes in different light, bright or dark where they meet."""
    h, w = board.shape[:2]
    x, y = np.linspace(-1, 1, w, dtype=np.float32), np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    light = np.ones((h, w), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        angle, width = rng.uniform(0, 2 * math.pi), rng.uniform(0.04, 0.3)
        across = (x * math.cos(angle) + y * math.sin(angle) - rng.uniform(-0.6, 0.6)) / np.float32(width)
        light += np.float32(rng.normal(0, 0.14)) * np.tanh(across)
        light += np.float32(rng.normal(0, 0.15)) * np.exp(-across * across)
    board *= np.maximum(light, 0.3)[..., None]
    if rng.random() < 0.3:  # a shine that is nearly the sky's own colour
        board += np.maximum(light - 1, 0)[..., None] * np.float32(rng.uniform(60, 300))


def _cast_shadow(rng: Rng, picture: U8, outline: F32, supersample: int) -> None:
    """Darken the ground beside a board that stands a little off it."""
    size = float((outline.max(axis=0) - outline.min(axis=0)).max())
    moved = outline + (rng.uniform(-0.12, 0.12, 2) * size).astype(np.float32)
    height, width = picture.shape[:2]
    x0, y0 = (max(0, math.floor(v)) for v in moved.min(axis=0))
    x1, y1 = min(width, math.ceil(moved[:, 0].max())), min(height, math.ceil(moved[:, 1].max()))
    if x1 > x0 and y1 > y0:
        dark = coverage((moved,), x0, y0, x1 - x0, y1 - y0, supersample) * np.float32(rng.uniform(0.2, 0.6) / 255)
        region = picture[y0:y1, x0:x1]
        region[:] = region * (1 - dark[..., None])

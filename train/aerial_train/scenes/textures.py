"""Pools of noise made once from a fixed seed; a sample takes a patch at a random place, which costs almost nothing."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from aerial_runtime.contract import F32

TILE = 512  # side of every pool, pixels


def fractal_noise(rng: np.random.Generator, height: int, width: int, coarsest_px: float, octaves: int) -> F32:
    """Return smooth noise float32 [height, width], mean about 0, standard deviation 1.

    Sums `octaves` layers of interpolated random grids; each layer has half the cell and 0.6 of the amplitude.
    """
    total = np.zeros((height, width), np.float32)
    cell, amplitude = float(coarsest_px), 1.0
    for _ in range(octaves):
        grid = rng.standard_normal((max(2, round(height / cell) + 1), max(2, round(width / cell) + 1)), np.float32)
        cv2.scaleAdd(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), amplitude, total, total)
        cell, amplitude = max(1.0, cell / 2), amplitude * 0.6
    total -= total.mean()
    total /= max(1e-6, float(total.std()))
    return total


@lru_cache(maxsize=1)
def smooth_pool() -> F32:
    """Blotches: float32 [TILE, TILE], standard deviation 1, from 128 px down to 4 px."""
    return fractal_noise(np.random.default_rng(1), TILE, TILE, 128, 6)


@lru_cache(maxsize=1)
def grain_pool() -> F32:
    """Sensor noise: float32 [TILE, TILE, 3], standard deviation 1; half independent, half smeared as by demosaicing."""
    rng = np.random.default_rng(2)
    fine = rng.standard_normal((TILE, TILE, 3), np.float32)
    smeared = cv2.GaussianBlur(rng.standard_normal((TILE, TILE, 3), np.float32), (0, 0), 0.8)
    mixed = fine * np.float32(0.6) + smeared / smeared.std() * np.float32(0.8)
    return np.asarray(mixed, np.float32)


@lru_cache(maxsize=1)
def blades_pool() -> F32:
    """Grass blades: float32 [TILE, TILE], 0 = nothing, 1 = covered; denser to the right."""
    rng = np.random.default_rng(3)
    blades = np.zeros((TILE, TILE), np.uint8)
    for _ in range(1400):
        x = TILE * np.sqrt(rng.random())
        y, angle, length = TILE * rng.random(), rng.normal(0, 0.9), rng.uniform(8, 36)
        tip = (round(x + length * np.sin(angle)), round(y - length * np.cos(angle)))
        cv2.line(blades, (round(x), round(y)), tip, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    return blades.astype(np.float32) / np.float32(255)


def patch(rng: np.random.Generator, pool: F32, height: int, width: int) -> F32:
    """Return a patch [height, width, ...] of a pool at a random place; larger asks repeat the pool."""
    if height > TILE or width > TILE:
        repeats = (-(-height // TILE), -(-width // TILE)) + (1,) * (pool.ndim - 2)
        pool = np.tile(pool, repeats)
    y = int(rng.integers(pool.shape[0] - height + 1))
    x = int(rng.integers(pool.shape[1] - width + 1))
    return pool[y : y + height, x : x + width]

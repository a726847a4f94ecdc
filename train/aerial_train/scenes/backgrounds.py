"""What lies under the targets: procedural terrain, a folder of aerial photographs, or a mix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_runtime.errors import InputError
from aerial_train.scenes.textures import fractal_noise

Rng = np.random.Generator

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
MAX_PHOTO_SIDE = 1400  # pixels kept in memory: 192 photographs then take 0.9 GB
TERRAIN_PICTURES = 72
TERRAIN_SIDE = 900


class Backgrounds:
    """A set of pictures and random patches of them.

    photos: files, a folder searched recursively, or None. terrain_share: how often a patch is procedural when there
    are photos. Procedural pictures are made on first use and are the same for every process.
    """

    def __init__(self, photos: Path | Sequence[str] | None = None, terrain_share: float = 0.15, seed: int = 0) -> None:
        self.photo_files = photo_files(photos) if isinstance(photos, Path) else list(photos or ())
        self.terrain_share = terrain_share if self.photo_files else 1.0
        self.seed = seed
        self._pictures: dict[str | int, U8] = {}

    def __getstate__(self) -> dict[str, object]:
        """Pictures stay behind when the object goes to another process: it reads its own."""
        return {**self.__dict__, "_pictures": {}}

    def preload(self) -> None:
        """Read every photo now: a bad one stops a training before it starts, and forked workers share the memory."""
        cv2.setNumThreads(1)  # before any worker is forked, see aerial_train.fit.prepare
        for path in self.photo_files:
            self._photo(path)

    def patch(self, rng: Rng, height: int, width: int) -> U8:
        """Return a random view, uint8 [height, width, 3], C-contiguous, the caller's own."""
        if rng.random() < self.terrain_share:
            picture = self._terrain(int(rng.integers(TERRAIN_PICTURES)))
        else:
            picture = self._photo(self.photo_files[int(rng.integers(len(self.photo_files)))])
        return random_view(rng, picture, height, width)

    def _photo(self, path: str) -> U8:
        if path not in self._pictures:
            image = cv2.imread(path, cv2.IMREAD_COLOR)
            if image is None:
                raise InputError(f"cannot read the background {path}; remove or repair it")
            scale = MAX_PHOTO_SIDE / max(image.shape[:2])
            if scale < 1:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            self._pictures[path] = np.asarray(image, np.uint8)
        return self._pictures[path]

    def _terrain(self, index: int) -> U8:
        if index not in self._pictures:
            self._pictures[index] = terrain(np.random.default_rng((self.seed, index)), TERRAIN_SIDE, TERRAIN_SIDE)
        return self._pictures[index]


def photo_files(folder: Path, flag: str = "--backgrounds") -> list[str]:
    """Sorted picture files below a folder that an option names; InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist; check {flag}")
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise InputError(f"{folder} holds no pictures ({', '.join(sorted(PHOTO_SUFFIXES))}); check {flag}")
    return found


def random_view(rng: Rng, picture: U8, height: int, width: int) -> U8:
    """Cut, scale (0.4-3 picture pixels a pixel), flip and quarter-turn a random part of a picture."""
    turn = rng.random() < 0.5
    need_h, need_w = (width, height) if turn else (height, width)
    limit = min(picture.shape[0] / need_h, picture.shape[1] / need_w)
    top = min(3.0, limit)
    scale = math.exp(rng.uniform(math.log(min(0.4, top)), math.log(top)))
    cut_h, cut_w = max(2, int(need_h * scale)), max(2, int(need_w * scale))
    y, x = int(rng.integers(picture.shape[0] - cut_h + 1)), int(rng.integers(picture.shape[1] - cut_w + 1))
    interpolation = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    view = cv2.resize(picture[y : y + cut_h, x : x + cut_w], (need_w, need_h), interpolation=interpolation)
    if turn:
        view = cv2.transpose(view)
    return np.asarray(cv2.flip(view, int(rng.integers(-1, 2))), np.uint8)


# --- procedural terrain -------------------------------------------------------------------------------------------

# Ground kinds: BGR colours from dark to light, cell of the coarsest blotch (px), grain (0..255).
GROUNDS: dict[str, tuple[tuple[tuple[int, int, int], ...], float, float]] = {
    "lawn": (((30, 72, 48), (42, 98, 70), (52, 120, 92), (70, 140, 118)), 160, 9),
    "dry grass": (((70, 104, 120), (88, 128, 146), (104, 148, 168), (60, 98, 96)), 120, 13),
    "meadow": (((28, 58, 44), (44, 92, 76), (70, 118, 112), (80, 136, 146)), 90, 14),
    "soil": (((48, 68, 92), (66, 90, 118), (88, 114, 142)), 140, 8),
    "sand": (((130, 160, 182), (150, 182, 202), (170, 200, 216)), 160, 6),
    "asphalt": (((66, 66, 66), (82, 82, 80), (98, 97, 95)), 220, 8),
    "concrete": (((140, 146, 150), (160, 166, 170), (176, 182, 184)), 260, 5),
    "gravel": (((88, 94, 100), (122, 128, 134), (158, 162, 166)), 40, 22),
    "water": (((78, 66, 40), (96, 84, 52), (112, 98, 66)), 200, 3),
}


def terrain(rng: Rng, height: int, width: int, kinds: Sequence[str] = tuple(GROUNDS)) -> U8:
    """Return one procedural ground: uint8 [height, width, 3]; one or two of `kinds`, perhaps rows or painted lines."""
    names = list(kinds)
    image = _ground(rng, names[int(rng.integers(len(names)))], height, width)
    if rng.random() < 0.5:
        other = _ground(rng, names[int(rng.integers(len(names)))], height, width)
        image = _border(rng, image, other)
    for probability, feature in FEATURES:
        if rng.random() < probability:
            feature(rng, image)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _ground(rng: Rng, kind: str, height: int, width: int) -> F32:
    """Blotches of the kind's colours with fine grain: float32 [height, width, 3]."""
    palette, cell, grain = GROUNDS[kind]
    level = fractal_noise(rng, height, width, cell * rng.uniform(0.6, 1.6), 7) * np.float32(rng.uniform(0.5, 1.1))
    colors = np.array(palette, np.float32) * rng.uniform(0.75, 1.25) + rng.normal(0, 8, 3).astype(np.float32)
    position = np.clip((level + 2) / 4, 0, 1) * (len(colors) - 1)
    # Interpolate between neighbouring colours of the palette, one channel at a time.
    steps = np.arange(len(colors), dtype=np.float32)
    image = np.stack([np.interp(position, steps, colors[:, c]) for c in range(3)], axis=-1).astype(np.float32)
    fine = rng.standard_normal((height, width), np.float32)
    image += (fine * np.float32(grain * rng.uniform(0.6, 1.3)))[..., None]
    return image


def _border(rng: Rng, first: F32, second: F32) -> F32:
    """Join two grounds along a wavy line."""
    height, width = first.shape[:2]
    angle, offset = rng.uniform(0, 2 * math.pi), rng.uniform(-0.3, 0.3) * max(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = (x - width / 2) * np.float32(math.cos(angle)) + (y - height / 2) * np.float32(math.sin(angle)) + offset
    distance += fractal_noise(rng, height, width, 120, 5) * np.float32(rng.uniform(2, 24))
    share = np.clip(distance / rng.uniform(2, 14), 0, 1).astype(np.float32)[..., None]
    return np.asarray(first + share * (second - first), np.float32)


def _crop_rows(rng: Rng, image: F32) -> None:
    """Parallel stripes of plants and soil, or a mower's bands."""
    height, width = image.shape[:2]
    angle, period = rng.uniform(0, math.pi), rng.uniform(6, 60)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    phase = (x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))) * np.float32(2 * math.pi / period)
    phase += fractal_noise(rng, height, width, 200, 3) * np.float32(0.5)
    image *= 1 + (np.sin(phase) * np.float32(rng.uniform(0.04, 0.22)))[..., None]


def _wheel_tracks(rng: Rng, image: F32) -> None:
    """Two parallel worn tracks."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    start, angle, gap = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, math.pi), rng.uniform(12, 40)
    along = np.array((math.cos(angle), math.sin(angle))) * 2 * max(height, width)
    across = np.array((-math.sin(angle), math.cos(angle))) * gap / 2
    for side in (-1, 1):
        a, b = start - along + side * across, start + along + side * across
        cv2.line(mask, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), 255, int(rng.integers(3, 9)))
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 3)) * np.float32(rng.uniform(-0.3, 0.3) / 255)
    image *= 1 + np.asarray(soft)[..., None]


def _painted_lines(rng: Rng, image: F32) -> None:
    """White or yellow field and road markings."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    angle, spacing, thickness = rng.uniform(0, math.pi), rng.uniform(60, 400), int(rng.integers(2, 9))
    along = np.array((math.cos(angle), math.sin(angle))) * 2 * max(height, width)
    across = np.array((-math.sin(angle), math.cos(angle))) * spacing
    origin = np.array((width / 2, height / 2))
    for step in range(-int(rng.integers(0, 4)), int(rng.integers(1, 4))):
        a, b = origin - along + step * across, origin + along + step * across
        cv2.line(mask, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.4:
        cv2.circle(mask, (round(width / 2), round(height / 2)), round(spacing * 0.7), 255, thickness, cv2.LINE_AA)
    paint = np.array((215, 225, 230) if rng.random() < 0.75 else (70, 190, 225), np.float32)
    share = mask[..., None] * np.float32(rng.uniform(0.4, 0.95) / 255)
    image += share * (paint - image)


def _shrubs(rng: Rng, image: F32) -> None:
    """Dark green tufts and bushes with soft edges."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(3, 50))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(2, 26)), int(rng.integers(2, 26)))
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 255, -1)
    ragged = (
        cv2.GaussianBlur(mask, (0, 0), 3).astype(np.float32) / 255 + fractal_noise(rng, height, width, 12, 3) * 0.22
    )
    share = np.clip((ragged - 0.45) * 4, 0, 0.9).astype(np.float32)[..., None]
    green = np.array((40, 78, 62), np.float32) * np.float32(rng.uniform(0.5, 1.3))
    image += share * (green * (1 + fractal_noise(rng, height, width, 6, 2)[..., None] * np.float32(0.25)) - image)


FEATURES: tuple[tuple[float, Callable[[Rng, F32], None]], ...] = (
    (0.3, _crop_rows),
    (0.3, _wheel_tracks),
    (0.3, _shrubs),
    (0.2, _painted_lines),
)

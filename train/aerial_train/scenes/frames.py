"""Whole frames with their truth: what the segmenter learns from and the pipeline is measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8, Box
from aerial_runtime.errors import UsageError
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.camera import NO_CAMERA, Camera, expose, mean_bgr
from aerial_train.scenes.distractors import paint_distractor
from aerial_train.scenes.painting import paint
from aerial_train.scenes.target import (
    REFERENCE_STYLE,
    TRIES,
    Look,
    Style,
    at_pixels,
    check_drawable,
    letter_up,
    placement,
    sample_look,
    stands_out,
    warp,
)

Rng = np.random.Generator

LEARNABLE_PX = 10  # below this size (longer side) a target's cells carry no loss: neither hit nor false alarm


@dataclass(frozen=True)
class FrameRecipe:
    """What frames hold. Sizes in pixels; counts are inclusive ranges."""

    height: int = 256
    width: int = 256
    targets: tuple[int, int] = (0, 6)
    size_px: tuple[float, float] = (8, 240)  # longer side, log-uniform
    grid_px: int = 0  # > 0: targets on a grid of square cells at least this large, each filled with p = 0.5
    distractors: tuple[int, int] = (0, 5)
    style: Style = field(default_factory=Style)
    camera: Camera = field(default_factory=Camera)


FRAME_RECIPES: dict[str, FrameRecipe] = {
    # 256 px hold fewer targets than a whole frame. Blank boards, more than fly, teach that a plain shape may be one.
    "flight": FrameRecipe(targets=(0, 4), style=Style(no_letter=0.1)),
    "r256": FrameRecipe(grid_px=20, distractors=(0, 0), style=REFERENCE_STYLE, camera=NO_CAMERA),
}


@dataclass(frozen=True)
class LabelledTarget:
    """The truth about one target in a frame.

    box: of the visible outline. attributes: drawn names, None = nothing there or no name. labels: head -> class index
    (-1 unknown, -2 nothing there). degrees: letter-up clockwise from image-up, None without a letter.
    truncated: the frame's edge cuts it, or it is marked to be ignored: neither missed nor its detection an extra.
    """

    box: Box
    attributes: dict[str, str | None]
    labels: dict[str, int]
    degrees: float | None
    truncated: bool

    @property
    def size_px(self) -> int:
        """Longer side of the box."""
        return max(self.box.width, self.box.height)


@dataclass(frozen=True)
class FrameSample:
    """image_bgr uint8 [H, W, 3]; mask uint8 [H, W], 255 = target, 0..255 at edges; the targets in painting order.

    name: file, or `scenes 12`. ignore: uint8 [H, W], 255 = nobody knows what is there: no loss, no score.
    complete: False where not every target is labelled, so that extras are no false alarms.
    """

    image_bgr: U8
    mask: U8
    targets: tuple[LabelledTarget, ...]
    name: str = ""
    ignore: U8 | None = None
    complete: bool = True


@dataclass(frozen=True)
class FrameBatch:
    """images uint8 [B, H, W, 3] BGR; coverage uint8 [B, h, w]: share of a cell that is target; weight uint8 [B, h, w]:
    0 where nothing is to be learnt. h = ceil(H / stride)."""

    images: U8
    coverage: U8
    weight: U8


class FrameScenes:
    """An infinite set of labelled frames: sample `index` of `epoch` is a pure function of (seed, epoch, index)."""

    count: int | None = None

    def __init__(
        self, space: LabelSpace, recipe: FrameRecipe, backgrounds: Backgrounds, seed: int = 0, stride: int = 4
    ) -> None:
        check_drawable(space)
        if recipe.size_px[0] < 2 or recipe.size_px[0] > recipe.size_px[1]:
            raise UsageError(f"target sizes must be a range of at least 2 pixels, not {recipe.size_px}")
        self.label_space, self.recipe, self.backgrounds = space, recipe, backgrounds
        self.seed, self.stride = seed, stride

    def sample(self, epoch: int, index: int) -> FrameSample:
        """Render one frame."""
        rng = np.random.default_rng((self.seed, epoch + 1, index))
        recipe = self.recipe
        picture = self.backgrounds.patch(rng, recipe.height, recipe.width)
        mask = np.zeros(picture.shape[:2], np.uint8)
        places = _grid_places(rng, recipe) if recipe.grid_px else _sparse_places(rng, recipe)
        for _ in range(int(rng.integers(recipe.distractors[0], recipe.distractors[1] + 1))):
            x, y = rng.random(2) * (recipe.width, recipe.height)
            size = _log_uniform(rng, 8, max(9, min(recipe.size_px[1], recipe.height / 3)))
            # Clear of the targets but for the largest roofs, which then lie under a board, as in a garden.
            if all(math.hypot(x - tx, y - ty) > 0.75 * ts + 0.8 * size for tx, ty, ts in places):
                paint_distractor(rng, picture, x, y, size)
        targets = [self._place(rng, picture, mask, *place) for place in places]
        image = expose(rng, picture, recipe.camera)
        found = tuple(target for target in targets if target is not None)
        return FrameSample(np.ascontiguousarray(image), mask, found, f"scenes {index}")

    def _place(self, rng: Rng, picture: U8, mask: U8, x: float, y: float, size: float) -> LabelledTarget | None:
        style = self.recipe.style
        half = size / 2
        around = picture[max(0, int(y - half)) : int(y + half) + 1, max(0, int(x - half)) : int(x + half) + 1]
        ground = mean_bgr(around)
        for _ in range(TRIES):
            look = sample_look(rng, self.label_space, style)
            if stands_out(look, ground):
                break
        unit = placement(rng, rng.uniform(0, 2 * math.pi), style.perspective)
        if not self.recipe.grid_px:  # the size is that of the box; the grid keeps the protocol's own size
            extent = warp(unit, look.outline)
            size *= 2 / float((extent.max(axis=0) - extent.min(axis=0)).max())
        return place_target(rng, picture, mask, look, at_pixels(unit, size / 2, x, y))

    def batch(self, epoch: int, indices: Sequence[int]) -> FrameBatch:
        """Render the frames `indices` with their training truth."""
        return frame_batch([self.sample(epoch, index) for index in indices], self.stride)

    def preload(self) -> None:
        """Read what lies under the targets now, once for all worker processes."""
        self.backgrounds.preload()

    def with_seed(self, seed: int) -> FrameScenes:
        """The same scenes drawn from another seed: the held-out set."""
        return FrameScenes(self.label_space, self.recipe, self.backgrounds, seed, self.stride)

    def with_size(self, width: int, height: int) -> FrameScenes:
        """The same scenes as pictures of another size."""
        recipe = replace(self.recipe, width=width, height=height)
        return FrameScenes(self.label_space, recipe, self.backgrounds, self.seed, self.stride)


def place_target(rng: Rng, picture: U8, mask: U8, look: Look, homography: F32) -> LabelledTarget | None:
    """Paint a target into picture (uint8 [H, W, 3]) and mask (uint8 [H, W]); None if nothing of it is visible."""
    painted = paint(rng, picture, look, homography)
    if painted is None or not (painted.coverage > 127).any():
        return None
    height, width = painted.coverage.shape
    region = mask[painted.y : painted.y + height, painted.x : painted.x + width]
    np.maximum(region, painted.coverage, out=region)
    x, y, w, h = cv2.boundingRect((painted.coverage > 127).astype(np.uint8))
    outline = warp(homography, look.outline)
    low, high = outline.min(axis=0), outline.max(axis=0)
    truncated = bool(low.min() < -0.5 or high[0] > picture.shape[1] + 0.5 or high[1] > picture.shape[0] + 0.5)
    up = letter_up(look, homography)
    degrees = math.degrees(math.atan2(up[0], -up[1])) % 360 if up.any() else None
    box = Box(painted.x + x, painted.y + y, w, h)
    return LabelledTarget(box, look.attributes, look.labels, degrees, truncated)


def frame_batch(samples: Sequence[FrameSample], stride: int) -> FrameBatch:
    """Stack frames of one size with their training truth. Raises UsageError where the sizes differ."""
    sizes = {sample.image_bgr.shape for sample in samples}
    if len(sizes) > 1:
        raise UsageError(f"frames of different sizes make no batch ({sorted(sizes)}); take them one by one")
    truths = [mask_to_cells(sample, stride) for sample in samples]
    return FrameBatch(
        np.stack([sample.image_bgr for sample in samples]),
        np.stack([cells for cells, _ in truths]),
        np.stack([weight for _, weight in truths]),
    )


def mask_to_cells(sample: FrameSample, stride: int) -> tuple[U8, U8]:
    """Reduce a mask to cells: coverage and weight, both uint8 [ceil(H / stride), ceil(W / stride)].

    A cell has no weight where any pixel of it is to be ignored, or next to a target too small to learn.
    """
    mask = _whole_cells(sample.mask, stride)
    rows, columns = mask.shape[0] // stride, mask.shape[1] // stride
    if stride > 1:
        mask = np.asarray(cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    weight = np.ones((rows, columns), np.uint8)
    if sample.ignore is not None:
        unknown = _whole_cells(sample.ignore, stride).reshape(rows, stride, columns, stride)
        weight[unknown.any(axis=(1, 3))] = 0
    for target in sample.targets:
        if target.size_px < LEARNABLE_PX:
            box = target.box
            x0, y0 = max(0, box.x // stride - 1), max(0, box.y // stride - 1)
            weight[y0 : (box.y + box.height) // stride + 2, x0 : (box.x + box.width) // stride + 2] = 0
    return mask, weight


def _whole_cells(plane: U8, stride: int) -> U8:
    """Fill a plane up with zeros, right and below, to whole cells."""
    height, width = plane.shape
    right, below = -width % stride, -height % stride
    return np.pad(plane, ((0, below), (0, right))) if right or below else plane


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _sparse_places(rng: Rng, recipe: FrameRecipe) -> list[tuple[float, float, float]]:
    """Up to `targets` places (x, y, size) that do not touch; a few are cut by the frame's edge."""
    places: list[tuple[float, float, float]] = []
    largest = min(recipe.size_px[1], 0.9 * min(recipe.height, recipe.width))
    for _ in range(int(rng.integers(recipe.targets[0], recipe.targets[1] + 1))):
        size = _log_uniform(rng, recipe.size_px[0], max(recipe.size_px[0], largest))
        x, y = rng.uniform(0, recipe.width), rng.uniform(0, recipe.height)
        if rng.random() < 0.85:  # the rest may lie across the edge
            inside = min(size * 0.55, recipe.width / 2, recipe.height / 2)
            x = min(max(x, inside), recipe.width - inside)
            y = min(max(y, inside), recipe.height - inside)
        if all(math.hypot(x - px, y - py) > 0.75 * (size + ps) + 4 for px, py, ps in places):
            places.append((x, y, size))
    return places


def _grid_places(rng: Rng, recipe: FrameRecipe) -> list[tuple[float, float, float]]:
    """Protocol R256: a grid of random fineness, each cell filled with p = 0.5."""
    side = min(recipe.height, recipe.width)
    cells = int(rng.integers(1, max(1, side // recipe.grid_px) + 1))
    cell = side / cells
    return [
        ((column + 0.5) * cell, (row + 0.5) * cell, cell * 0.97 * rng.uniform(0.8, 1.0))
        for row in range(int(recipe.height / cell))
        for column in range(int(recipe.width / cell))
        if rng.random() < 0.5
    ]

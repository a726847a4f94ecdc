"""Crops with their truth, framed as the pipeline frames them: what the classifier learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8
from aerial_runtime.errors import UsageError
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.camera import NO_CAMERA, Camera, expose, mean_bgr
from aerial_train.scenes.distractors import paint_distractor
from aerial_train.scenes.glyphs import ALL_FONTS
from aerial_train.scenes.painting import paint
from aerial_train.scenes.target import (
    REFERENCE_STYLE,
    TRIES,
    Style,
    at_pixels,
    check_drawable,
    letter_height,
    letter_levels,
    letter_up,
    placement,
    sample_look,
    stands_out,
    warp,
)

# How far an edge of a box lies outside its target, at least and at most, in cells and in sizes of the target.
CELL_ERRORS, SIZE_ERRORS = (-0.6, 0.75), (-0.03, 0.04)
# Of the edges of boxes in 80 drawn frames 9 % lay outside what `box_errors` drew without them, some by a third.
SLIPS, SLIP, LARGEST_SLIP = 0.15, 0.08, 0.4  # share of the edges; mean and limit of the slip, of the target's size

Rng = np.random.Generator
Edges = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CropRecipe:
    """What crops hold. Sizes in pixels of the source frame."""

    size: int = 64  # side of the crop that the classifier sees
    margin: float = 1.3  # side of the square over the longer side of the box, as in the runtime
    source_px: tuple[float, float] = (13, 220)  # size of the target in the frame
    size_exponent: float = 0.75  # of the uniform number behind its logarithm; under 1: fewer that nobody can read
    cell_px: int = 4  # the segmenter's stride: boxes are as coarse as its cells
    framing: float = 0.08  # standard deviation of the log of the square's side: masks are also too full or too thin
    targets: float = 0.75  # share of crops that hold a target
    style: Style = field(default_factory=Style)
    camera: Camera = field(default_factory=lambda: Camera(vignette=0.05))
    reference: bool = False  # frame as in protocol R32 instead: 31/32 of the side times U(0.8, 1)


R32 = CropRecipe(size=32, margin=1.0, targets=1.0, style=REFERENCE_STYLE, camera=NO_CAMERA, reference=True)
CROP_RECIPES: dict[str, CropRecipe] = {
    "flight": CropRecipe(),
    "r32": R32,
    "r32-any": replace(R32, style=replace(REFERENCE_STYLE, fonts=ALL_FONTS)),  # serifs, hands and narrow ones, too
}


@dataclass(frozen=True)
class CropSample:
    """image_bgr uint8 [S, S, 3]; labels: head -> class index (-1 unknown, -2 nothing there; -1 if no target);
    heading float32 [2]: unit vector of letter-up, zeros = unknown; source_px: size of the target in the frame;
    name: file and place in it, or `scenes 12`. Of drawn letters, else 0: letter_px: height in the crop; letter_levels:
    how far the paint is from the board's, three channels added."""

    image_bgr: U8
    is_target: bool
    labels: dict[str, int]
    heading: F32
    source_px: float
    name: str = ""
    letter_px: float = 0.0
    letter_levels: float = 0.0


@dataclass(frozen=True)
class CropBatch:
    """crops uint8 [B, S, S, 3] BGR; is_target uint8 [B]; labels: head -> int64 [B]; heading float32 [B, 2]."""

    crops: U8
    is_target: U8
    labels: dict[str, npt.NDArray[np.int64]]
    heading: F32


class CropScenes:
    """An infinite set of labelled crops: sample `index` of `epoch` is a pure function of (seed, epoch, index)."""

    count: int | None = None

    def __init__(self, space: LabelSpace, recipe: CropRecipe, backgrounds: Backgrounds, seed: int = 0) -> None:
        check_drawable(space)
        if recipe.size < 8 or not 1.0 <= recipe.margin <= 4.0:
            raise UsageError(
                f"crops need a side of at least 8 px and a margin of 1..4, not {recipe.size}, {recipe.margin}"
            )
        self.label_space, self.recipe, self.backgrounds, self.seed = space, recipe, backgrounds, seed

    def sample(self, epoch: int, index: int) -> CropSample:
        """Render one crop."""
        rng = np.random.default_rng((self.seed, epoch + 1, index))
        recipe = self.recipe
        low, high = recipe.source_px
        source = low * (high / low) ** (rng.random() ** recipe.size_exponent)
        if rng.random() >= recipe.targets:
            return self._nothing(rng, source, index)
        look = sample_look(rng, self.label_space, recipe.style)
        turn = rng.uniform(0, 2 * math.pi)
        if recipe.reference:
            side, homography = (
                recipe.size,
                placement(rng, turn, recipe.style.perspective, 31 / 32 * rng.uniform(0.8, 1)),
            )
            homography = at_pixels(homography, side / 2, side / 2, side / 2)
        else:
            unit = placement(rng, turn, recipe.style.perspective)
            side, homography = self._frame(rng, unit, warp(unit, look.outline), source)
        for _ in range(TRIES):
            picture = self.backgrounds.patch(rng, side, side)
            ground = mean_bgr(picture)
            if stands_out(look, ground):
                break
        paint(rng, picture, look, homography)
        image = self._finish(expose(rng, picture, recipe.camera, ground))
        up, height = letter_up(look, homography), letter_height(look, homography) * recipe.size / side
        return CropSample(image, True, look.labels, up, source, f"scenes {index}", height, letter_levels(look))

    def _frame(self, rng: Rng, unit: F32, outline: F32, source: float) -> tuple[int, F32]:
        """Frame a target of `source` pixels as segmenter and cropper would: a box as coarse as cells, slightly off.

        Returns the side of the square in pixels and the homography into it. A square that is more than twice the crop
        is drawn at twice the crop: the rest would be averaged away.
        """
        recipe = self.recipe
        low, high = outline.min(axis=0), outline.max(axis=0)
        scale = source / float((high - low).max())
        error = box_errors(rng, recipe.cell_px, source)
        box_low, box_high = low * scale - error[:2], high * scale + error[2:]
        side = max(
            8.0, float((box_high - box_low).max()) * recipe.margin * math.exp(recipe.framing * rng.standard_normal())
        )
        centre = (box_low + box_high) / 2
        shrink = min(1.0, 2 * recipe.size / side)
        whole = round(side * shrink)
        shrink = whole / side
        x, y = (whole / 2 - centre * shrink).tolist()
        return whole, at_pixels(unit, scale * shrink, x, y)

    def _nothing(self, rng: Rng, source: float, index: int) -> CropSample:
        """A crop that the classifier must reject: ground, or a distractor framed like a target."""
        recipe = self.recipe
        side = min(2 * recipe.size, max(8, round(source * recipe.margin)))
        picture = self.backgrounds.patch(rng, side, side)
        if rng.random() < 0.75:
            offset = rng.normal(0, 0.08, 2) * side
            paint_distractor(rng, picture, side / 2 + offset[0], side / 2 + offset[1], side * rng.uniform(0.4, 0.95))
        image = self._finish(expose(rng, picture, recipe.camera))
        labels = {head.name: -1 for head in self.label_space.heads}
        return CropSample(image, False, labels, np.zeros(2, np.float32), source, f"scenes {index}")

    def _finish(self, picture: U8) -> U8:
        """Resize to the classifier's crop, by the runtime's rule (aerial_runtime.crop)."""
        size = self.recipe.size
        if picture.shape[0] == size:
            return picture
        interpolation = cv2.INTER_AREA if picture.shape[0] > size else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(picture, (size, size), interpolation=interpolation), np.uint8)

    def batch(self, epoch: int, indices: Sequence[int]) -> CropBatch:
        """Render the crops `indices` with their training truth."""
        return crop_batch([self.sample(epoch, index) for index in indices], self.label_space)

    def preload(self) -> None:
        """Read what lies under the targets now, once for all worker processes."""
        self.backgrounds.preload()

    def with_seed(self, seed: int) -> CropScenes:
        """The same scenes drawn from another seed: the held-out set."""
        return CropScenes(self.label_space, self.recipe, self.backgrounds, seed)


def crop_batch(samples: Sequence[CropSample], space: LabelSpace) -> CropBatch:
    """Stack crops of one size with their training truth."""
    return CropBatch(
        np.stack([sample.image_bgr for sample in samples]),
        np.array([sample.is_target for sample in samples], np.uint8),
        {head.name: np.array([sample.labels[head.name] for sample in samples], np.int64) for head in space.heads},
        np.stack([sample.heading for sample in samples]),
    )


def box_errors(rng: Rng, cell_px: float, size: float) -> Edges:
    """How far each edge of a segmenter's box lies outside its target (left, top, right, bottom), pixels.

    Every edge is wrong by up to most of a cell and by some share of the target's size; one in SLIPS by more, where the
    mask holds a shadow or the line beside the board, or not the whole board.
    """
    errors = rng.uniform(*CELL_ERRORS, 4) * cell_px + rng.uniform(*SIZE_ERRORS, 4) * size
    slips = np.clip(rng.laplace(0, SLIP, 4), -LARGEST_SLIP, LARGEST_SLIP) * (rng.random(4) < SLIPS)
    return np.asarray(errors + slips * size)


def largest_box_error(cell_px: float, size: float) -> float:
    """How far an edge of `box_errors` can lie outside its target, pixels."""
    return CELL_ERRORS[1] * cell_px + (SIZE_ERRORS[1] + LARGEST_SLIP) * size

"""Crops cut from labelled pictures by the runtime's own rule: what a classifier learns from real photos."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import U8, Box
from aerial_runtime.crop import cut_crop, square_around
from aerial_runtime.errors import InputError
from aerial_train.data.base import ORDER_SALT, Rng, sample_rng, shuffled
from aerial_train.data.photo_frames import SECOND_CAMERA
from aerial_train.data.photos import Photo, checked_picture, clipped
from aerial_train.scenes.camera import expose
from aerial_train.scenes.crops import CropBatch, CropSample, box_errors, crop_batch, largest_box_error
from aerial_train.scenes.target import UNKNOWN

MIN_TARGET_PX = 8  # longer side; of less not even the shape can be told
CELL_PX = 4  # the segmenter's stride: boxes in flight are as coarse as its cells
NOTHING_SHARE = 0.25  # crops of bare ground, of the number of targets; at least one a photo
NOTHING_PX = (12.0, 180.0)  # their size where there are no targets to go by, log-uniform
TRIES = 60  # to find room without a label in a photo
KEPT_SIDES = 4  # the kept part is at most so many times as wide as the crop, as the runtime thins it


@dataclass(frozen=True)
class Item:
    """One crop to cut: the box in the picture, and what is in it."""

    photo: int
    box: Box
    labels: dict[str, int]
    degrees: float | None
    is_target: bool


@dataclass(frozen=True)
class Patch:
    """The surroundings of a box: image_bgr uint8 [h, w, 3]; x, y: its corner in the picture; scale: its pixels over
    the picture's."""

    image_bgr: U8
    x: int
    y: int
    scale: float


class PhotoCrops:
    """Every target of the photos and, from photos whose every target is labelled, some ground without one.

    jitter: the box is a little off and the light differs each time, for training; else cut exactly.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        space: LabelSpace,
        *,
        crop_size: int,
        margin: float,
        seed: int = 0,
        jitter: bool = False,
    ) -> None:
        """Raises InputError where there is nothing to cut."""
        self.photos, self.label_space, self.seed, self.jitter = tuple(photos), space, seed, jitter
        self.crop_size, self.margin = crop_size, margin
        unknown = {head.name: UNKNOWN for head in space.heads}
        self.items = _targets(self.photos, margin)
        self.items += _nothings(self.photos, self.items, unknown, margin, seed)
        self.count = len(self.items)
        if not self.items:
            raise InputError(f"{photos[0].path.parent} has no target of {MIN_TARGET_PX} px or more to cut crops from")
        self._items_in: dict[int, list[int]] = defaultdict(list)
        for number, item in enumerate(self.items):
            self._items_in[item.photo].append(number)
        self._patches: dict[int, Patch] = {}  # item -> what is kept of its picture

    def __getstate__(self) -> dict[str, object]:
        """Pictures stay behind when the object goes to another process: it reads its own."""
        return {**self.__dict__, "_patches": {}}

    def sample(self, epoch: int, index: int) -> CropSample:
        """Return one crop. Raises InputError for a picture that cannot be read."""
        number = int(shuffled(self.seed, epoch, [index], self.count)[0])
        item = self.items[number]
        image = self._crop(number, sample_rng(self.seed, epoch, index))
        up = np.zeros(2, np.float32)
        if item.degrees is not None:
            up[:] = math.sin(math.radians(item.degrees)), -math.cos(math.radians(item.degrees))
        photo, box = self.photos[item.photo], item.box
        name = photo.name if photo.is_crop else f"{photo.name} x={box.x} y={box.y} {box.width}x{box.height}"
        return CropSample(image, item.is_target, item.labels, up, float(max(box.width, box.height)), name)

    def batch(self, epoch: int, indices: Sequence[int]) -> CropBatch:
        """Return crops with their training truth."""
        return crop_batch([self.sample(epoch, index) for index in indices], self.label_space)

    def preload(self) -> None:
        """Read every picture now: a bad one stops a training before it starts, and forked workers share the memory."""
        cv2.setNumThreads(1)  # before any worker is forked, see aerial_train.fit.prepare
        for number in range(self.count):
            self._patch(number)

    def _crop(self, number: int, rng: Rng) -> U8:
        patch = self._patch(number)
        if not self.jitter:
            return patch.image_bgr.copy()
        box, scale = self.items[number].box, patch.scale
        left, top, right, bottom = box_errors(rng, CELL_PX, max(box.width, box.height)).tolist()
        x, y = (box.x - left - patch.x) * scale, (box.y - top - patch.y) * scale
        width, height = (box.width + left + right) * scale, (box.height + top + bottom) * scale
        crop = np.empty((self.crop_size, self.crop_size, 3), np.uint8)
        near = Box(round(x), round(y), max(1, round(width)), max(1, round(height)))
        cut_crop(patch.image_bgr, near, self.margin, crop)
        return expose(rng, crop, SECOND_CAMERA)

    def _patch(self, number: int) -> Patch:
        """Return what is kept for an item; its picture is read once, for all items in it."""
        if number not in self._patches:
            keep = self._surroundings if self.jitter else self._exact
            photo = self.items[number].photo
            picture = checked_picture(self.photos[photo])
            for other in self._items_in[photo]:
                self._patches[other] = keep(picture, self.items[other].box)
        return self._patches[number]

    def _exact(self, picture: U8, box: Box) -> Patch:
        """The crop itself, just as the runtime cuts it."""
        crop = np.empty((self.crop_size, self.crop_size, 3), np.uint8)
        cut_crop(picture, box, self.margin, crop)
        return Patch(crop, 0, 0, 1.0)

    def _surroundings(self, picture: U8, box: Box) -> Patch:
        """All that a crop around a box that is off by the largest error may show."""
        error = math.ceil(largest_box_error(CELL_PX, max(box.width, box.height))) + 1
        grown = Box(box.x - error, box.y - error, box.width + 2 * error, box.height + 2 * error)
        x, y, side = square_around(grown, self.margin)
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = max(0, x - error), max(0, y - error), x + side + error, y + side + error
        part = picture[y0 : min(y1, height), x0 : min(x1, width)]
        scale = min(1.0, KEPT_SIDES * self.crop_size / side)
        if scale == 1:
            return Patch(part.copy(), x0, y0, scale)
        smaller = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return Patch(np.asarray(smaller, np.uint8), x0, y0, scale)


def _targets(photos: Sequence[Photo], margin: float) -> list[Item]:
    """Every target that is large enough and not to be ignored, its box inside the picture."""
    items = []
    for number, photo in enumerate(photos):
        for target in photo.targets:
            box = inner_box(photo, margin) if photo.is_crop else clipped(target.box, 0, 0, photo.width, photo.height)
            if box is not None and max(box.width, box.height) >= MIN_TARGET_PX and not target.ignored:
                items.append(Item(number, box, target.labels, target.degrees, True))
    return items


def inner_box(photo: Photo, margin: float) -> Box:
    """The box around which the runtime would cut just this picture."""
    width, height = photo.width / margin, photo.height / margin
    return Box(round((photo.width - width) / 2), round((photo.height - height) / 2), round(width), round(height))


def _nothings(
    photos: Sequence[Photo], targets: Sequence[Item], unknown: dict[str, int], margin: float, seed: int
) -> list[Item]:
    """Places without a target, as large as targets are."""
    usable = [number for number, photo in enumerate(photos) if photo.complete and not photo.is_crop]
    if not usable:
        return []
    each = max(1, round(NOTHING_SHARE * len(targets) / len(usable)))
    sizes = [max(item.box.width, item.box.height) for item in targets]
    items = []
    for number in usable:
        rng = np.random.default_rng((seed, number, ORDER_SALT))
        for _ in range(each):
            size = rng.choice(sizes) if sizes else math.exp(rng.uniform(*np.log(NOTHING_PX)))
            box = _free_place(rng, photos[number], float(size), margin)
            if box is not None:
                items.append(Item(number, box, unknown, None, False))
    return items


def _free_place(rng: Rng, photo: Photo, size: float, margin: float) -> Box | None:
    """Find a square whose crop shows nothing of any label; smaller where there is no room; None where there is none."""
    size = min(size, 0.5 * photo.width, 0.5 * photo.height)
    if size < 1:
        return None
    for _ in range(TRIES):
        side = round(size)
        box = Box(int(rng.integers(photo.width - side + 1)), int(rng.integers(photo.height - side + 1)), side, side)
        x, y, crop_side = square_around(box, margin)
        if all(clipped(target.box, x, y, crop_side, crop_side) is None for target in photo.targets):
            return box
        size = max(MIN_TARGET_PX, 0.95 * size)
    return None

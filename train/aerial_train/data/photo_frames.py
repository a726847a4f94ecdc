"""Frames on disk as training data: whole pictures, or windows of the training size with masks made of the labels."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8, Box
from aerial_runtime.errors import InputError
from aerial_train.data.base import Rng, sample_rng, shuffled
from aerial_train.data.labels import ABSENT, names_of
from aerial_train.data.photos import Photo, PhotoTarget, checked_picture, clipped, read_mask
from aerial_train.scenes.camera import Camera, expose
from aerial_train.scenes.frames import FrameBatch, FrameSample, LabelledTarget, frame_batch
from aerial_train.scenes.painting import coverage

ON_TARGET = 0.7  # share of the windows that are laid around a target, where a photo has any
SURE_SHARE = 0.4  # of a box without polygon: the ellipse of this share lies on nearly every shape that fills the box
WHOLE_SHARE = 0.9  # of a box: a target of which a window shows less counts as truncated
CACHED_BYTES = 256 << 20  # decoded photos kept in each process
# What light and a camera may add to a photo that has its own: little.
SECOND_CAMERA = Camera(
    exposure=0.12, cast=0.04, gamma=0.08, clip=0, haze=0.1, saturation=(0.8, 1.2), shade=0, vignette=0,
    defocus=0.2, defocus_px=0.6, motion=0, sharpen=0.1, noise=3.0, jpeg=0.2, jpeg_quality=(60, 95),
)  # fmt: skip


class PhotoFrames:
    """Labelled pictures. size (width, height): windows, in another order and place each epoch; None: whole pictures in
    the order of the label file. varied: light and camera differ a little from window to window."""

    def __init__(
        self,
        photos: Sequence[Photo],
        space: LabelSpace,
        *,
        size: tuple[int, int] | None = None,
        stride: int = 4,
        seed: int = 0,
        varied: bool = False,
    ) -> None:
        self.photos, self.label_space, self.count = tuple(photos), space, len(photos)
        self.size, self.stride, self.seed, self.varied = size, stride, seed, varied
        self._pictures = PictureCache()

    def sample(self, epoch: int, index: int) -> FrameSample:
        """Return a whole picture, or a window: of a picture of just that size all of it."""
        if self.size is None:
            photo = self.photos[index % self.count]
            return self._cut(photo, 0, 0, photo.width, photo.height)
        photo = self.photos[int(shuffled(self.seed, epoch, [index], self.count)[0])]
        rng = sample_rng(self.seed, epoch, index)
        sample = self._cut(photo, *_window(rng, photo, *self.size), *self.size)
        if not self.varied:
            return sample
        return replace(sample, image_bgr=expose(rng, sample.image_bgr, SECOND_CAMERA))

    def batch(self, epoch: int, indices: Sequence[int]) -> FrameBatch:
        """Return frames with their training truth."""
        return frame_batch([self.sample(epoch, index) for index in indices], self.stride)

    def preload(self) -> None:
        """Nothing: pictures are read when they are wanted."""

    def _cut(self, photo: Photo, x: int, y: int, width: int, height: int) -> FrameSample:
        whole = (x, y, width, height) == (0, 0, photo.width, photo.height)
        picture = checked_picture(photo) if whole else self._pictures.get(photo)
        image = picture if whole else _padded(picture, x, y, width, height)
        mask, ignore = _truth(photo, x, y, width, height)
        targets = [_seen(target, self.label_space, x, y, width, height) for target in photo.targets]
        found = tuple(target for target in targets if target is not None)
        return FrameSample(image, mask, found, photo.name, ignore if ignore.any() else None, photo.complete)


class PictureCache:
    """Decoded photos, the newest up to CACHED_BYTES: many windows are cut from one that was long to decode."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, U8] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        """Pictures stay behind when the object goes to another process."""
        return {"_kept": OrderedDict()}

    def get(self, photo: Photo) -> U8:
        """Return the picture, not to be changed. Raises InputError."""
        picture = self._kept.pop(photo.path, None)
        if picture is None:
            picture = checked_picture(photo)
        self._kept[photo.path] = picture
        while sum(kept.nbytes for kept in self._kept.values()) > CACHED_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return picture


def _window(rng: Rng, photo: Photo, width: int, height: int) -> tuple[int, int]:
    """Choose a window's corner: around a target or anywhere. A smaller photo lies anywhere in its window."""
    x, y = _place(rng, photo.width, width), _place(rng, photo.height, height)
    if photo.targets and rng.random() < ON_TARGET:
        box = photo.targets[int(rng.integers(len(photo.targets)))].box
        around_x = box.x + box.width / 2 - width * rng.uniform(0.1, 0.9)
        around_y = box.y + box.height / 2 - height * rng.uniform(0.1, 0.9)
        x, y = _inside(around_x, photo.width, width), _inside(around_y, photo.height, height)
    return x, y


def _place(rng: Rng, length: int, window: int) -> int:
    return int(rng.integers(min(0, length - window), max(0, length - window) + 1))


def _inside(start: float, length: int, window: int) -> int:
    return int(min(max(start, min(0, length - window)), max(0, length - window)))


def _padded(picture: U8, x: int, y: int, width: int, height: int) -> U8:
    """Cut a window; what lies outside the picture repeats its edge. Mirroring would show mirrored letters."""
    left, top = max(0, -x), max(0, -y)
    part = picture[max(0, y) : y + height, max(0, x) : x + width]
    right, bottom = width - left - part.shape[1], height - top - part.shape[0]
    if not (left or top or right or bottom):
        return part.copy()
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def _truth(photo: Photo, x: int, y: int, width: int, height: int) -> tuple[U8, U8]:
    """Return mask and ignore of a window, uint8 [height, width] each.

    Polygons are filled. Of a box alone the middle is target, and what the rest is nobody knows; nor what truncated
    boxes and ignored objects hold, what lies outside the picture and, where some labels are missing, far from any.
    """
    ignore = np.full((height, width), 0 if photo.complete else 255, np.uint8)
    if not photo.complete:
        for target in photo.targets:
            _fill(ignore, _grown(target.box), x, y, 0)
    mask = np.zeros((height, width), np.uint8)
    if photo.mask_path is not None:
        _paste(mask, _drawn_mask(photo, photo.mask_path), x, y)
    for target in photo.targets:
        if target.ignored:
            _fill(ignore, target.box, x, y, 255)
        elif photo.mask_path is None:
            _draw(mask, ignore, target, x, y)
    outside = np.full_like(ignore, 255)
    _fill(outside, Box(0, 0, photo.width, photo.height), x, y, 0)
    return mask, np.maximum(ignore, outside)


def _drawn_mask(photo: Photo, path: Path) -> U8:
    """Return a photo's mask. Raises InputError where it has not the photo's size: it would lie beside the targets."""
    mask = read_mask(path)
    height, width = mask.shape
    if (width, height) != (photo.width, photo.height):
        raise InputError(
            f"{path} is {width}x{height}, its picture {photo.width}x{photo.height}; aerial-train inspect tells more"
        )
    return mask


def _draw(mask: U8, ignore: U8, target: PhotoTarget, x: int, y: int) -> None:
    """Draw one target into a window whose corner is at x, y."""
    for polygon in target.polygons:
        _draw_polygon(mask, polygon - np.array((x, y), np.float32))
    if target.polygons:
        return
    _fill(ignore, target.box, x, y, 255)
    if not target.truncated:
        box, angles = target.box, np.linspace(0, 2 * math.pi, 32, endpoint=False)
        radii = (SURE_SHARE / 2 * box.width, SURE_SHARE / 2 * box.height)
        centre = (box.x - x + box.width / 2, box.y - y + box.height / 2)
        ellipse = np.stack((np.cos(angles), np.sin(angles)), axis=1) * radii + centre
        _draw_polygon(mask, ellipse.astype(np.float32), ignore)


def _draw_polygon(mask: U8, points: F32, ignore: U8 | None = None) -> None:
    """Fill a polygon, float32 [K, 2] in the mask's pixels, where it is inside the mask; `ignore` ends there."""
    height, width = mask.shape
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(width, int(high[0])), min(height, int(high[1]))
    if x1 <= x0 or y1 <= y0:
        return
    covered = coverage((points,), x0, y0, x1 - x0, y1 - y0, supersample=2)
    part = mask[y0:y1, x0:x1]
    np.maximum(part, covered, out=part)
    if ignore is not None:
        ignore[y0:y1, x0:x1][covered > 127] = 0


def _fill(plane: U8, box: Box, x: int, y: int, value: int) -> None:
    """Set what of a box lies in the window whose corner is at x, y."""
    part = clipped(box, x, y, plane.shape[1], plane.shape[0])
    if part is not None:
        plane[part.y : part.y + part.height, part.x : part.x + part.width] = value


def _paste(plane: U8, whole: U8, x: int, y: int) -> None:
    """Copy what of a whole picture's plane lies in the window whose corner is at x, y."""
    part = clipped(Box(0, 0, whole.shape[1], whole.shape[0]), x, y, plane.shape[1], plane.shape[0])
    if part is not None:
        top, left = part.y + y, part.x + x
        plane[part.y : part.y + part.height, part.x : part.x + part.width] = whole[
            top : top + part.height, left : left + part.width
        ]


def _grown(box: Box) -> Box:
    """The box and a ring around it that whoever labelled the target has looked at too."""
    by = max(box.width, box.height) // 2
    return Box(box.x - by, box.y - by, box.width + 2 * by, box.height + 2 * by)


def _seen(target: PhotoTarget, space: LabelSpace, x: int, y: int, width: int, height: int) -> LabelledTarget | None:
    """What a window shows of a target; None where it is outside. An ignored one is as good as truncated."""
    box = clipped(target.box, x, y, width, height)
    if box is None:
        return None
    cut = box.area_px < WHOLE_SHARE * target.box.area_px
    names = {name: word if word != ABSENT else None for name, word in names_of(target.labels, space).items()}
    return LabelledTarget(box, names, target.labels, target.degrees, target.truncated or target.ignored or cut)

"""Labelled pictures on disk, wherever their labels come from: the type, reading a picture, what must hold of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8, Box
from aerial_runtime.errors import InputError

Image.MAX_IMAGE_PIXELS = None  # only headers are read by it, and a map of a whole field is larger than it allows

GivenSplit = Literal["train", "val", ""]

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}


@dataclass(frozen=True)
class PhotoTarget:
    """One label. box: as the file gives it, whole pixels outwards; polygons: float32 [K, 2] in pixels, none = box only.

    labels: head -> class index, -1 unknown, -2 nothing to read. degrees: letter-up clockwise from image-up or None.
    truncated: the edge cuts it. ignored: something is there that shall count neither way.
    """

    box: Box
    labels: dict[str, int]
    degrees: float | None = None
    truncated: bool = False
    ignored: bool = False
    polygons: tuple[F32, ...] = ()


@dataclass(frozen=True)
class Photo:
    """One picture. name: as its label file calls it; width, height: pixels, as its label file or its header says.

    source: what it shares with the pictures of the same flight, never divided between train and val. split: "" where
    none is given yet. complete: every target in it is labelled. mask_path: a drawn mask. is_crop: the picture is one
    target with a little ground around it.
    """

    path: Path
    name: str
    width: int
    height: int
    source: str = ""
    targets: tuple[PhotoTarget, ...] = ()
    complete: bool = True
    split: GivenSplit = ""
    mask_path: Path | None = None
    is_crop: bool = False


@dataclass(frozen=True)
class PhotoSet:
    """Labelled pictures from one place. unread: names of attributes that no head of the label space asks for."""

    path: Path
    label_space: LabelSpace
    photos: tuple[Photo, ...]
    unread: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["frames", "crops"]:
        """Whether the pictures are frames with targets in them, or crops of one target each."""
        return "crops" if self.photos[0].is_crop else "frames"


def given_split(value: Any, name: str) -> GivenSplit:
    """Return what a label file says of a picture's split. Raises InputError for what is none."""
    if value in ("train", "val"):
        return "train" if value == "train" else "val"
    if value in (None, ""):
        return ""
    raise InputError(f"the split of {name} is {value!r}; write train or val, or leave it out")


def read_picture(path: Path) -> U8:
    """Return uint8 [H, W, 3] BGR, sensor pixels: EXIF rotation is ignored, as in flight. Raises InputError."""
    return _decoded(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def read_mask(path: Path) -> U8:
    """Return uint8 [H, W]. Raises InputError."""
    return _decoded(path, cv2.IMREAD_GRAYSCALE)


def _decoded(path: Path, flags: int) -> U8:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); is the dataset whole?") from error
    try:
        picture = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # of more pixels than it takes
        picture = None
    if picture is None:
        raise InputError(f"{path} is no picture that can be decoded; replace it, or take it out of the labels")
    return np.asarray(picture, np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of the sensor pixels from the file's header. Raises InputError."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is no picture that can be decoded; replace it, or take it out of the labels"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}); is the dataset whole?") from error


def checked_picture(photo: Photo) -> U8:
    """Return a photo's picture. Raises InputError where it has not the size that its labels were made for."""
    picture = read_picture(photo.path)
    height, width = picture.shape[:2]
    if (width, height) != (photo.width, photo.height):
        raise InputError(
            f"{photo.path} is {width}x{height}, its labels were made for {photo.width}x{photo.height}; "
            "aerial-train inspect tells more"
        )
    return picture


def check_labels(photos: Sequence[Photo]) -> None:
    """Raise InputError for the first photo that is missing or has a box without area or outside the picture."""
    for photo in photos:
        if not photo.path.is_file():
            raise InputError(f"{photo.path} is missing, though its labels are there; aerial-train inspect lists all")
        for target in photo.targets:
            box = target.box
            if box.width < 1 or box.height < 1 or clipped(box, 0, 0, photo.width, photo.height) is None:
                raise InputError(
                    f"{photo.name}: the box x={box.x} y={box.y} {box.width}x{box.height} is empty or outside the "
                    f"{photo.width}x{photo.height} picture; aerial-train inspect lists all"
                )


def outward_box(left: float, top: float, right: float, bottom: float) -> Box:
    """Return the smallest box of whole pixels around a rectangle. Raises ValueError for what is no number."""
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(f"a box from {left:g}, {top:g} to {right:g}, {bottom:g}")
    x, y = math.floor(left + 1e-3), math.floor(top + 1e-3)  # the edge of a pixel is often a hair off
    return Box(x, y, math.ceil(right - 1e-3) - x, math.ceil(bottom - 1e-3) - y)


def clipped(box: Box, x: int, y: int, width: int, height: int) -> Box | None:
    """Return the part of a box inside a window, in the window's own pixels; None where there is none."""
    left, top = max(box.x, x), max(box.y, y)
    right, bottom = min(box.x + box.width, x + width), min(box.y + box.height, y + height)
    return Box(left - x, top - y, right - left, bottom - top) if right > left and bottom > top else None

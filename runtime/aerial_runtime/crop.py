"""Cut the square around a box out of a frame: the one framing that training and flight share."""

from __future__ import annotations

import math

import cv2
import numpy as np

from aerial_runtime.contract import U8, Box


def square_around(box: Box, margin: float) -> tuple[int, int, int]:
    """Return (x, y, side) in pixels of the square with the box's centre and `margin` times its longer side."""
    side = max(2, math.ceil(max(box.width, box.height) * margin))
    return round(box.x + (box.width - side) / 2), round(box.y + (box.height - side) / 2), side


def cut_crop(image_bgr: U8, box: Box, margin: float, crop_u8: U8) -> None:
    """Fill `crop_u8` (uint8 [S, S, 3]) with the square around a box, resized.

    image_bgr: uint8 [H, W, 3]; the box overlaps it. What lies outside the frame repeats the frame's edge pixels.
    """
    x, y, side = square_around(box, margin)
    height, width = image_bgr.shape[:2]
    left, top = max(0, -x), max(0, -y)
    right, bottom = max(0, x + side - width), max(0, y + side - height)
    square = image_bgr[y + top : y + side - bottom, x + left : x + side - right]
    size = crop_u8.shape[0]
    # Of a very large square every n-th pixel is enough: at least 4 x 4 of them still make one pixel of the crop.
    step = max(1, side // (4 * size))
    if step > 1:
        square = np.ascontiguousarray(square[::step, ::step])
        left, top, right, bottom = (-(-pixels // step) for pixels in (left, top, right, bottom))
    if left or top or right or bottom:
        square = cv2.copyMakeBorder(square, top, bottom, left, right, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    # Area averaging when shrinking: bilinear would skip pixels and break thin letter strokes.
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    cv2.resize(square, (size, size), dst=crop_u8, interpolation=interpolation)

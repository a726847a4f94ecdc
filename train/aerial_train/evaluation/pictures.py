"""Pictures for reports: crops, frames with boxes, maps as colours, each as a data URI of a JPEG."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np

from aerial_runtime.contract import U8, Box
from aerial_train.evaluation.gather import FrameOutcome

CROP_PX: Final = 96
TILE_PX: Final = 128
FRAME_PX: Final = 340  # longer side
TRUTH_BGR: Final = (90, 200, 90)
FOUND_BGR: Final = (40, 140, 255)
UNKNOWN_SHADE: Final = 0.45
JPEG_QUALITY: Final = 85


def data_uri(image_bgr: U8) -> str:
    """Return a picture, uint8 [H, W, 3], as the text of an <img> source."""
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def crop_picture(image_bgr: U8) -> str:
    """Return a crop, enlarged without smoothing."""
    return data_uri(_resized(image_bgr, CROP_PX, CROP_PX))


def frame_pictures(
    image_bgr: U8, frame: FrameOutcome, truth: Sequence[Box], found: Sequence[Box], stride: int
) -> tuple[str, str, str]:
    """Return the frame as it is, with the labels' boxes, and the map with the boxes that were found."""
    scale = min(1.0, FRAME_PX / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    small = _resized(image_bgr, width, height)
    labelled = small.copy()
    for box in truth:
        _draw(labelled, box, scale, TRUTH_BGR)
    seen = _resized(_heat(frame, stride), width, height)
    for box in found:
        _draw(seen, box, scale, FOUND_BGR)
    return data_uri(small), data_uri(labelled), data_uri(seen)


def target_tiles(image_bgr: U8, frame: FrameOutcome, box: Box, stride: int) -> tuple[str, str]:
    """Return the surroundings of a box in the frame and in the map."""
    seen = surroundings(_heat(frame, stride), box, TILE_PX, {TRUTH_BGR: box})
    return data_uri(surroundings(image_bgr, box, TILE_PX)), data_uri(seen)


def surroundings(
    image_bgr: U8, box: Box, side_px: int, drawn: Mapping[tuple[int, int, int], Box] = MappingProxyType({})
) -> U8:
    """Return three times the longer side of a box around it, as a square of `side_px`. drawn: colour -> a box."""
    side = max(48, 3 * max(box.width, box.height))
    x, y = box.x + box.width // 2 - side // 2, box.y + box.height // 2 - side // 2
    window = np.zeros((side, side, 3), np.uint8)
    x0, y0 = max(0, x), max(0, y)
    part = image_bgr[y0 : max(0, y + side), x0 : max(0, x + side)]
    window[y0 - y : y0 - y + part.shape[0], x0 - x : x0 - x + part.shape[1]] = part
    tile = _resized(window, side_px, side_px)
    for color_bgr, one in drawn.items():
        _draw(tile, Box(one.x - x, one.y - y, one.width, one.height), side_px / side, color_bgr)
    return tile


def _heat(frame: FrameOutcome, stride: int) -> U8:
    """Return the map at the frame's size, dark = nothing; what nobody knows is shaded grey."""
    cells = np.asarray(cv2.applyColorMap(frame.probability, cv2.COLORMAP_INFERNO), np.uint8)
    unknown = frame.weight == 0
    cells[unknown] = (cells[unknown] * (1 - UNKNOWN_SHADE) + 128 * UNKNOWN_SHADE).astype(np.uint8)
    rows, columns = frame.probability.shape
    size = (columns * stride, rows * stride)
    return np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST), np.uint8)[: frame.height, : frame.width]


def _draw(image: U8, box: Box, scale: float, color_bgr: tuple[int, int, int]) -> None:
    """Draw a box just around what it holds."""
    x0, y0 = int(box.x * scale) - 2, int(box.y * scale) - 2
    x1, y1 = int((box.x + box.width) * scale) + 2, int((box.y + box.height) * scale) + 2
    cv2.rectangle(image, (x0, y0), (x1, y1), color_bgr, 1)


def _resized(image: U8, width: int, height: int) -> U8:
    smaller = width < image.shape[1]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)

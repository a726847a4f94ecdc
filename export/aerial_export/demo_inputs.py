"""Scenes where none can be drawn, as on the aircraft: windows and crops of the demo flight. Free of torch and onnx."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from aerial_export.goldens import Input
from aerial_runtime.camera.demo import DEMO_FOLDER, TRUTH_FILE
from aerial_runtime.camera.image_file import read_image
from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8, Box
from aerial_runtime.crop import cut_crop
from aerial_runtime.label_file import LabelledBox, LabelledFrame, read_labels
from aerial_runtime.segment import MAX_CANDIDATES

WINDOW: Final = (270, 480)  # height, width: a quarter of a frame each way
CROPS_A_LABEL: Final = 25
JITTER: Final = 0.12  # of a box's longer side, by which each of its edges is moved


def demo_inputs(card: ModelCard) -> list[Input]:
    """Return scenes of the demo flight: windows with their targets, or batches of crops around them, jittered."""
    flight = [(frame, read_image(DEMO_FOLDER / frame.image)) for frame in read_labels(DEMO_FOLDER / TRUTH_FILE)]
    if card.kind == "segmenter":
        return [window for frame, image in flight for window in _windows(frame, image)]
    crops = np.stack([crop for frame, image in flight for crop in _crops(card, frame, image)])
    starts = range(0, len(crops), MAX_CANDIDATES)
    return [Input(f"demo crops from {at}", crops[at : at + MAX_CANDIDATES], is_scene=True) for at in starts]


def _windows(frame: LabelledFrame, image_bgr: U8) -> Iterator[Input]:
    """Give the windows of a grid in which a label has its centre."""
    height, width = WINDOW
    for top in range(0, image_bgr.shape[0] - height + 1, height):
        for left in range(0, image_bgr.shape[1] - width + 1, width):
            truth = tuple(filter(None, (_inside(label, left, top) for label in frame.targets)))
            if truth:
                window = np.ascontiguousarray(image_bgr[np.newaxis, top : top + height, left : left + width])
                yield Input(f"{frame.image} from {left},{top}", window, is_scene=True, truth=truth)


def _inside(label: LabelledBox, left: int, top: int) -> LabelledBox | None:
    """Return a label as a window sees it, None where its centre lies outside."""
    height, width = WINDOW
    x, y = label.x - left, label.y - top
    if not (0 <= x + label.w / 2 < width and 0 <= y + label.h / 2 < height):
        return None
    is_cut = x < 0 or y < 0 or x + label.w > width or y + label.h > height
    return replace(label, x=x, y=y, truncated=label.truncated or is_cut)


def _crops(card: ModelCard, frame: LabelledFrame, image_bgr: U8) -> Iterator[U8]:
    size = card.crop_size or 0
    for number, label in enumerate(frame.targets):
        rng = np.random.default_rng((number, label.x, label.y))
        for _ in range(CROPS_A_LABEL):
            left, top, right, bottom = rng.uniform(-JITTER, JITTER, 4) * label.size_px
            box = Box(
                round(label.x + left),
                round(label.y + top),
                max(2, round(label.w + right - left)),
                max(2, round(label.h + bottom - top)),
            )
            crop = np.empty((size, size, 3), np.uint8)
            cut_crop(image_bgr, box, card.crop_margin, crop)
            yield crop

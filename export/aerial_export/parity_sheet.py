"""Reference and exported file side by side, as a picture. Free of torch and onnx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from aerial_export.goldens import Golden
from aerial_runtime.backends import Backend
from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8

SHOWN_FRAMES: Final = 4
SHOWN_CROPS: Final = 8
COLUMN_PX: Final = 300
CROP_PX: Final = 96
LINE_PX: Final = 13
AMPLIFIED: Final = 40  # a mask's difference of one level becomes so many
MARGIN_PX: Final = 6


def side_by_side(backend: Backend, goldens: Sequence[Golden]) -> U8:
    """Return a sheet, uint8 [H, W, 3]: frames with both masks and their difference, or crops with what both read."""
    scenes = [golden for golden in goldens if golden.is_scene] or list(goldens)
    if backend.card.kind == "segmenter":
        busiest = sorted(scenes, key=lambda golden: -len(golden.truth))[:SHOWN_FRAMES]
        return np.concatenate([_frame_row(backend, golden) for golden in busiest])
    images = np.concatenate([golden.images for golden in scenes])[: 10 * SHOWN_CROPS]
    right = {name: np.concatenate([golden.answer[name] for golden in scenes]) for name in scenes[0].answer}
    # Those first whose probabilities are the furthest apart.
    seen = {name: values.copy() for name, values in backend.infer(images).items()}
    apart = np.max([np.abs(seen[name] - right[name][: len(images)]).max(axis=1) for name in seen], axis=0)
    worst = np.argsort(-apart)[:SHOWN_CROPS]
    cells = [_crop_cell(backend.card, images[row], row, right, seen) for row in worst]
    half = -(-len(cells) // 2)
    columns = [np.concatenate(column) for column in (cells[:half], cells[half:]) if column]
    columns[-1] = np.pad(columns[-1], ((0, len(columns[0]) - len(columns[-1])), (0, 0), (0, 0)))
    return np.concatenate(columns, axis=1)


def _frame_row(backend: Backend, golden: Golden) -> U8:
    frame, right = golden.images[0], golden.answer["probability"][0]
    seen = backend.infer(golden.images)["probability"][0]
    difference = np.minimum(255, np.abs(seen.astype(np.int16) - right.astype(np.int16)) * AMPLIFIED).astype(np.uint8)
    titles = ("frame", "reference", f"{backend.card.precision} file", f"difference x {AMPLIFIED}")
    masks = [np.repeat(mask[..., np.newaxis], 3, axis=2) for mask in (right, seen, difference)]
    height = round(COLUMN_PX * frame.shape[0] / frame.shape[1])
    cells = [_titled(image, height, title) for image, title in zip((frame, *masks), titles, strict=True)]
    return np.concatenate(cells, axis=1)


def _titled(image: U8, height: int, title: str) -> U8:
    cell = np.full((height + LINE_PX + 2 * MARGIN_PX, COLUMN_PX + MARGIN_PX, 3), 255, np.uint8)
    _write(cell, title, 0, LINE_PX)
    cell[LINE_PX + MARGIN_PX : LINE_PX + MARGIN_PX + height, :COLUMN_PX] = cv2.resize(
        image, (COLUMN_PX, height), interpolation=cv2.INTER_AREA
    )
    return cell


def _crop_cell(
    card: ModelCard, crop: U8, row: int, right: dict[str, npt.NDArray[Any]], seen: dict[str, npt.NDArray[Any]]
) -> U8:
    cell = np.full((CROP_PX + MARGIN_PX, 2 * COLUMN_PX, 3), 255, np.uint8)
    cell[:CROP_PX, :CROP_PX] = cv2.resize(crop, (CROP_PX, CROP_PX), interpolation=cv2.INTER_NEAREST)
    for line, name in enumerate(seen):
        text = f"{name}: {_described(card, name, right[name][row])}   {card.precision}: "
        _write(cell, text + _described(card, name, seen[name][row]), CROP_PX + MARGIN_PX, (line + 1) * LINE_PX)
    return cell


def _described(card: ModelCard, name: str, values: npt.NDArray[Any]) -> str:
    if name in ("target", "heading"):
        return " ".join(f"{value:.4f}" for value in values)
    return f"{card.label_space.head(name).classes[int(values.argmax())]} {values.max():.4f}"


def _write(image: U8, text: str, x: int, y: int) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)

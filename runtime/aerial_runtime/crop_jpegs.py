"""Crops of targets as JPEG, within a budget of bytes: the link to the ground is narrow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from aerial_runtime.contract import U8, Target
from aerial_runtime.crop import cut_crop, square_around

MAX_SIDE_PX = 256  # larger squares shrink to it; smaller ones stay as the camera saw them
QUALITY = 85


class CropBudget:
    """Cuts crops out of frames and encodes them while the budget lasts, the most confident targets first.

    The budget is a bucket that fills at `bytes_per_s` and holds one second's worth.
    """

    def __init__(self, bytes_per_s: int, margin: float, *, mono_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """margin: the model card's crop margin, so that a crop shows what the classifier saw."""
        self._bytes_per_s = bytes_per_s
        self._margin = margin
        self._mono_ns = mono_ns
        self._left_bytes = float(bytes_per_s)
        self._filled_ns = mono_ns()

    def jpegs(self, image_bgr: U8, targets: Sequence[Target]) -> list[bytes]:
        """Return the JPEG of each target's square, in the targets' order, empty where the budget has none for it.

        image_bgr: uint8 [H, W, 3], only read. A square is the box's longer side times the margin, at most MAX_SIDE_PX
        after shrinking; what lies outside the frame repeats the frame's edge.
        """
        now_ns = self._mono_ns()
        filled_bytes = self._left_bytes + self._bytes_per_s * (now_ns - self._filled_ns) / 1e9
        self._left_bytes, self._filled_ns = min(float(self._bytes_per_s), filled_bytes), now_ns
        jpegs = [b""] * len(targets)
        for index in sorted(range(len(targets)), key=lambda index: -targets[index].confidence):
            jpeg = self._jpeg(image_bgr, targets[index])
            if len(jpeg) > self._bytes_per_s:  # would never fit; those after it may
                continue
            if len(jpeg) > self._left_bytes:
                break  # and no less confident one goes instead: what is saved now is for the next frame's best
            self._left_bytes -= len(jpeg)
            jpegs[index] = jpeg
        return jpegs

    def _jpeg(self, image_bgr: U8, target: Target) -> bytes:
        side = min(MAX_SIDE_PX, square_around(target.box, self._margin)[2])
        crop = np.empty((side, side, 3), np.uint8)
        cut_crop(image_bgr, target.box, self._margin, crop)
        return cv2.imencode(".jpg", crop, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()

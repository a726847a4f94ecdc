"""OpenCV's FFmpeg reader, which another thread may close."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError


class Decoder:
    """A video file or stream, read picture by picture; sensor pixels, a rotation is ignored."""

    def __init__(self, where: str | Path, *parameters: int) -> None:
        """where: file or address. parameters: pairs of cv2.CAP_PROP_... and value, for the opening.

        Raises InputError for a name that is no UTF-8: OpenCV would end the process.
        """
        try:
            str(where).encode()
        except UnicodeEncodeError:
            raise InputError(f"the name {str(where)!r} is no UTF-8, and cannot be opened; rename it") from None
        self._capture = cv2.VideoCapture(str(where), cv2.CAP_FFMPEG, parameters)
        self._lock = threading.Lock()  # freeing what another thread reads from would crash the process
        self.is_closed = False
        self.is_open = bool(self._capture.isOpened())
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)

    def read(self) -> U8 | None:
        """Return the next frame as uint8 [H, W, 3] BGR, or None at the end, after a time-out and when closed."""
        with self._lock:
            there, image_bgr = (False, None) if self.is_closed else self._capture.read()
        return np.ascontiguousarray(image_bgr, dtype=np.uint8) if there else None

    def number(self, prop: int) -> float:
        """Return a number of the stream, such as cv2.CAP_PROP_FRAME_COUNT; 0 or less where it does not say."""
        with self._lock:
            return 0.0 if self.is_closed else float(self._capture.get(prop))

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return int(self.number(cv2.CAP_PROP_FRAME_WIDTH)), int(self.number(cv2.CAP_PROP_FRAME_HEIGHT))

    def close(self) -> None:
        """Close the file or stream: at once, or where a read is under way as soon as its reader is dropped."""
        self.is_closed = True
        if self._lock.acquire(blocking=False):
            self._capture.release()
            self._lock.release()

"""Frames from a video file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from aerial_runtime.camera.base import WAIT_S, Source, check_megapixels, frame_now
from aerial_runtime.camera.decoder import Decoder
from aerial_runtime.contract import Frame
from aerial_runtime.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".ts", ".webm", ".mjpeg", ".h264", ".h265")
# Of the others OpenCV guesses from duration and rate, which is wrong where the sound goes on, or the rate varies.
COUNTED_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi")


class VideoFile(Source):
    """Every frame of a video file, in order, as fast as they are taken or in real time; none is dropped.

    Frames of another size in mid-stream come in the size of the first, their pixels moved or scaled: OpenCV's
    FFmpeg reader does so and shows it nowhere. Record one size, or fly such frames as a folder of images.
    """

    def __init__(self, path: Path, *, pace: bool = False) -> None:
        """pace: no frame comes before its time in the film; where we are late, the next ones follow at once.

        Raises InputError where the file is not a video, or one of more than MAX_FRAME_MEGAPIXELS.
        """
        super().__init__(path.name)
        self._path = path
        self._pace = pace
        self._closing = threading.Event()
        self._video = Decoder(path)
        if not self._video.is_open:
            raise InputError(f"{path} holds no video that can be decoded; check the file with ffprobe")
        try:
            check_megapixels(str(path), *self._video.size_px)
        except InputError:
            self.close()
            raise

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames to the end, and count those that the header promises but are not there, where it counts them.

        None is given only with `pace`, while the next frame is longer than WAIT_S away.
        Raises InputError if there is not one frame.
        """
        is_counted = self._path.suffix.lower() in COUNTED_SUFFIXES
        promised = int(self._video.number(cv2.CAP_PROP_FRAME_COUNT)) if is_counted else 0
        index = 0
        start_s = time.monotonic()
        while (image_bgr := self._video.read()) is not None:
            if self._pace:
                due_s = start_s + self._video.number(cv2.CAP_PROP_POS_MSEC) / 1000
                while (left_s := due_s - time.monotonic()) > WAIT_S and not self._closing.wait(WAIT_S):
                    yield None
                self._closing.wait(max(left_s, 0))
            yield frame_now(image_bgr, f"{self.name}:{index}", index)
            index += 1
        if self._closing.is_set():
            return
        if index == 0:
            raise InputError(f"the video {self._path} holds no frames; record it again")
        if index < promised:
            reason = f"{self._path} promises {promised} frames, but gave {index}; it is cut short or damaged"
            self._skip(reason, promised - index)

    def close(self) -> None:
        """Close the file."""
        self._closing.set()
        self._video.close()

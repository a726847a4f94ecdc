"""Frames from a video file or a V4L2 camera."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.camera.base import Source, frame_now
from aerial_runtime.contract import MAX_FRAME_MEGAPIXELS, U8, Frame
from aerial_runtime.errors import CameraError, InputError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".ts", ".webm", ".mjpeg", ".h264", ".h265")


class VideoFile(Source):
    """Every frame of a video file, in order, as fast as they are taken; sensor pixels, a rotation is ignored.

    Frames of another size in mid-stream come in the size of the first, their pixels moved or scaled: OpenCV's
    FFmpeg reader does so and shows it nowhere. Record one size, or fly such frames as a folder of images.
    """

    def __init__(self, path: Path) -> None:
        """Raise InputError where the file is not a video, or one of more than MAX_FRAME_MEGAPIXELS."""
        super().__init__(path.name)
        self._path = path
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(f"{path} holds no video that can be decoded; check the file with ffprobe")
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_FRAME_MEGAPIXELS * 1_000_000:
            self.close()
            raise InputError(f"{path} has {width}x{height} pixels, more than {MAX_FRAME_MEGAPIXELS} megapixels")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames to the end, and count those that the header promises but are not there.

        Raises InputError if there is not one.
        """
        # Negative or 0 where the container does not say; from length and rate where it does not count.
        promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        index = 0
        while (image_bgr := _read(self._capture)) is not None:
            yield frame_now(image_bgr, f"{self.name}:{index}", index)
            index += 1
        if index == 0:
            raise InputError(f"the video {self._path} holds no frames; record it again")
        if index < promised:
            reason = f"{self._path} promises {promised} frames, but gave {index}; it is cut short or damaged"
            self._skip(reason, promised - index)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class V4l2Camera(Source):
    """A camera that the kernel shows as /dev/videoN."""

    live = True

    def __init__(self, device: Path) -> None:
        """Raise CameraError where the device is missing, busy, forbidden or gives no pictures."""
        super().__init__(device.name)
        self._device = device
        _check_device(device)
        self._capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(
                f"the camera {device} is there but gives no pictures: another program holds it (`fuser -v {device}` "
                "names it), or it is no capture device (try the next number)"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a queue in the driver would only make frames old

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames for ever. Raises CameraError when the camera stops giving them, after one None."""
        index = 0
        while (image_bgr := _read(self._capture)) is not None:
            yield frame_now(image_bgr, f"{self.name}:{index}", index)
            index += 1
        yield None  # a signal may have ended the wait for the frame: then the stop counts, not the camera
        raise CameraError(f"the camera {self._device} stopped after {index} frames; check cable and power")

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()


def _read(capture: cv2.VideoCapture) -> U8 | None:
    """Return the next frame as uint8 [H, W, 3] BGR, or None at the end."""
    there, image_bgr = capture.read()
    return np.ascontiguousarray(image_bgr, dtype=np.uint8) if there else None


def _check_device(device: Path) -> None:
    """Raise CameraError saying why a device cannot be opened: OpenCV says only that it cannot."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        raise CameraError(_why_not(device, error)) from error


def _why_not(device: Path, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"the camera {device} is busy; close the program that holds it (`fuser -v {device}` names it)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to open the camera {device}; add this user to the group that owns it (often `video`)"
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        present = " ".join(str(path) for path in sorted(Path("/dev").glob("video*"))) or "none"
        return f"there is no camera {device}; cameras present: {present}"
    return f"the camera {device} cannot be opened ({error.strerror})"

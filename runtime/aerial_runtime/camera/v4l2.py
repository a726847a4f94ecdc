"""Frames from a camera that the kernel shows as /dev/videoN."""

from __future__ import annotations

import errno
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.camera.base import WAIT_S, Source, check_megapixels
from aerial_runtime.camera.image_file import decode_image, image_size
from aerial_runtime.camera.options import CameraOptions
from aerial_runtime.camera.v4l2_device import Format, Picture, V4l2Device
from aerial_runtime.contract import U8, Frame
from aerial_runtime.errors import CameraError, InputError, UsageError

BUFFERS = 4  # two would do; a driver fills one while we decode another, and USB comes in bursts
RATE_TOLERANCE = 0.02  # 29.97 for 30 is what was asked for

# fourcc -> (rows of bytes for each row of pixels, bytes of a row for each pixel, how to BGR)
_RAW: dict[str, tuple[float, float, Callable[[U8, int], U8]]] = {
    "BGR3": (1, 3, lambda rows, width: rows.reshape(len(rows), width, 3)),
    "RGB3": (1, 3, lambda rows, width: _bgr(rows.reshape(len(rows), width, 3), cv2.COLOR_RGB2BGR)),
    "YUYV": (1, 2, lambda rows, width: _bgr(rows.reshape(len(rows), width, 2), cv2.COLOR_YUV2BGR_YUYV)),
    "UYVY": (1, 2, lambda rows, width: _bgr(rows.reshape(len(rows), width, 2), cv2.COLOR_YUV2BGR_UYVY)),
    "NV12": (1.5, 1, lambda rows, width: _bgr(rows, cv2.COLOR_YUV2BGR_NV12)),
    "GREY": (1, 1, lambda rows, width: _bgr(rows, cv2.COLOR_GRAY2BGR)),
}
_JPEG = ("MJPG", "JPEG")
READABLE = (*_RAW, *_JPEG)


class V4l2Camera(Source):
    """The newest picture of a camera. Lost ones are counted by the driver's own numbers."""

    live = True

    def __init__(self, path: Path, options: CameraOptions) -> None:
        """Set the camera as asked and start it.

        Raises CameraError where it is missing, busy, forbidden or no camera, UsageError (with what it offers) where it
        does not give what is asked for.
        """
        super().__init__(path.name)
        self._path = path
        self._lock = threading.Lock()  # held while a picture is taken, so that `close` pulls nothing from under it
        self._is_closed = False
        try:
            self._device = V4l2Device(path)
        except OSError as error:
            raise CameraError(_why_not(path, error)) from error
        try:
            self._format = _set_up(self._device, path, options)
            check_megapixels(f"the camera {path}", self._format.width, self._format.height)
            self._device.start(BUFFERS)
        except OSError as error:
            self.close()
            raise CameraError(_why_not(path, error)) from error
        except (CameraError, UsageError, InputError):
            self.close()
            raise

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames for ever, None when none came for WAIT_S. Raises CameraError when the camera is gone."""
        index, sequence = -1, None
        while not self._is_closed:
            frame = None
            with self._lock:
                picture = self._newest() if not self._is_closed else None
                if picture is not None:
                    step = 1 if sequence is None else _step(sequence, picture.sequence)
                    index, sequence = index + step, picture.sequence
                    self.dropped += step - 1
                    frame = self._frame(picture, index)
                    self._give_back(picture)
            yield frame

    def close(self) -> None:
        """Give the camera back; a reader in another thread ends within WAIT_S."""
        self._is_closed = True
        with self._lock:
            self._device.close()

    def _newest(self) -> Picture | None:
        """Return the newest picture that is ready, after a wait of at most WAIT_S; older ones go back unread."""
        newest: Picture | None = None
        try:
            if not self._device.wait(WAIT_S):
                return None
            while (picture := self._device.take()) is not None:
                if newest is not None:
                    self._give_back(newest)
                newest = picture
        except OSError as error:
            raise self._gone(error) from error
        return newest

    def _give_back(self, picture: Picture) -> None:
        try:
            self._device.give_back(picture)
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: OSError) -> CameraError:
        return CameraError(f"the camera {self._path} is gone ({error.strerror}); check cable and power")

    def _frame(self, picture: Picture, index: int) -> Frame | None:
        """Return a picture as a frame with the driver's time of capture, None (counted) where it is damaged."""
        now_utc_ns, now_ns = time.time_ns(), time.monotonic_ns()
        mono_ns = now_ns if picture.mono_ns is None else min(picture.mono_ns, now_ns)
        try:
            if picture.is_damaged:
                raise InputError("is damaged, says the driver")
            image_bgr, encoded = _decode(picture.data, self._format)
        except InputError as error:
            self._skip(f"frame {index} of {self._path} {error}")
            return None
        return Frame(image_bgr, f"{self.name}:{index}", index, now_utc_ns - (now_ns - mono_ns), mono_ns, encoded)


def _step(before: int, now: int) -> int:
    """Return by how much a driver's number has grown; one that went back has begun anew, and tells of no loss."""
    step = (now - before) % 2**32  # the kernel's have 32 bits
    return step if 0 < step < 2**31 else 1


def _set_up(device: V4l2Device, path: Path, options: CameraOptions) -> Format:
    """Set format, size, rate and exposure; return the format. Raises UsageError listing what is offered, OSError."""
    offered = device.formats()
    wanted = [options.pixel_format] if options.pixel_format else [name for name in READABLE if name in offered]
    if not wanted or wanted[0] not in READABLE or wanted[0] not in offered:
        asked = options.pixel_format or "a format that can be read here"
        raise UsageError(f"the camera {path} does not give {asked} ({', '.join(READABLE)}); {_offer(device, offered)}")
    now = device.format()
    width, height = options.width or now.width, options.height or now.height
    rates: dict[str, float] = {}
    for name in wanted:
        got = device.set_format(Format(name, width, height))
        if (got.fourcc, got.width, got.height) == (name, width, height):
            rate = device.set_rate(options.fps)
            if options.fps is None or (rate is not None and abs(rate / options.fps - 1) < RATE_TOLERANCE):
                rates[name] = rate or 0.0
    if not rates:
        rate_text = f" at {options.fps:g} frames/s" if options.fps else ""
        asked = f"{width}x{height}{rate_text}{' as ' + options.pixel_format if options.pixel_format else ''}"
        raise UsageError(f"the camera {path} does not give {asked}; {_offer(device, offered)}")
    best = max(rates, key=lambda name: rates[name])  # the first of equals: uncompressed before JPEG
    got = device.set_format(Format(best, width, height))
    device.set_rate(options.fps)
    _set_exposure(device, path, options.exposure_ms)
    return got


def _set_exposure(device: V4l2Device, path: Path, exposure_ms: float | None) -> None:
    try:
        got_ms = device.set_exposure(exposure_ms)
    except OSError as error:
        got_ms = None
        if error.errno not in (errno.EINVAL, errno.ENOTTY, errno.ERANGE, errno.EACCES):
            raise
    if exposure_ms is None or (got_ms is not None and abs(got_ms - exposure_ms) <= 0.05 * exposure_ms + 0.1):
        return
    try:
        low_ms, high_ms = device.exposure_range_ms()
    except OSError:
        raise UsageError(f"the camera {path} has no exposure to set; leave out --exposure-ms") from None
    raise UsageError(
        f"the camera {path} does not expose for {exposure_ms:g} ms; it offers {low_ms:g} to {high_ms:g} ms"
    )


def _offer(device: V4l2Device, formats: list[str]) -> str:
    parts = [f"{name} {', '.join(device.sizes(name))}".strip() for name in formats]
    return f"it offers {'; '.join(parts) or 'nothing that it tells'}"


def _decode(data: U8, form: Format) -> tuple[U8, bytes | None]:
    """Return a driver's bytes as uint8 [H, W, 3] BGR, and as a JPEG where they are one, in memory of their own.

    Raises InputError.
    """
    if form.fourcc in _JPEG:
        jpeg = data.tobytes()
        try:
            size = image_size(jpeg)
        except (ValueError, struct.error):
            raise InputError("is no JPEG, or its header is damaged") from None
        if size != (form.width, form.height):
            raise InputError(f"has {size[0]}x{size[1]} pixels")
        return decode_image(jpeg, may_be_padded=True), jpeg
    rows_each, bytes_each, to_bgr = _RAW[form.fourcc]
    used_bytes = int(form.width * bytes_each)
    row_bytes = max(form.row_bytes, used_bytes)
    rows = int(form.height * rows_each)
    if len(data) < row_bytes * (rows - 1) + used_bytes:
        raise InputError(f"has {len(data)} bytes, too few for {form.width}x{form.height} {form.fourcc}")
    strided = np.lib.stride_tricks.as_strided(data, (rows, used_bytes), (row_bytes, 1))
    image_bgr = to_bgr(np.ascontiguousarray(strided), form.width)
    return image_bgr.copy() if np.may_share_memory(image_bgr, data) else image_bgr, None


def _bgr(pixels: U8, conversion: int) -> U8:
    try:
        return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
    except cv2.error as error:
        raise InputError(f"cannot be converted ({error.err})") from error


def _why_not(path: Path, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"the camera {path} is busy; close the program that holds it (`fuser -v {path}` names it)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to open the camera {path}; add this user to the group that owns it (often `video`)"
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        present = " ".join(str(other) for other in sorted(Path("/dev").glob("video*"))) or "none"
        return f"there is no camera {path}; cameras present: {present}"
    if error.errno == errno.ENOTTY:
        return f"{path} is there but gives no pictures: it is no capture device; try the next number"
    return f"the camera {path} cannot be opened ({error.strerror})"

"""Frames from a network stream: RTSP, RTP, UDP, TCP, HTTP, through OpenCV's FFmpeg."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from aerial_runtime.camera.base import Source, check_megapixels, frame_now, without_password
from aerial_runtime.camera.decoder import Decoder
from aerial_runtime.camera.options import CameraOptions
from aerial_runtime.contract import Frame
from aerial_runtime.errors import CameraError, InputError

STREAM_SCHEMES = ("rtsp", "rtsps", "rtp", "udp", "tcp", "http", "https", "srt")
OPEN_S = 5.0  # at least: the sender's next key frame must come within it
OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# Over UDP a lost packet of RTSP spoils pictures until the next key frame; TCP sends it again. Nothing is collected
# before decoding, and a full receive buffer loses packets instead of ending the stream.
FFMPEG_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|overrun_nonfatal;1"


class StreamCamera(Source):
    """What a sender sends. Decoded on one thread: each further one would hold back a frame."""

    live = True

    def __init__(self, address: str, options: CameraOptions) -> None:
        """Connect, for at most OPEN_S or timeout_s. Raises CameraError where nothing answers, InputError (size)."""
        super().__init__(without_password(address))
        open_s = max(OPEN_S, options.timeout_s)
        self._timeout_s = options.timeout_s
        with _ffmpeg_options():
            self._stream = Decoder(
                address,
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(open_s * 1000)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(options.timeout_s * 1000)),
                *(cv2.CAP_PROP_N_THREADS, 1),
            )
        if not self._stream.is_open:
            raise CameraError(
                f"the stream {self.name} cannot be opened (waited {open_s:g} s at most); check the address, that the "
                "sender runs, the network between and the firewall"
            )
        try:
            check_megapixels(self.name, *self._stream.size_px)
        except InputError:
            self.close()
            raise

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames until none came for timeout_s or the sender ended; then raise CameraError."""
        index = 0
        since_s = time.monotonic()
        # A picture that comes after a time-out lay in the decoder all the while.
        while (image_bgr := self._stream.read()) is not None and time.monotonic() - since_s < self._timeout_s:
            yield frame_now(image_bgr, f"{self.name}:{index}", index)
            index += 1
            since_s = time.monotonic()
        if not self._stream.is_closed:
            raise CameraError(
                f"the stream {self.name} stopped after {index} frames: the sender ended it, or nothing came for "
                f"{self._timeout_s:g} s"
            )

    def close(self) -> None:
        """Hang up. A read in another thread ends within timeout_s: FFmpeg hears nobody before."""
        self._stream.close()


@contextmanager
def _ffmpeg_options() -> Iterator[None]:
    """Set what OpenCV hands to FFmpeg, which it takes from the environment alone; a user's own setting stays."""
    if OPTIONS_VARIABLE in os.environ:
        yield
        return
    os.environ[OPTIONS_VARIABLE] = FFMPEG_OPTIONS
    try:
        yield
    finally:
        os.environ.pop(OPTIONS_VARIABLE, None)

"""Frames of a recording, as the camera gave them: `--camera replay:FILE.mcap`."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from aerial_runtime.camera.base import WAIT_S, Source, check_megapixels
from aerial_runtime.camera.image_file import decode_image, image_size
from aerial_runtime.contract import DECODE_ERRORS, U8, Frame
from aerial_runtime.errors import InputError
from aerial_runtime.log import warn
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import CAMERA, Picture

REPLAY: Final = "replay:"  # how the address begins


class Replay(Source):
    """Every picture of a recording, in the order of the flight; none is dropped.

    Frames have the name, index and UTC of the flight; their monotonic times have its intervals, from now on. What the
    recording lacks, because it was lost or not to be stored, is missing in the index too.
    """

    def __init__(self, path: Path, *, pace: bool = False) -> None:
        """pace: no frame comes before its time. Raises InputError where the file is no recording with pictures."""
        super().__init__(path.name)
        self._recording = Recording(path)
        self._pace = pace
        self._closing = threading.Event()
        if next(self._recording.messages(CAMERA), None) is None:
            raise InputError(f"the recording {path} holds no pictures; record without --record-frames none")
        self.name = self._recording.about.get("source") or path.name

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames to the end, None for each that cannot be decoded and, with `pace`, while one is far away."""
        start_ns = time.monotonic_ns()
        first_ns: int | None = None
        decoder = msgspec.json.Decoder(Picture)
        for number, (_, payload) in enumerate(self._recording.messages(CAMERA)):
            if self._closing.is_set():
                return
            try:
                picture = decoder.decode(payload)
                image_bgr = _decoded(picture)
            except (*DECODE_ERRORS, InputError) as error:
                self._skip(f"picture {number} of {self._recording.path} {error}")
                yield None
                continue
            about = picture.frame
            first_ns = about.captured_mono_ns if first_ns is None else first_ns
            mono_ns = start_ns + about.captured_mono_ns - first_ns
            if self._pace:
                yield from self._wait_until(mono_ns)
            yield Frame(image_bgr, about.name, about.index, about.captured_utc_ns, mono_ns, picture.data)
        if self._recording.damaged:
            warn("replay", f"the recording {self._recording.path} was cut short or is damaged; frames may be missing")

    def _wait_until(self, mono_ns: int) -> Iterator[None]:
        """Wait, and yield None every WAIT_S."""
        while (left_s := (mono_ns - time.monotonic_ns()) / 1e9) > WAIT_S and not self._closing.wait(WAIT_S):
            yield None
        self._closing.wait(max(left_s, 0))

    def close(self) -> None:
        """End the replay; a wait for the next frame ends."""
        self._closing.set()


def _decoded(picture: Picture) -> U8:
    """Return the pixels as the flight saw them. Raises InputError."""
    try:
        width, height = image_size(picture.data)
    except (struct.error, ValueError) as error:
        raise InputError("is no JPEG or PNG, or its header is damaged") from error
    check_megapixels(picture.frame.name, width, height)
    return decode_image(picture.data, may_be_padded=True)

"""What every source of frames offers."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from aerial_runtime.contract import MAX_FRAME_MEGAPIXELS, U8, Frame
from aerial_runtime.errors import InputError
from aerial_runtime.log import warn

WAIT_S = 0.5  # a bounded wait for a camera's next frame
SourceT = TypeVar("SourceT", bound="Source")


class Source(ABC):
    """Frames, one after another. Constructing it opens it; iterate it once; `close` or `with` ends it.

    live: whether frames that are not taken in time are lost (cameras) or wait for us (files).
    name: stands in messages. unreadable: frames that were there but could not be decoded.
    dropped: frames lost because we were late, as far as the source knows.
    truth_path: labels.json of the same frames, where there is one.
    """

    live: bool = False

    def __init__(self, name: str) -> None:
        """Start with nothing lost."""
        self.name = name
        self.unreadable = 0
        self.dropped = 0
        self.truth_path: Path | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame | None]:
        """Yield the frames, and None for every attempt that gave none: whoever flies can look up and stop.

        A camera's attempt takes at most WAIT_S where the source can look up itself, else the time-out asked for.

        Raises CameraError (devices) or InputError (files) where there are none to be had.
        """

    def close(self) -> None:  # noqa: B027 (not abstract: image files hold nothing open)
        """Free the device or file; a read in another thread then ends. Calling it twice does no harm."""

    def _skip(self, reason: str, frames: int = 1) -> None:
        """Count frames that cannot be read and say so: the flight goes on, but never silently."""
        self.unreadable += frames
        what = "unreadable frame" if frames == 1 else f"{frames} unreadable frames"
        # Of files each is told; a camera that is damaged would fill the log.
        warn("unreadable" if self.live else f"unreadable {reason}", f"{what}: {reason}")

    def __enter__(self: SourceT) -> SourceT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_megapixels(what: str, width: int, height: int) -> None:
    """Raise InputError where a picture is larger than any camera's."""
    if width * height > MAX_FRAME_MEGAPIXELS * 1_000_000:
        raise InputError(f"{what} has {width}x{height} pixels, more than {MAX_FRAME_MEGAPIXELS} megapixels")


def without_password(text: str) -> str:
    """Return a text whose addresses have lost user and password, in a query too: it goes into messages and logs."""
    text = re.sub(r"://[^/\s]+@", "://***@", text)
    # What its owner typed with a slash in it opens nothing, and stands in the sentence that says so.
    text = re.sub(r"://[^/\s:@]+:(?!\d*[/?])\S*@", "://***@", text)
    return re.sub(r"(?i)\b((?:user-)?(?:password|passwd|pass|pwd|pw|token)=)[^&\s]+", r"\1***", text)


def frame_now(image_bgr: U8, name: str, index: int, encoded: bytes | None = None) -> Frame:
    """Return a frame stamped with the present moment."""
    return Frame(image_bgr, name, index, time.time_ns(), time.monotonic_ns(), encoded)

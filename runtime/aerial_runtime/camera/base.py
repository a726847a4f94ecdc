"""What every source of frames offers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from aerial_runtime.contract import U8, Frame
from aerial_runtime.say import say

SourceT = TypeVar("SourceT", bound="Source")


class Source(ABC):
    """Frames, one after another. Constructing it opens it; iterate it once; `close` or `with` ends it.

    name: stands in messages. unreadable: frames that were there but could not be decoded.
    dropped: frames lost because we were late.
    truth_path: labels.json of the same frames, where there is one.
    """

    live = False  # True: frames that nobody takes in time are lost

    def __init__(self, name: str) -> None:
        """Start with nothing lost."""
        self.name = name
        self.unreadable = 0
        self.dropped = 0
        self.truth_path: Path | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame | None]:
        """Yield the frames, and None for every attempt that gave none: whoever flies can look up and stop.

        Raises CameraError (devices) or InputError (files) where there are none to be had.
        """

    def close(self) -> None:  # noqa: B027 (not abstract: image files hold nothing open)
        """Free the device or file. Calling it twice does no harm."""

    def _skip(self, reason: str, frames: int = 1) -> None:
        """Count frames that cannot be read and say so: the flight goes on, but never silently."""
        self.unreadable += frames
        what = "unreadable frame" if frames == 1 else f"{frames} unreadable frames"
        say(f"aerial-runtime: {what}: {reason}", error=True)

    def __enter__(self: SourceT) -> SourceT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_now(image_bgr: U8, name: str, index: int) -> Frame:
    """Return a frame stamped with the present moment."""
    return Frame(image_bgr, name, index, captured_utc_ns=time.time_ns(), captured_mono_ns=time.monotonic_ns())

"""What a user may ask of a source, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass, fields

from aerial_runtime.contract import MAX_FRAME_MEGAPIXELS
from aerial_runtime.errors import UsageError

LARGEST = 1_000_000  # of any number: beyond lie typing errors and overflows
FLAGS = {
    "width": "--width",
    "height": "--height",
    "fps": "--fps",
    "pixel_format": "--pixel-format",
    "exposure_ms": "--exposure-ms",
    "pace": "--pace",
    "timeout_s": "--camera-timeout-s",
}


@dataclass(frozen=True)
class CameraOptions:
    """Wishes for a source; None = as the source stands. Raises UsageError for values that no source can have.

    width, height: pixels, both or neither. fps: frames a second. pixel_format: four letters of V4L2, such as MJPG.
    exposure_ms: None = automatic. pace: video files in real time. timeout_s: how long a camera may give nothing.
    """

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    pixel_format: str | None = None
    exposure_ms: float | None = None
    pace: bool = False
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        """Check each value by itself, and the size as a whole."""
        for name in ("width", "height", "fps", "exposure_ms", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= LARGEST:
                raise UsageError(f"{FLAGS[name]} must be above 0 and at most {LARGEST}, not {value}")
        if (self.width is None) != (self.height is None):
            raise UsageError("--width and --height belong together; give both or neither")
        if self.width and self.height and self.width * self.height > MAX_FRAME_MEGAPIXELS * 1_000_000:
            raise UsageError(f"{self.width}x{self.height} is more than {MAX_FRAME_MEGAPIXELS} megapixels")
        letters = self.pixel_format
        if letters is not None and not (len(letters) == 4 and letters.isascii() and letters.isprintable()):
            raise UsageError(f"--pixel-format {letters!r} is none of V4L2; give four letters, such as MJPG or YUYV")


def refuse_options(kind: str, options: CameraOptions, *known: str) -> None:
    """Raise UsageError naming the first option that was asked for and that this kind of source does not have.

    timeout_s is never refused: where nothing is waited for, it changes nothing.
    """
    for field in fields(options):
        if field.name not in (*known, "timeout_s") and getattr(options, field.name) != field.default:
            raise UsageError(f"{kind} has no {FLAGS[field.name]}; leave it out")

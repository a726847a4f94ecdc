"""Judge a live camera by what it gives: nothing, the same picture again and again, black, or another size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from aerial_runtime.contract import U8

LOST: Final = "camera-lost"
FROZEN: Final = "camera-frozen"
BLACK: Final = "camera-black"
WRONG_SIZE: Final = "camera-size"

SAMPLE_STEP_PX = 16  # a grid of 8160 pixels at 1080p: a twentieth of a millisecond, and enough noise to tell two frames
BLACK_LEVEL = 16  # of 255: a covered lens gives noise below it
BLACK_SHARE = 0.99  # of the sample; the rest may be hot pixels and a camera's own text


@dataclass(frozen=True)
class WatchOptions:
    """When a live camera counts as ill, in seconds.

    timeout_s: without a frame. frozen_s: with the same picture. black_s: with black ones. 0 for either of the
    latter two: not judged, for a source without noise such as a test pattern, and for flights at night.
    wait_for_camera: one that is not there at the start is waited for, too.
    """

    timeout_s: float = 2.0
    frozen_s: float = 5.0
    black_s: float = 3.0
    wait_for_camera: bool = False


class Watch:
    """The judge of one camera, across its reopenings. It has no clock: it is told the time, in monotonic seconds.

    problems: reason code -> sentence, of what is wrong at present.
    """

    def __init__(self, options: WatchOptions) -> None:
        """Start with a camera that nothing is known against."""
        self.problems: dict[str, str] = {}
        self._options = options
        self._size: tuple[int, int] | None = None
        self._sample: U8 | None = None
        self._same_since_s = 0.0
        self._black_since_s: float | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether the frames that come are such that opening the camera anew may help. Black ones are not."""
        return FROZEN in self.problems or WRONG_SIZE in self.problems

    def lost(self, why: str) -> None:
        """Hear that no frames come."""
        self.problems[LOST] = why

    def frame(self, image_bgr: U8, now_s: float) -> None:
        """Look at a frame, uint8 [H, W, 3], that came at now_s."""
        self.problems.pop(LOST, None)
        sample = image_bgr[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX].copy()  # a view would keep the whole frame
        self._set(WRONG_SIZE, self._judge_size(image_bgr))
        self._set(BLACK, self._judge_black(sample, now_s))
        self._set(FROZEN, self._judge_frozen(sample, now_s))

    def _set(self, code: str, text: str | None) -> None:
        if text is None:
            self.problems.pop(code, None)
        else:
            self.problems[code] = text

    def _judge_size(self, image_bgr: U8) -> str | None:
        height, width = image_bgr.shape[:2]
        if self._size is None:
            self._size = (width, height)
        if self._size == (width, height):
            return None
        first = f"{self._size[0]}x{self._size[1]}"
        return f"the camera gives {width}x{height} pixels instead of {first} as at first; it is opened anew"

    def _judge_black(self, sample: U8, now_s: float) -> str | None:
        if np.count_nonzero(sample <= BLACK_LEVEL) < BLACK_SHARE * sample.size:
            self._black_since_s = None
            return None
        if self._black_since_s is None:
            self._black_since_s = now_s
        if not self._options.black_s or now_s - self._black_since_s < self._options.black_s:
            return None
        return f"the picture is black for {self._options.black_s:g} s or longer; check lens, cover and exposure"

    def _judge_frozen(self, sample: U8, now_s: float) -> str | None:
        """Compare with the frame before: a camera's noise makes any two differ, but where black clips it away."""
        if self._sample is None or self._black_since_s is not None or not np.array_equal(sample, self._sample):
            self._sample, self._same_since_s = sample, now_s
            return None
        if not self._options.frozen_s or now_s - self._same_since_s < self._options.frozen_s:
            return None
        return f"the picture is the same for {self._options.frozen_s:g} s or longer; the camera is opened anew"

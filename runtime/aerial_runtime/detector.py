"""The pipeline as a flight uses it: a frame on which the models fail is counted, and does not end the flight."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from aerial_runtime.contract import Frame
from aerial_runtime.errors import ModelError, ResourceError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.pipeline import Pipeline, PipelineResult

BACKEND_ERROR: Final = "backend-error"
FAILURES_IN_A_ROW: Final = 10  # then only a new process may help: a GPU's context does not recover from an error
SHOWN_S: Final = 10.0  # that the reason stands after the last failure: health comes once a second


class Detector:
    """Call it with each frame. failed: frames on which the models failed."""

    def __init__(self, pipeline: Pipeline, monitor: HealthMonitor, inferring: Callable[[], None]) -> None:
        """inferring: called before each inference; raises the ModelErrors of fault injection."""
        self.failed = 0
        self._pipeline, self._monitor, self._inferring = pipeline, monitor, inferring
        self._in_a_row = 0
        self._shape: tuple[int, ...] | None = None  # of the frame that came through last
        self._failed_s: float | None = None

    def __call__(self, frame: Frame) -> PipelineResult | None:
        """Return what the frame holds, None where the models failed.

        Raises ModelError or ResourceError where they always did, or FAILURES_IN_A_ROW times by now.
        """
        try:
            self._inferring()
            result = self._pipeline(frame)
        except (ModelError, ResourceError) as error:
            self._count(frame, error)
            return None
        self._shape, self._in_a_row = frame.image_bgr.shape, 0
        if self._failed_s is not None and time.monotonic() - self._failed_s > SHOWN_S:
            self._failed_s = None
            self._monitor.reason(BACKEND_ERROR, None)
        return result

    def _count(self, frame: Frame, error: ModelError | ResourceError) -> None:
        self.failed += 1
        if self._shape in (None, frame.image_bgr.shape):  # of another size it is the camera that is wrong
            self._in_a_row += 1
        self._failed_s = time.monotonic()
        self._monitor.count(failed=self.failed)
        self._monitor.reason(BACKEND_ERROR, str(error))
        if self._shape is None or self._in_a_row >= FAILURES_IN_A_ROW:
            raise error

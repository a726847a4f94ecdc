"""Failures of the models in flight: counted, told, and the end only where they do not cease."""

from __future__ import annotations

import numpy as np
import pytest

from aerial_runtime import detector
from aerial_runtime.camera.base import frame_now
from aerial_runtime.detector import FAILURES_IN_A_ROW, Detector
from aerial_runtime.errors import ModelError
from aerial_runtime.health import HealthMonitor

FRAME = frame_now(np.zeros((8, 8, 3), np.uint8), "f", 0)


class Models:
    """Fail in the calls whose numbers are given."""

    def __init__(self, *failing):
        self.failing, self.calls = failing, 0

    def __call__(self, frame):
        self.calls += 1
        if self.calls - 1 in self.failing:
            raise ModelError("computed NaN")
        return "result"


def make(*failing):
    monitor = HealthMonitor("cam")
    monitor.state_is("running")
    return Detector(Models(*failing), monitor, lambda: None), monitor


def test_a_failure_costs_its_frame_alone_and_is_told():
    detect, monitor = make(1)
    assert [detect(FRAME) for _ in range(3)] == ["result", None, "result"]
    health = monitor.look()
    assert (detect.failed, health.failed, health.state) == (1, 1, "degraded")
    assert [(reason.code, reason.text) for reason in health.reasons] == [("backend-error", "computed NaN")]


def test_the_reason_goes_when_all_has_been_well_for_a_while(monkeypatch):
    detect, monitor = make(1)
    now_s = [100.0]
    monkeypatch.setattr(detector.time, "monotonic", lambda: now_s[0])
    states = []
    for _ in range(4):
        detect(FRAME)
        states.append(monitor.look().state)
        now_s[0] += 6
    assert states == ["running", "degraded", "degraded", "running"]


def test_models_that_never_worked_end_the_flight():
    detect, _ = make(0)
    with pytest.raises(ModelError):
        detect(FRAME)


def test_models_that_fail_again_and_again_end_the_flight_and_a_success_forgives():
    failing = [*range(1, FAILURES_IN_A_ROW), *range(FAILURES_IN_A_ROW + 1, 2 * FAILURES_IN_A_ROW + 1)]
    detect, _ = make(*failing)
    for _ in range(2 * FAILURES_IN_A_ROW):
        detect(FRAME)
    with pytest.raises(ModelError):
        detect(FRAME)


def test_frames_of_another_size_than_the_camera_had_never_end_the_flight():
    detect, monitor = make(*range(1, 100))
    small = frame_now(np.zeros((4, 4, 3), np.uint8), "f", 1)
    assert detect(FRAME) == "result"
    assert [detect(small) for _ in range(3 * FAILURES_IN_A_ROW)] == [None] * 3 * FAILURES_IN_A_ROW
    assert monitor.look().failed == 3 * FAILURES_IN_A_ROW

"""For the tests of capture: the cameras and the monitor of fake_camera.py, and seconds made short."""

from __future__ import annotations

import pytest
from fake_camera import Cameras, Told

from aerial_runtime import capture as capture_module
from aerial_runtime import reader as reader_module


@pytest.fixture
def cameras():
    cameras = Cameras()
    yield cameras
    cameras.released.set()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def quick_capture(monkeypatch):
    """Shorten what would be seconds."""
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 0.1)
    monkeypatch.setattr(capture_module, "START_S", 0.3)
    monkeypatch.setattr(reader_module, "ENDS_S", 0.05)
    monkeypatch.setattr(reader_module, "CLOSED_S", 0.02)

"""The end of capture: it waits for nothing that hangs, and leaves nothing behind."""

from __future__ import annotations

import threading
import time

import pytest
from fake_camera import PATIENT, QUICK, FakeCamera, noisy, take, threads_since

from aerial_runtime import capture as capture_module
from aerial_runtime import reader as reader_module
from aerial_runtime.capture import Capture
from aerial_runtime.errors import CameraError

ENDS_S, CLOSED_S = reader_module.ENDS_S, reader_module.CLOSED_S
pytestmark = pytest.mark.usefixtures("quick_capture")


@pytest.fixture
def not_so_quick(quick_capture, monkeypatch):
    """For tests of how long an end takes."""
    monkeypatch.setattr(reader_module, "ENDS_S", ENDS_S)
    monkeypatch.setattr(reader_module, "CLOSED_S", CLOSED_S)


def close_s(capture):
    start = time.monotonic()
    capture.close()
    return time.monotonic() - start


def test_close_waits_for_no_camera_that_hangs(cameras, told, not_so_quick):
    capture = Capture(cameras.open, PATIENT, told)
    cameras.give(noisy(0), cameras.hang)
    take(capture)
    assert close_s(capture) < 1
    assert cameras.opened[0].is_closed.is_set()
    capture.close()


def test_close_waits_for_no_close_that_hangs(cameras, told, not_so_quick, monkeypatch):
    monkeypatch.setattr(FakeCamera, "close", lambda self: cameras.hang())
    assert close_s(Capture(cameras.open, PATIENT, told)) < 1


def test_a_close_that_fails_under_a_camera_that_hangs_is_said(cameras, told, monkeypatch, capsys):
    def close(self):
        raise OSError("no such device")

    monkeypatch.setattr(FakeCamera, "close", close)
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.give(noisy(0), cameras.hang)
        take(capture)
        told.until_only("camera-lost")
    assert "a camera that hangs cannot be closed: no such device" in capsys.readouterr().err


def test_close_while_a_lost_camera_is_waited_for(cameras, told, monkeypatch):
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 3600.0)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 3600.0)
    before = set(threading.enumerate())
    capture = Capture(cameras.open, QUICK, told)
    cameras.give(CameraError("unplugged"))
    told.until_only("camera-lost")
    capture.close()
    assert threads_since(before) == set()


def test_nothing_is_left_after_a_flight(cameras, told):
    before = set(threading.enumerate())
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.give(noisy(0))
        take(capture)
    assert threads_since(before) == set()
    assert (
        cameras.opened[0].closed_by == "camera"
    )  # the thread that read it: one that does not hang is not closed under it

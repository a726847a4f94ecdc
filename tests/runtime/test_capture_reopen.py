"""Capture of a camera that is lost, falls silent or hangs: it is opened anew for ever, and nothing waits for it."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref

import numpy as np
import pytest
from fake_camera import LONG_S, PATIENT, QUICK, Cameras, noisy, take, threads_since, until

from aerial_runtime import capture as capture_module
from aerial_runtime.capture import Capture
from aerial_runtime.errors import CameraError, InputError, UsageError

pytestmark = pytest.mark.usefixtures("quick_capture")


@pytest.mark.parametrize("ending", [CameraError("unplugged"), "end"])
def test_a_lost_camera_is_opened_anew_and_the_index_goes_on(cameras, told, ending):
    with Capture(cameras.open, PATIENT, told) as capture:
        cameras.give(noisy(0), noisy(1), "unreadable", ending)
        cameras.opens = [CameraError("gone")] * 3
        told.until_only("camera-lost")
        assert told.reasons["camera-lost"] in ("unplugged", "the camera's stream has ended", "gone")
        assert take(capture).index == 1
        told.until(lambda: told.reasons == {"camera-lost": "gone"})
        cameras.give(noisy(2))
        frame = take(capture)
        assert (frame.index, frame.name) == (3, "fake:3")
        assert told.reasons == {}
        assert (capture.dropped, capture.unreadable) == (1, 1)
        assert cameras.tries == 5
        assert cameras.opened[0].is_closed.is_set()


def test_what_a_lost_camera_gave_last_is_not_kept(cameras, told):
    """It may be a view into the driver's memory, and would keep the device open and taken."""
    gc.disable()
    try:
        with Capture(cameras.open, QUICK, told):
            pictures = [noisy(0)]
            last = weakref.ref(pictures[0])

            def ends():
                held = pictures.pop()  # noqa: F841 (as a source's own picture is held by its frame)
                raise CameraError("unplugged")

            cameras.give(ends)
            told.until_only("camera-lost")
            until(lambda: last() is None)
    finally:
        gc.enable()


def test_a_camera_that_could_be_opened_once_is_tried_again_whatever_its_error(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.opens = [UsageError("it offers nothing"), InputError("too large")]
        cameras.give(CameraError("unplugged"))
        until(lambda: len(cameras.opened) == 2)
        cameras.give(noisy(0))
        take(capture)
        cameras.give(InputError("too large"))
        with pytest.raises(InputError):
            capture.take(LONG_S)


def test_a_bug_when_a_camera_is_opened_anew_is_raised_by_take(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.opens = [ZeroDivisionError("a bug")]
        cameras.give(CameraError("unplugged"))
        with pytest.raises(ZeroDivisionError):
            capture.take(LONG_S)


def test_the_wait_before_opening_doubles_to_a_limit_and_starts_again_when_all_is_well(cameras, told, monkeypatch):
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 0.025)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 0.2)
    moments = []

    def fails():
        moments.append(time.monotonic())
        raise CameraError("gone")

    with Capture(cameras.open, PATIENT, told) as capture:
        for number in range(2):
            start = time.monotonic()
            moments.clear()
            cameras.opens = [fails] * 5
            cameras.give(CameraError("unplugged"))
            until(lambda: len(moments) == 5)
            waits = np.diff([start, *moments])
            assert (waits >= np.array([0.025, 0.05, 0.1, 0.2, 0.2]) - 0.001).all()
            assert capture._delay_s == 0.2  # it grows no further
            cameras.give(noisy(number))
            take(capture)
            assert capture._delay_s == 0.025  # and starts again


def test_silence_is_a_loss(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.give(noisy(0))
        take(capture)
        told.until_only("camera-lost")
        assert "no frame for 0.3 s" in told.reasons["camera-lost"]
        until(lambda: len(cameras.opened) == 2)
        cameras.give(noisy(1))
        take(capture)
        assert told.reasons == {}


def test_a_first_frame_may_take_longer_but_the_loss_is_told(cameras, told, monkeypatch):
    monkeypatch.setattr(capture_module, "START_S", 3600.0)
    with Capture(cameras.open, QUICK, told) as capture:
        told.until_only("camera-lost")
        cameras.give(noisy(0))
        take(capture)
        assert told.reasons == {}
        assert cameras.tries == 1


def test_a_read_that_hangs_is_left_behind_and_a_fresh_camera_opened(cameras, told):
    before = set(threading.enumerate())
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.give(noisy(0))
        take(capture)
        cameras.give(cameras.hang)
        told.until_only("camera-lost")
        until(lambda: len(cameras.opened) == 2)
        assert cameras.opened[0].is_closed.is_set()  # by another thread than the one that hangs
        cameras.give(noisy(1))
        assert take(capture).index == 1
        assert told.reasons == {}
    assert len(threads_since(before)) == 1
    cameras.released.set()
    until(lambda: threads_since(before) == set())
    assert [camera.closes for camera in cameras.opened] == [1, 1]


def test_what_a_camera_gives_that_was_left_behind_is_not_taken(cameras, told):
    held, free = threading.Event(), threading.Event()

    def hold():
        held.set()
        free.wait()

    with Capture(cameras.open, QUICK, told) as capture:
        cameras.give(noisy(0), hold)
        take(capture)
        assert held.wait(LONG_S)
        until(lambda: len(cameras.opened) == 2)
        cameras.items = queue.Queue()  # the fresh camera keeps `cameras`, the old one has its generator
        old = cameras.opened[0]
        old.is_closed.clear()  # a driver that ignores being closed
        old.cameras = Cameras()
        old.cameras.give(noisy(7))
        free.set()
        until(lambda: old.cameras.items.empty())
        cameras.give(noisy(1))
        assert np.array_equal(take(capture).image_bgr, noisy(1))


def test_an_opening_that_hangs_is_left_behind_and_closed_when_it_returns(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.opens = [cameras.hang]
        cameras.give(CameraError("unplugged"))
        until(lambda: cameras.tries == 3)
        cameras.give(noisy(0))
        take(capture)
        assert told.reasons == {}
        cameras.released.set()
        until(lambda: len(cameras.opened) == 3)
        until(lambda: cameras.opened[2].is_closed.is_set())
        assert not cameras.opened[1].is_closed.is_set()


def test_hanging_threads_are_bounded(cameras, told, monkeypatch):
    monkeypatch.setattr(capture_module, "MAX_STUCK", 3)
    monkeypatch.setattr(capture_module, "START_S", 0.05)
    before = set(threading.enumerate())
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.opens = [cameras.hang] * 10
        cameras.give(CameraError("unplugged"))
        told.until(lambda: "3 calls hang" in told.reasons.get("camera-lost", ""))
        assert cameras.tries == 4
        assert len(threads_since(before)) == 1 + 3
        time.sleep(0.2)  # would be time for more tries
        assert cameras.tries == 4
        cameras.opens = []
        cameras.released.set()
        cameras.give(noisy(0))
        take(capture)
        assert told.reasons == {}

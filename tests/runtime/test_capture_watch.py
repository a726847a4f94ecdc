"""Capture of a camera that is frozen, black or of another size: it is told, and its frames are flown."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from fake_camera import QUICK, noisy, take, until

from aerial_runtime.capture import Capture
from aerial_runtime.watch import WatchOptions

SUSPECT_ONLY = WatchOptions(timeout_s=3600, frozen_s=0.2)
pytestmark = pytest.mark.usefixtures("quick_capture")


def keep_giving(cameras, picture_of):
    """Give pictures at 50 a second until the event that is returned is set."""
    stop = threading.Event()

    def give():
        number = 0
        while not stop.wait(0.02):
            cameras.give(picture_of(number))
            number += 1

    thread = threading.Thread(target=give)
    thread.start()

    def end():
        stop.set()
        thread.join()

    return end


def test_a_frozen_camera_is_told_and_opened_anew_and_its_frames_are_flown(cameras, told):
    with Capture(cameras.open, SUSPECT_ONLY, told) as capture:
        end = keep_giving(cameras, lambda number: noisy(0))
        try:
            told.until_only("camera-frozen")
            take(capture)
            index = take(capture).index
            until(lambda: len(cameras.opened) >= 3)  # it did not help
            assert set(told.reasons) == {"camera-frozen"}
            assert take(capture).index > index
        finally:
            end()
        end = keep_giving(cameras, noisy)
        try:
            told.until_only()
            opened = len(cameras.opened)
            until(lambda: take(capture) and told.history[-1] == ("camera-frozen", False))
            assert len(cameras.opened) <= opened + 1
        finally:
            end()


def test_a_black_camera_is_told_and_not_opened_anew(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        end = keep_giving(cameras, lambda number: np.zeros((48, 64, 3), np.uint8))
        try:
            told.until_only("camera-black")
            time.sleep(QUICK.frozen_s + 0.2)
            take(capture)
            assert set(told.reasons) == {"camera-black"}
            assert len(cameras.opened) == 1
        finally:
            end()
        cameras.give(noisy(0))
        told.until_only()


def test_a_camera_of_another_size_is_told_and_opened_anew_and_its_frames_are_flown(cameras, told):
    with Capture(cameras.open, SUSPECT_ONLY, told) as capture:
        cameras.give(noisy(0))
        take(capture)
        end = keep_giving(cameras, lambda number: noisy(number, 32, 24))
        try:
            told.until_only("camera-size")
            assert take(capture).image_bgr.shape == (24, 32, 3)
            until(lambda: len(cameras.opened) >= 3)
        finally:
            end()
        cameras.give(noisy(1))
        told.until_only()

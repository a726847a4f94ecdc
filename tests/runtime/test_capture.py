"""Capture: real threads, the newest frame of a camera, every frame of files, errors that end a flight."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from fake_camera import LONG_S, PATIENT, QUICK, noisy, take, threads_since, until

from aerial_runtime.camera import open_source
from aerial_runtime.camera.base import Source, frame_now
from aerial_runtime.capture import Capture
from aerial_runtime.errors import CameraError, InputError, UsageError
from aerial_runtime.watch import WatchOptions

pytestmark = pytest.mark.usefixtures("quick_capture")


def test_the_newest_frame_of_a_camera_wins_and_the_gap_is_what_was_dropped(cameras, told):
    with Capture(cameras.open, PATIENT, told) as capture:
        cameras.give(noisy(0))
        assert take(capture).index == 0
        all_read = threading.Event()
        cameras.give(noisy(1), noisy(2), noisy(3), all_read.set)
        assert all_read.wait(LONG_S)
        frame = take(capture)
        assert (frame.index, frame.name, capture.dropped) == (3, "fake:3", 2)
        assert np.array_equal(frame.image_bgr, noisy(3))
        assert told.counts["dropped"] == 2
        assert (capture.name, capture.live, capture.truth_path, capture.ended) == ("fake", True, None, False)


def test_dropped_belongs_to_the_frame_that_was_taken(cameras, told):
    with Capture(cameras.open, PATIENT, told) as capture:
        all_read = threading.Event()
        cameras.give(noisy(0), noisy(1), all_read.set)
        assert all_read.wait(LONG_S)
        assert capture.dropped == 0  # nothing has been taken yet
        take(capture)
        all_read.clear()
        cameras.give(noisy(2), noisy(3), all_read.set)
        assert all_read.wait(LONG_S)
        assert capture.dropped == 1


def test_frames_that_the_source_knows_it_lost_are_dropped_but_unreadable_ones_are_not(cameras, told):
    with Capture(cameras.open, PATIENT, told) as capture:
        cameras.give("gap", "gap", "unreadable", noisy(0))
        assert take(capture).index == 3
        assert (capture.dropped, capture.unreadable) == (2, 1)
        told.until(lambda: told.counts == {"dropped": 2, "unreadable": 1})


def test_nothing_in_time_is_none(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        start = time.monotonic()
        assert capture.take(0.05) is None
        assert 0.04 < time.monotonic() - start < 2


class Files(Source):
    """Numbered pictures, and how far they have been read."""

    def __init__(self, count, error=None):
        super().__init__("files")
        self.count, self.error, self.given, self.is_closed = count, error, 0, False
        self.unreadable_at_the_end = 0

    def __iter__(self):
        for index in range(self.count):
            self.given += 1
            yield frame_now(noisy(index), f"f{index}.png", index)
        if self.error:
            raise self.error
        self.unreadable += self.unreadable_at_the_end

    def close(self):
        self.is_closed = True


def test_files_come_whole_and_in_order_and_end(told):
    source = Files(50)
    source.unreadable_at_the_end = 3
    with Capture(lambda: source, QUICK, told) as capture:
        indices = []
        while not capture.ended:
            frame = capture.take(LONG_S)
            if frame is not None:
                indices.append(frame.index)
        assert indices == list(range(50))
        assert (capture.dropped, capture.unreadable, capture.live) == (0, 3, False)
        assert capture.take(LONG_S) is None
    assert source.is_closed
    assert told.reasons == {}
    assert told.counts == {"dropped": 0, "unreadable": 3}


def test_files_are_read_no_further_ahead_than_the_queue(told):
    before = set(threading.enumerate())
    source = Files(50)
    with Capture(lambda: source, QUICK, told) as capture:
        for taken in range(3):
            until(lambda: source.given == taken + 3)  # noqa: B023 (called before taken changes)
            assert capture.take(0.1).index == taken
        time.sleep(0.05)  # would be time for many more
        assert source.given == 6
    assert source.is_closed  # though it waited for room
    assert threads_since(before) == set()


def test_files_are_not_watched(told):
    def same_again():
        for index in range(5):
            until(lambda: capture_has_started.is_set())
            time.sleep(0.1)
            yield frame_now(noisy(0), f"{index}", index)

    class Slow(Source):
        def __iter__(self):
            return same_again()

    capture_has_started = threading.Event()
    options = WatchOptions(timeout_s=0.02, frozen_s=0.05, black_s=0.05)
    with Capture(lambda: Slow("slow"), options, told) as capture:
        capture_has_started.set()
        assert [take(capture).index for _ in range(5)] == [0, 1, 2, 3, 4]
    assert told.history == []


def test_real_files(tmp_path, told, kit):
    cv2 = pytest.importorskip("cv2")
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), noisy(index))
    (tmp_path / "2.png").write_text("no picture")
    names = []
    with Capture(lambda: open_source(str(tmp_path)), QUICK, told) as capture:
        while not capture.ended:
            frame = capture.take(LONG_S)
            if frame is not None:
                names.append((frame.name, frame.index))
    assert names == [("0.png", 0), ("1.png", 1), ("3.png", 3)]
    assert (capture.unreadable, capture.dropped) == (1, 0)


@pytest.mark.parametrize("error", [InputError("no video"), ZeroDivisionError("a bug")])
def test_what_is_wrong_for_good_is_raised_by_take_after_the_frames_before_it(told, error):
    with Capture(lambda: Files(2, error), QUICK, told) as capture:
        assert [take(capture).index for _ in range(2)] == [0, 1]
        for _ in range(2):
            with pytest.raises(type(error), match=str(error)):
                capture.take(LONG_S)
        assert not capture.ended


def test_a_bug_in_a_camera_is_raised_by_take(cameras, told):
    with Capture(cameras.open, QUICK, told) as capture:
        cameras.give(noisy(0), ZeroDivisionError("a bug"))
        until(lambda: cameras.opened[0].is_closed.is_set())
        take(capture)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            capture.take(LONG_S)


def test_a_bug_in_the_watching_thread_is_raised_by_take(cameras, told, monkeypatch):
    with Capture(cameras.open, QUICK, told) as capture:
        monkeypatch.setattr(told, "reason", lambda code, text: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            capture.take(LONG_S)


def test_errors_at_the_start_are_raised(cameras, told):
    for error in (CameraError("no camera"), InputError("no file"), ZeroDivisionError("a bug")):
        cameras.opens = [error]
        with pytest.raises(type(error), match=str(error)):
            Capture(cameras.open, QUICK, told)


def test_an_opening_that_hangs_at_the_start_is_an_error(cameras, told):
    cameras.opens = [cameras.hang]
    with pytest.raises(CameraError, match=r"did not open within 0\.3 s"):
        Capture(cameras.open, QUICK, told)
    cameras.released.set()
    until(lambda: cameras.opened and cameras.opened[0].is_closed.is_set())  # it came too late, and is not left open


def test_a_camera_can_be_waited_for(cameras, told):
    cameras.opens = [CameraError("no camera"), cameras.hang, CameraError("no camera")]
    options = WatchOptions(timeout_s=0.3, wait_for_camera=True)
    with Capture(cameras.open, options, told) as capture:
        assert (capture.name, capture.live, capture.ended) == ("camera", True, False)
        told.until_only("camera-lost")
        assert told.reasons["camera-lost"] == "no camera"
        cameras.give(noisy(0))
        assert take(capture).index == 0
        assert capture.name == "fake"
        assert told.reasons == {}
        assert cameras.tries == 4
    cameras.opens = [InputError("no file")]
    with pytest.raises(InputError):
        Capture(cameras.open, options, told)


def test_what_is_asked_for_in_vain_is_raised_when_the_camera_waited_for_comes(cameras, told):
    cameras.opens = [CameraError("no camera"), UsageError("it offers no such size")]
    with Capture(cameras.open, WatchOptions(wait_for_camera=True), told) as capture:
        with pytest.raises(UsageError, match="no such size"):
            capture.take(LONG_S)

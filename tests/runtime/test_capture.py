"""Capture: real threads, cameras that fail in every way, files that must not."""

from __future__ import annotations

import queue
import threading
import time

import numpy as np
import pytest

from aerial_runtime import capture as capture_module
from aerial_runtime import reader as reader_module
from aerial_runtime.camera import open_source
from aerial_runtime.camera.base import Source, frame_now
from aerial_runtime.capture import Capture
from aerial_runtime.errors import CameraError, InputError, UsageError
from aerial_runtime.watch import WatchOptions

LONG_S = 10.0  # what a test waits at most for what must come
ENDS_S, CLOSED_S = reader_module.ENDS_S, reader_module.CLOSED_S
QUICK = WatchOptions(timeout_s=0.3, frozen_s=0.2, black_s=0.1)
SUSPECT_ONLY = WatchOptions(timeout_s=3600, frozen_s=0.2)


def noisy(seed, width=64, height=48):
    return np.random.default_rng(seed).integers(50, 200, (height, width, 3)).astype(np.uint8)


class Told:
    """A monitor that can be waited on."""

    def __init__(self):
        self.reasons, self.counts, self.history = {}, {}, []
        self._changed = threading.Condition()

    def reason(self, code, text):
        with self._changed:
            self.history.append((code, text is not None))
            if text is None:
                self.reasons.pop(code)  # KeyError: was not set
            else:
                self.reasons[code] = text
            self._changed.notify_all()

    def count(self, **numbers):
        with self._changed:
            self.counts |= numbers
            self._changed.notify_all()

    def until(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, LONG_S), (self.reasons, self.counts)

    def until_only(self, *codes):
        self.until(lambda: set(self.reasons) == set(codes))


class FakeCamera(Source):
    """Gives what the test puts into `world`: pictures, errors to raise, functions to call."""

    live = True

    def __init__(self, world):
        super().__init__("fake")
        self.world = world
        self.is_closed = threading.Event()
        self.closes, self.closed_by = 0, ""
        world.opened.append(self)

    def __iter__(self):
        index = 0
        while not self.is_closed.is_set():
            try:
                item = self.world.items.get(timeout=0.02)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, np.ndarray):
                yield frame_now(item, f"fake:{index}", index)
                index += 1
            elif callable(item):
                item()
            elif item == "unreadable":
                self._skip("test")
                index += 1
                yield None
            elif item == "gap":
                index += 1
            else:
                return  # "end"

    def close(self):
        self.closes += 1
        self.closed_by = threading.current_thread().name
        self.is_closed.set()


class World:
    """Where cameras are opened: `opens` holds what happens at each opening, an error or a function."""

    def __init__(self):
        self.items, self.opens, self.opened = queue.Queue(), [], []
        self.tries = 0
        self.released = threading.Event()

    def open(self):
        self.tries += 1
        if self.opens:
            step = self.opens.pop(0)
            if isinstance(step, BaseException):
                raise step
            step()
        return FakeCamera(self)

    def hang(self):
        """Never return, like a driver, until the test is over."""
        self.released.wait()

    def give(self, *items):
        for item in items:
            self.items.put(item)


@pytest.fixture
def world():
    world = World()
    yield world
    world.released.set()


@pytest.fixture
def told():
    return Told()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shorten what would be seconds."""
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 0.1)
    monkeypatch.setattr(capture_module, "START_S", 0.3)
    monkeypatch.setattr(reader_module, "ENDS_S", 0.05)
    monkeypatch.setattr(reader_module, "CLOSED_S", 0.02)


@pytest.fixture
def not_so_quick(monkeypatch):
    """For tests of how long an end takes."""
    monkeypatch.setattr(reader_module, "ENDS_S", ENDS_S)
    monkeypatch.setattr(reader_module, "CLOSED_S", CLOSED_S)


def threads_since(before):
    return set(threading.enumerate()) - before


def take(capture):
    frame = capture.take(LONG_S)
    assert frame is not None
    return frame


def until(condition):
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_newest_frame_of_a_camera_wins_and_the_gap_is_what_was_dropped(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0))
        assert take(capture).index == 0
        all_read = threading.Event()
        world.give(noisy(1), noisy(2), noisy(3), all_read.set)
        assert all_read.wait(LONG_S)
        frame = take(capture)
        assert (frame.index, frame.name, capture.dropped) == (3, "fake:3", 2)
        assert np.array_equal(frame.image_bgr, noisy(3))
        assert told.counts["dropped"] == 2
        assert (capture.name, capture.live, capture.truth_path, capture.ended) == ("fake", True, None, False)


def test_dropped_belongs_to_the_frame_that_was_taken(world, told):
    with Capture(world.open, QUICK, told) as capture:
        all_read = threading.Event()
        world.give(noisy(0), noisy(1), all_read.set)
        assert all_read.wait(LONG_S)
        assert capture.dropped == 0  # nothing has been taken yet
        take(capture)
        all_read.clear()
        world.give(noisy(2), noisy(3), all_read.set)
        assert all_read.wait(LONG_S)
        assert capture.dropped == 1


def test_frames_that_the_source_knows_it_lost_are_dropped_but_unreadable_ones_are_not(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.give("gap", "gap", "unreadable", noisy(0))
        assert take(capture).index == 3
        assert (capture.dropped, capture.unreadable) == (2, 1)
        told.until(lambda: told.counts == {"dropped": 2, "unreadable": 1})


def test_nothing_in_time_is_none(world, told):
    with Capture(world.open, QUICK, told) as capture:
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


def test_a_bug_in_a_camera_is_raised_by_take(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0), ZeroDivisionError("a bug"))
        until(lambda: world.opened[0].is_closed.is_set())
        take(capture)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            capture.take(LONG_S)


def test_a_bug_in_the_watching_thread_is_raised_by_take(world, told, monkeypatch):
    with Capture(world.open, QUICK, told) as capture:
        monkeypatch.setattr(told, "reason", lambda code, text: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            capture.take(LONG_S)


def test_errors_at_the_start_are_raised(world, told):
    for error in (CameraError("no camera"), InputError("no file"), ZeroDivisionError("a bug")):
        world.opens = [error]
        with pytest.raises(type(error), match=str(error)):
            Capture(world.open, QUICK, told)


def test_an_opening_that_hangs_at_the_start_is_an_error(world, told):
    world.opens = [world.hang]
    with pytest.raises(CameraError, match=r"did not open within 0\.3 s"):
        Capture(world.open, QUICK, told)
    world.released.set()
    until(lambda: world.opened and world.opened[0].is_closed.is_set())  # it came too late, and is not left open


def test_a_camera_can_be_waited_for(world, told):
    world.opens = [CameraError("no camera"), world.hang, CameraError("no camera")]
    options = WatchOptions(timeout_s=0.3, wait_for_camera=True)
    with Capture(world.open, options, told) as capture:
        assert (capture.name, capture.live, capture.ended) == ("camera", True, False)
        told.until_only("camera-lost")
        assert told.reasons["camera-lost"] == "no camera"
        world.give(noisy(0))
        assert take(capture).index == 0
        assert capture.name == "fake"
        assert told.reasons == {}
        assert world.tries == 4
    world.opens = [InputError("no file")]
    with pytest.raises(InputError):
        Capture(world.open, options, told)


def test_what_is_asked_for_in_vain_is_raised_when_the_camera_waited_for_comes(world, told):
    world.opens = [CameraError("no camera"), UsageError("it offers no such size")]
    with Capture(world.open, WatchOptions(wait_for_camera=True), told) as capture:
        with pytest.raises(UsageError, match="no such size"):
            capture.take(LONG_S)


@pytest.mark.parametrize("ending", [CameraError("unplugged"), "end"])
def test_a_lost_camera_is_opened_anew_and_the_index_goes_on(world, told, ending):
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0), noisy(1), "unreadable", ending)
        world.opens = [CameraError("gone")] * 3
        told.until_only("camera-lost")
        assert told.reasons["camera-lost"] in ("unplugged", "the camera's stream has ended", "gone")
        assert take(capture).index == 1
        told.until(lambda: told.reasons == {"camera-lost": "gone"})
        world.give(noisy(2))
        frame = take(capture)
        assert (frame.index, frame.name) == (3, "fake:3")
        assert told.reasons == {}
        assert (capture.dropped, capture.unreadable) == (1, 1)
        assert world.tries == 5
        assert world.opened[0].is_closed.is_set()


def test_a_camera_that_could_be_opened_once_is_tried_again_whatever_its_error(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.opens = [UsageError("it offers nothing"), InputError("too large")]
        world.give(CameraError("unplugged"))
        until(lambda: len(world.opened) == 2)
        world.give(noisy(0))
        take(capture)
        world.give(InputError("too large"))
        with pytest.raises(InputError):
            capture.take(LONG_S)


def test_a_bug_when_a_camera_is_opened_anew_is_raised_by_take(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.opens = [ZeroDivisionError("a bug")]
        world.give(CameraError("unplugged"))
        with pytest.raises(ZeroDivisionError):
            capture.take(LONG_S)


def test_the_wait_before_opening_doubles_to_a_limit_and_starts_again_when_all_is_well(world, told, monkeypatch):
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 0.025)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 0.2)
    moments = []

    def fails():
        moments.append(time.monotonic())
        raise CameraError("gone")

    with Capture(world.open, QUICK, told) as capture:
        for _ in range(2):
            start = time.monotonic()
            moments.clear()
            world.opens = [fails] * 5
            world.give(CameraError("unplugged"))
            until(lambda: len(moments) == 5)
            waits = np.diff([start, *moments])
            assert (waits >= np.array([0.025, 0.05, 0.1, 0.2, 0.2]) - 0.001).all()
            assert waits[0] < 0.2  # the delay starts again
            assert waits[4] < 0.4  # and grows no further
            world.give(noisy(0))
            take(capture)


def test_silence_is_a_loss(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0))
        take(capture)
        told.until_only("camera-lost")
        assert "no frame for 0.3 s" in told.reasons["camera-lost"]
        until(lambda: len(world.opened) == 2)
        world.give(noisy(1))
        take(capture)
        assert told.reasons == {}


def test_a_first_frame_may_take_longer_but_the_loss_is_told(world, told, monkeypatch):
    monkeypatch.setattr(capture_module, "START_S", 3600.0)
    with Capture(world.open, QUICK, told) as capture:
        told.until_only("camera-lost")
        world.give(noisy(0))
        take(capture)
        assert told.reasons == {}
        assert world.tries == 1


def test_a_read_that_hangs_is_left_behind_and_a_fresh_camera_opened(world, told):
    before = set(threading.enumerate())
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0))
        take(capture)
        world.give(world.hang)
        told.until_only("camera-lost")
        until(lambda: len(world.opened) == 2)
        assert world.opened[0].is_closed.is_set()  # by another thread than the one that hangs
        world.give(noisy(1))
        assert take(capture).index == 1
        assert told.reasons == {}
    assert len(threads_since(before)) == 1
    world.released.set()
    until(lambda: threads_since(before) == set())
    assert [camera.closes for camera in world.opened] == [1, 1]


def test_what_a_camera_gives_that_was_left_behind_is_not_taken(world, told):
    held, free = threading.Event(), threading.Event()

    def hold():
        held.set()
        free.wait()

    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0), hold)
        take(capture)
        assert held.wait(LONG_S)
        until(lambda: len(world.opened) == 2)
        world.items = queue.Queue()  # the fresh camera keeps the world, the old one has its generator
        old = world.opened[0]
        old.is_closed.clear()  # a driver that ignores being closed
        old.world = World()
        old.world.give(noisy(7))
        free.set()
        until(lambda: old.world.items.empty())
        world.give(noisy(1))
        assert np.array_equal(take(capture).image_bgr, noisy(1))


def test_an_opening_that_hangs_is_left_behind_and_closed_when_it_returns(world, told):
    with Capture(world.open, QUICK, told) as capture:
        world.opens = [world.hang]
        world.give(CameraError("unplugged"))
        until(lambda: world.tries == 3)
        world.give(noisy(0))
        take(capture)
        assert told.reasons == {}
        world.released.set()
        until(lambda: len(world.opened) == 3)
        until(lambda: world.opened[2].is_closed.is_set())
        assert not world.opened[1].is_closed.is_set()


def test_hanging_threads_are_bounded(world, told, monkeypatch):
    monkeypatch.setattr(capture_module, "MAX_STUCK", 3)
    monkeypatch.setattr(capture_module, "START_S", 0.05)
    before = set(threading.enumerate())
    with Capture(world.open, QUICK, told) as capture:
        world.opens = [world.hang] * 10
        world.give(CameraError("unplugged"))
        told.until(lambda: "3 calls hang" in told.reasons.get("camera-lost", ""))
        assert world.tries == 4
        assert len(threads_since(before)) == 1 + 3
        time.sleep(0.2)  # would be time for more tries
        assert world.tries == 4
        world.opens = []
        world.released.set()
        world.give(noisy(0))
        take(capture)
        assert told.reasons == {}


def keep_giving(world, picture_of):
    """Give pictures at 50 a second until the event that is returned is set."""
    stop = threading.Event()

    def give():
        number = 0
        while not stop.wait(0.02):
            world.give(picture_of(number))
            number += 1

    thread = threading.Thread(target=give)
    thread.start()

    def end():
        stop.set()
        thread.join()

    return end


def test_a_frozen_camera_is_told_and_opened_anew_and_its_frames_are_flown(world, told):
    with Capture(world.open, SUSPECT_ONLY, told) as capture:
        end = keep_giving(world, lambda number: noisy(0))
        try:
            told.until_only("camera-frozen")
            take(capture)
            index = take(capture).index
            until(lambda: len(world.opened) >= 3)  # it did not help
            assert set(told.reasons) == {"camera-frozen"}
            assert take(capture).index > index
        finally:
            end()
        end = keep_giving(world, noisy)
        try:
            told.until_only()
            opened = len(world.opened)
            until(lambda: take(capture) and told.history[-1] == ("camera-frozen", False))
            assert len(world.opened) <= opened + 1
        finally:
            end()


def test_a_black_camera_is_told_and_not_opened_anew(world, told):
    with Capture(world.open, QUICK, told) as capture:
        end = keep_giving(world, lambda number: np.zeros((48, 64, 3), np.uint8))
        try:
            told.until_only("camera-black")
            time.sleep(QUICK.frozen_s + 0.2)
            take(capture)
            assert set(told.reasons) == {"camera-black"}
            assert len(world.opened) == 1
        finally:
            end()
        world.give(noisy(0))
        told.until_only()


def test_a_camera_of_another_size_is_told_and_opened_anew_and_its_frames_are_flown(world, told):
    with Capture(world.open, SUSPECT_ONLY, told) as capture:
        world.give(noisy(0))
        take(capture)
        end = keep_giving(world, lambda number: noisy(number, 32, 24))
        try:
            told.until_only("camera-size")
            assert take(capture).image_bgr.shape == (24, 32, 3)
            until(lambda: len(world.opened) >= 3)
        finally:
            end()
        world.give(noisy(1))
        told.until_only()


def test_close_waits_for_no_camera_that_hangs(world, told, not_so_quick):
    capture = Capture(world.open, QUICK, told)
    world.give(noisy(0), world.hang)
    take(capture)
    start = time.monotonic()
    capture.close()
    assert time.monotonic() - start < 1
    assert world.opened[0].is_closed.is_set()
    capture.close()


def test_close_waits_for_no_close_that_hangs(world, told, not_so_quick, monkeypatch):
    monkeypatch.setattr(FakeCamera, "close", lambda self: world.hang())
    capture = Capture(world.open, QUICK, told)
    start = time.monotonic()
    capture.close()
    assert time.monotonic() - start < 1


def test_a_close_that_fails_under_a_camera_that_hangs_is_said(world, told, monkeypatch, capsys):
    def close(self):
        raise OSError("no such device")

    monkeypatch.setattr(FakeCamera, "close", close)
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0), world.hang)
        take(capture)
        told.until_only("camera-lost")
    assert "a camera that hangs cannot be closed: no such device" in capsys.readouterr().err


def test_close_while_a_lost_camera_is_waited_for(world, told, monkeypatch):
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 3600.0)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 3600.0)
    before = set(threading.enumerate())
    capture = Capture(world.open, QUICK, told)
    world.give(CameraError("unplugged"))
    told.until_only("camera-lost")
    capture.close()
    assert threads_since(before) == set()


def test_nothing_is_left_after_a_flight(world, told):
    before = set(threading.enumerate())
    with Capture(world.open, QUICK, told) as capture:
        world.give(noisy(0))
        take(capture)
    assert threads_since(before) == set()
    assert (
        world.opened[0].closed_by == "camera"
    )  # the thread that read it: one that does not hang is not closed under it

"""Faults on purpose: what is asked for, what happens, and that it is told and recovered from in time."""

from __future__ import annotations

import errno
import itertools
import threading
import time

import cv2
import numpy as np
import pytest
import zmq

from aerial_runtime import inject
from aerial_runtime.camera import Source, open_source
from aerial_runtime.capture import Capture
from aerial_runtime.errors import CameraError, ModelError, UsageError
from aerial_runtime.inject import CAMERA_KINDS, JUMP_NS, KINDS, Fault, Faults, FilesAsCamera, parse_fault
from aerial_runtime.watch import WatchOptions

LONG_S = 10.0


@pytest.fixture
def folder(tmp_path):
    """Three files, the second of which is no picture."""
    for index in (0, 2):
        picture = np.random.default_rng(index).integers(50, 200, (48, 64, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    (tmp_path / "1.png").write_text("no picture")
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that the test sets, in seconds of the flight once faults have started."""

    class Clock:
        now_s = 0.0

        def monotonic_ns(self):
            return int(self.now_s * 1e9)

        def time_ns(self):
            return 10**18 + self.monotonic_ns()

    clock = Clock()
    monkeypatch.setattr(inject, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("camera-freeze@10s+5s", Fault("camera-freeze", 10, 5)),
        ("camera-freeze@10s", Fault("camera-freeze", 10, KINDS["camera-freeze"].for_s)),
        ("clock-jump@0.5+1.25", Fault("clock-jump", 0.5, 1.25)),
        ("backend-error@0s+0s", Fault("backend-error", 0, 0)),
    ],
)
def test_when_and_for_how_long(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("camera-freez@10s", "no fault 'camera-freez'; did you mean camera-freeze?"),
        ("disk_full@10s", "did you mean disk-full"),
        ("", "no fault ''"),
        ("camera-freeze", "like camera-freeze@10s or camera-freeze@10s"),
        ("camera-freeze@", "in seconds"),
        ("camera-freeze@-1s", "in seconds"),
        ("camera-freeze@1s+", "in seconds"),
        ("camera-freeze@1m", "in seconds"),
        ("camera-freeze@nan", "in seconds"),
        ("camera-freeze@1e9", "in seconds"),
        ("camera-freeze@١", "in seconds"),
        ("camera-freeze@1s+5s\n", "in seconds"),
    ],
)
def test_what_is_no_fault_is_refused(text, reason):
    with pytest.raises(UsageError, match="--inject") as caught:
        parse_fault(text)
    assert reason in str(caught.value)


def test_a_fault_lasts_from_its_beginning_to_its_end_in_seconds_of_the_flight(clock):
    faults = Faults([Fault("disk-full", 2, 1), Fault("disk-full", 5, 1), Fault("clock-jump", 0, 1)])
    clock.now_s = 2.5
    faults.writing()  # the flight has not begun
    clock.now_s = 100
    faults.start()
    full = []
    for now_s in (0, 1.9, 2, 2.9, 3, 4.9, 5, 5.9, 6, 100):
        clock.now_s = 100 + now_s
        try:
            faults.writing()
        except OSError as error:
            assert error.errno == errno.ENOSPC
            full.append(now_s)
    assert full == [2, 2.9, 5, 5.9]


def test_a_fault_of_no_duration_happens_once(clock):
    faults = Faults([Fault("backend-error", 1, 0), Fault("backend-error", 1, 0)])
    faults.start()
    faults.inferring()
    clock.now_s = 7
    for _ in range(2):
        with pytest.raises(ModelError, match="on purpose"):
            faults.inferring()
    faults.inferring()


def test_the_clock_jumps_and_comes_back(clock):
    faults = Faults([Fault("clock-jump", 1, 1)])
    faults.start()
    for now_s, jump_ns in ((0, 0), (1, JUMP_NS), (2, 0)):
        clock.now_s = now_s
        assert faults.utc_ns() == clock.time_ns() + jump_ns


def test_kinds_do_not_mix(clock):
    faults = Faults([Fault(kind, 0, 1) for kind in KINDS if kind not in ("disk-full", "backend-error", "clock-jump")])
    faults.start(["inproc://nobody"])
    faults.writing()
    faults.inferring()
    assert faults.utc_ns() == clock.time_ns()
    faults.close()


def test_without_faults_a_source_is_left_alone():
    def open_():
        raise AssertionError("not called")

    assert Faults([]).source(open_) is open_


def test_files_stay_files_where_no_camera_is_to_fail(folder):
    with Faults([Fault("disk-full", 0, 1)]).source(lambda: open_source(str(folder)))() as source:
        assert not source.live
        assert [frame and frame.name for frame in source] == ["0.png", None, "2.png"]


@pytest.mark.parametrize("kind", ["camera-freeze", "disk-full"])
def test_a_real_camera_is_refused(kind):
    class Camera(Source):
        live = True
        is_closed = False

        def __iter__(self):
            return iter(())

        def close(self):
            self.is_closed = True

    camera = Camera("video0")
    with pytest.raises(UsageError, match="video0 is a camera"):
        Faults([Fault(kind, 0, 1)]).source(lambda: camera)()
    assert camera.is_closed


def flown_as_camera(folder, *asked):
    faults = Faults(asked)
    source = faults.source(lambda: open_source(str(folder)))()
    assert isinstance(source, FilesAsCamera)
    return faults, source


def test_files_as_a_camera_come_again_and_again_at_its_rate(folder, monkeypatch):
    monkeypatch.setattr(inject, "CAMERA_FPS", 50.0)
    faults, source = flown_as_camera(folder, Fault("camera-loss", 3600, 1))
    faults.start()
    with source:
        start = time.monotonic()
        frames = list(itertools.islice(source, 8))
        took_s = time.monotonic() - start
    assert [frame and frame.name for frame in frames] == ["0.png", None, "2.png"] * 2 + ["0.png", None]
    assert [frame.index for frame in frames if frame] == [0, 2, 3, 5, 6]
    assert source.unreadable == 3
    assert (source.live, source.truth_path) == (True, None)
    moments = [frame.captured_mono_ns for frame in frames if frame]
    assert moments == sorted(set(moments))
    assert took_s > 8 / 50 - 0.001


def test_files_as_a_camera_are_closed_each_time(folder, monkeypatch):
    monkeypatch.setattr(inject, "CAMERA_FPS", 1000.0)
    opened, closed = [], []

    class Files(Source):
        def __iter__(self):
            return iter([None])

        def close(self):
            closed.append(self)

    def open_():
        opened.append(Files("files"))
        return opened[-1]

    with Faults([Fault("camera-loss", 3600, 1)]).source(open_)() as source:
        list(itertools.islice(source, 3))
        assert closed == opened[:2]
    assert closed == opened


def test_closing_ends_the_wait_for_the_next_frame(folder, monkeypatch):
    monkeypatch.setattr(inject, "CAMERA_FPS", 0.001)
    _, source = flown_as_camera(folder, Fault("camera-loss", 3600, 1))
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    source.close()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert frames == []


def test_one_corrupt_frame_is_unreadable_and_keeps_its_index(folder, monkeypatch, capsys):
    monkeypatch.setattr(inject, "CAMERA_FPS", 100.0)
    (folder / "1.png").unlink()
    faults, source = flown_as_camera(folder, Fault("corrupt-frame", 0, 0))
    faults.start()
    with source:
        frames = list(itertools.islice(source, 3))
    assert [frame and (frame.name, frame.index) for frame in frames] == [None, ("2.png", 1), ("0.png", 2)]
    assert source.unreadable == 1
    assert "0.png is corrupt on purpose" in capsys.readouterr().err


def test_a_lost_camera_ends_and_cannot_be_opened(folder, monkeypatch):
    monkeypatch.setattr(inject, "CAMERA_FPS", 100.0)
    faults, source = flown_as_camera(folder, Fault("camera-loss", 0, 3600))
    with source:
        frames = iter(source)
        assert next(frames) is not None
        faults.start()
        with pytest.raises(CameraError, match="lost on purpose"):
            list(itertools.islice(frames, 100))
    with pytest.raises(CameraError, match="lost on purpose"):
        faults.source(lambda: open_source(str(folder)))()


def test_a_frozen_camera_stays_frozen_when_it_is_opened_anew(folder, monkeypatch):
    monkeypatch.setattr(inject, "CAMERA_FPS", 100.0)
    (folder / "1.png").unlink()
    faults, source = flown_as_camera(folder, Fault("camera-freeze", 0, 3600))
    with source:
        frames = iter(source)
        next(frames)
        shown = next(frames)
        assert shown.name == "2.png"
        faults.start()
        assert np.array_equal(next(frames).image_bgr, shown.image_bgr)
    with faults.source(lambda: open_source(str(folder)))() as again:
        for frame in itertools.islice(again, 3):
            assert np.array_equal(frame.image_bgr, shown.image_bgr)


class Told:
    """A monitor that remembers since when which reasons stand."""

    def __init__(self):
        self.reasons, self.unreadable = {}, 0
        self.changed = threading.Condition()

    def reason(self, code, text):
        with self.changed:
            if text is None:
                del self.reasons[code]
            else:
                self.reasons[code] = text
            self.changed.notify_all()

    def count(self, **numbers):
        with self.changed:
            self.unreadable = numbers.get("unreadable", self.unreadable)
            self.changed.notify_all()

    def until(self, condition, within_s):
        with self.changed:
            return self.changed.wait_for(condition, within_s)


@pytest.mark.parametrize("kind", sorted(CAMERA_KINDS))
def test_a_camera_fault_is_told_and_recovered_from_in_the_time_of_the_table(folder, kind):
    (folder / "1.png").unlink()
    row, told = KINDS[kind], Told()
    fault = Fault(kind, 0.2, 1.0 if row.reason else 0)
    # The table holds for the daemon's own limits; with these they are shorter by the difference.
    own, options = WatchOptions(), WatchOptions(timeout_s=0.5, frozen_s=0.3, black_s=0.3)
    saved_s = {"camera-freeze": own.frozen_s - 0.3, "camera-black": own.black_s - 0.3}.get(kind, 0)
    with Faults([fault]) as faults:
        with Capture(faults.source(lambda: open_source(str(folder))), options, told) as capture:
            assert capture.take(LONG_S) is not None
            faults.start()
            if row.reason is None:
                assert told.until(lambda: told.unreadable == 1, 1.0)
                assert told.reasons == {}
                return
            assert told.until(lambda: told.reasons, fault.at_s + row.shows_s - saved_s)
            assert set(told.reasons) == {row.reason}
            assert told.until(lambda: not told.reasons, fault.for_s + row.recovers_s)
            assert not faults.is_on(kind)
            index = capture.take(LONG_S).index
            assert capture.take(LONG_S).index > index


def test_a_slow_subscriber_comes_reads_nothing_and_goes(tmp_path):
    endpoint = f"ipc://{tmp_path}/socket"
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        with Faults([Fault("slow-subscriber", 0.1, 0.2)]) as faults:
            start = time.monotonic()
            faults.start([endpoint])
            assert publisher.poll(LONG_S * 1000)
            assert publisher.recv() == b"\1"  # it subscribes to everything
            assert time.monotonic() - start > 0.1
            assert publisher.poll(LONG_S * 1000)
            assert publisher.recv() == b"\0"
            assert time.monotonic() - start > 0.3


def test_a_slow_subscriber_leaves_when_the_flight_ends(tmp_path):
    before = set(threading.enumerate())
    with Faults([Fault("slow-subscriber", 0, 3600), Fault("slow-subscriber", 3600, 1)]) as faults:
        faults.start([f"ipc://{tmp_path}/socket"])
        assert len(set(threading.enumerate()) - before) == 2
    assert set(threading.enumerate()) == before


def test_a_slow_subscriber_needs_a_socket():
    with pytest.raises(UsageError, match="needs a socket without keys"):
        Faults([Fault("slow-subscriber", 0, 1)]).start()


def test_the_table_is_sound():
    own = WatchOptions()
    assert KINDS["camera-freeze"].for_s > own.frozen_s
    assert KINDS["camera-black"].for_s > own.black_s
    assert KINDS.keys() > CAMERA_KINDS
    for name, row in KINDS.items():
        assert (row.reason is None) == (row.shows_s == row.recovers_s == 0), name

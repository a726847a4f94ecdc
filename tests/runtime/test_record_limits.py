"""Flights in files that cannot be written as asked: full and hanging disks, limits, old files."""

from __future__ import annotations

import errno
import os
import threading
import time

import numpy as np
import pytest
from mcap.reader import make_reader
from record_kit import ABOUT, RNG, TARGET, fly, frame, pictures, read, wait_until

from aerial_runtime import record
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.record import Recorder, RecordOptions
from aerial_runtime.record_messages import ANNOTATIONS, CAMERA, DETECTIONS, EVENTS, HEALTH


class Disk:
    """A fault to inject: full while `full` is set."""

    def __init__(self):
        self.full = False

    def __call__(self):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def reasons(monitor):
    return [reason.code for reason in monitor.look().reasons]


def test_a_short_episode_of_a_full_disk_loses_nothing(path, monitor, recorder_of, monkeypatch):
    monkeypatch.setattr(record, "RETRY_S", 0.05)
    disk = Disk()
    with recorder_of(writing=disk) as recorder:
        fly(recorder, monitor, [frame(0)])
        wait_until(path.exists)
        disk.full = True
        fly(recorder, monitor, [frame(1)])
        wait_until(lambda: reasons(monitor) == ["record-disk-full"])
        fly(recorder, monitor, [frame(2)])
        disk.full = False
        wait_until(lambda: reasons(monitor) == [])
        fly(recorder, monitor, [frame(3)])
    assert [message["frame"]["index"] for message in read(path, DETECTIONS)] == [0, 1, 2, 3]
    assert recorder.unrecorded == monitor.look().unrecorded == 0
    with path.open("rb") as file:
        assert make_reader(file).get_summary().statistics.message_count == len(
            read(path, CAMERA, ANNOTATIONS, DETECTIONS, HEALTH, EVENTS)
        )


@pytest.mark.parametrize("lossless", [False, True])
def test_a_long_episode_is_counted_and_holds_up_nobody(path, monitor, recorder_of, monkeypatch, lossless):
    monkeypatch.setattr(record, "RETRY_S", 0.05)
    monkeypatch.setattr(record, "QUEUE_BYTES", 10_000)
    disk = Disk()
    disk.full = True
    with recorder_of(writing=disk, lossless=lossless) as recorder:
        fly(recorder, monitor, [frame(0)])
        wait_until(lambda: reasons(monitor) == ["record-disk-full"])
        start_s = time.monotonic()
        fly(recorder, monitor, [frame(index) for index in range(1, 60)])
        assert time.monotonic() - start_s < 2
        wait_until(lambda: monitor.look().unrecorded > 10)
        disk.full = False
        wait_until(lambda: reasons(monitor) == [])
    found = [message["frame"]["index"] for message in read(path, DETECTIONS)]
    assert found == sorted(found) and found[0] == 0 and len(found) < 60
    assert recorder.unrecorded >= 60 - len(found) > 0
    assert recorder.beyond_limit == 0


def test_what_the_disk_never_took_counts_at_the_end(path, monitor, recorder_of):
    disk = Disk()
    disk.full = True
    start_s = time.monotonic()
    with recorder_of(writing=disk) as recorder:
        fly(recorder, monitor, [frame(0)])
    assert time.monotonic() - start_s < 3
    assert recorder.unrecorded >= 1 and monitor.look().unrecorded == recorder.unrecorded
    assert not path.exists()


def test_a_thread_that_cannot_keep_up_holds_up_no_live_flight_and_every_file_flight(
    path, monitor, recorder_of, monkeypatch
):
    monkeypatch.setattr(record, "QUEUE_BYTES", 100_000)
    monkeypatch.setattr(record, "SYNC_S", 0.001)  # the first item closes a chunk, so that the thread stands at the gate
    gate = threading.Event()
    with recorder_of(writing=lambda: gate.wait(10)) as recorder:
        start_s = time.monotonic()
        fly(recorder, monitor, [frame(index) for index in range(100)])
        wait_until(lambda: monitor.look().unrecorded > 0 or time.monotonic() - start_s > 2)
        fly(recorder, monitor, [frame(index) for index in range(100, 200)])
        assert time.monotonic() - start_s < 3
        assert monitor.look().unrecorded > 50
        gate.set()
    assert len(read(path, DETECTIONS)) >= 200 - recorder.unrecorded
    with recorder_of(writing=lambda: time.sleep(0.01), lossless=True, overwrite=True) as recorder:
        fly(recorder, monitor, [frame(index) for index in range(100)])
    assert recorder.unrecorded == 0 and len(pictures(path)) == 100


def test_a_disk_that_hangs_is_waited_for_once(recorder_of, monitor, monkeypatch):
    monkeypatch.setattr(record, "CLOSE_S", 0.1)
    gate = threading.Event()
    with recorder_of(writing=lambda: gate.wait(60)) as recorder:
        fly(recorder, monitor, [frame(0)])
        recorder.close()
        assert recorder.unrecorded > 0
        monkeypatch.setattr(record, "CLOSE_S", 60.0)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 10
    gate.set()
    wait_until(lambda: all(thread.name != "record" for thread in threading.enumerate()))


def test_where_there_is_no_room_for_a_picture_its_detections_are_kept(path, monitor, recorder_of, monkeypatch):
    monkeypatch.setattr(record, "QUEUE_BYTES", 300_000)
    monkeypatch.setattr(record, "SYNC_S", 0.001)  # the first item closes a chunk, so that the thread stands at the gate
    gate = threading.Event()
    large = RNG.integers(0, 256, (40, 96, 128, 3), np.uint8)
    with recorder_of("png", writing=lambda: gate.wait(10)) as recorder:
        fly(recorder, monitor, [frame(index, image_bgr=large[index]) for index in range(40)])
        waited = monitor.look().unrecorded
        gate.set()
    assert [message["frame"]["index"] for message in read(path, DETECTIONS)] == [*range(40)]
    assert 0 < len(pictures(path)) == 40 - recorder.unrecorded
    assert recorder.unrecorded == waited == monitor.look().unrecorded > 20
    assert recorder.beyond_limit == 0


def test_the_limit_holds_pictures_go_first_and_the_flight_goes_on(path, monitor, recorder_of, monkeypatch):
    monkeypatch.setattr(record, "SYNC_S", 0.05)
    limit_bytes = 2_000_000
    large = RNG.integers(0, 256, (70, 96, 128, 3), np.uint8)  # each another, or a chunk would hold many as one
    with recorder_of(limit_bytes=limit_bytes) as recorder:
        fly(recorder, monitor, [frame(index, image_bgr=large[index]) for index in range(70)])
        wait_until(lambda: reasons(monitor) == ["record-limit"])
    assert path.stat().st_size <= limit_bytes
    found = pictures(path)
    # What is not compressed yet counts as base64, so where a chunk is large the limit comes earlier.
    assert 0.6 * limit_bytes < sum(map(len, found)) < 0.9 * limit_bytes
    assert len(read(path, DETECTIONS)) == 70
    assert recorder.unrecorded == recorder.beyond_limit == 70 - len(found) == monitor.look().unrecorded
    with path.open("rb") as file:
        assert make_reader(file).get_summary().statistics.channel_message_counts[1] == len(found)
    with recorder_of("none", limit_bytes=100_000, overwrite=True) as recorder:
        fly(recorder, monitor, [frame(index) for index in range(1000)], *[TARGET] * 20)
    assert 0 < len(read(path, DETECTIONS)) < 1000 and path.stat().st_size <= 100_000


def test_an_existing_recording_is_kept_until_the_first_message(path, monitor, recorder_of):
    path.write_text("old")
    with pytest.raises(UsageError, match=r"the recording .*flight\.mcap exists; give --overwrite, or another --record"):
        recorder_of()
    recorder_of(overwrite=True).close()
    assert path.read_text() == "old"
    with recorder_of(overwrite=True) as recorder:
        fly(recorder, monitor, [frame()])
    assert len(read(path, DETECTIONS)) == 1


def test_nothing_recorded_leaves_no_file(path, recorder_of):
    recorder_of().close()
    assert not path.exists()


def test_where_no_recording_can_be_is_said(tmp_path, monitor):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(UsageError, match="no regular file"):
        Recorder(tmp_path / "pipe", RecordOptions(), ABOUT, {}, monitor=monitor, overwrite=True)
    os.close(reader)
    with pytest.raises(ResourceError, match="cannot write the recording"):
        Recorder(tmp_path / "none" / "f.mcap", RecordOptions(), ABOUT, {}, monitor=monitor)


def test_a_picture_that_cannot_be_encoded_ends_the_recording_not_the_flight(path, monitor, recorder_of):
    with recorder_of("jpeg:50") as recorder:
        fly(recorder, monitor, [frame(0, image_bgr=np.zeros((1, 70_000, 3), np.uint8)), frame(1)])  # JPEG: to 65535
        wait_until(lambda: reasons(monitor) == ["record-failed"])
        fly(recorder, monitor, [frame(2)])
    assert recorder.unrecorded >= 2

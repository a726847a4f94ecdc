"""Flights in real files: what stands in them, what a cut leaves, what a full disk and a limit cost."""

from __future__ import annotations

import base64
import errno
import json
import os
import threading
import time

import cv2
import msgspec
import numpy as np
import pytest
from mcap.reader import make_reader

from aerial_runtime import record
from aerial_runtime.contract import Attribute, Box, Detections, Frame, Target
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.record import Recorder, RecordOptions
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import ANNOTATIONS, CAMERA, DETECTIONS, EVENTS, HEALTH

TARGET = Target(Box(10, 20, 30, 15), 16, 0.9, {"kind": Attribute("plain", 0.8)})
RNG = np.random.default_rng(1)
IMAGE_BGR = RNG.integers(0, 256, (48, 64, 3), np.uint8)
JPEG = cv2.imencode(".jpg", IMAGE_BGR)[1].tobytes()
ABOUT = {"source": "cam0"}


def frame(index=0, encoded=None, image_bgr=IMAGE_BGR, mono_ns=None):
    mono_ns = 10**9 + index if mono_ns is None else mono_ns
    return Frame(image_bgr, f"f{index}", index, 1_700_000_000_000_000_005 + index, mono_ns, encoded)


def fly(recorder, monitor, frames, *targets):
    """Send frames through a real outlet."""
    result = PipelineResult(list(targets), len(targets), 0, 1.0, 0.5, 1.5)
    with Outlet("cam0", {}, None, None, monitor, recorder=recorder, lossless=True) as outlet:
        for one in frames:
            outlet.put(one, result, 0)


def read(path, *topics):
    return [json.loads(payload) for _, payload in Recording(path).messages(*topics)]


def pictures(path):
    return [base64.b64decode(picture["data"]) for picture in read(path, CAMERA)]


def count_on_disk(path):
    """Return how many frames stand in a file that is being written."""
    return len(read(path, DETECTIONS)) if path.exists() and path.stat().st_size else 0


def wait_until(is_so):
    for _ in range(500):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("not within five seconds")


@pytest.fixture
def monitor():
    return HealthMonitor("cam0")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flight.mcap"


@pytest.fixture
def recorder_of(path, monitor):
    def make(frames="original", fps=None, limit_bytes=10**9, **more):
        options = RecordOptions(frames, fps, limit_bytes)
        return Recorder(path, options, ABOUT, {"segmenter": '{"kind": 1}'}, monitor=monitor, **more)

    return make


def test_a_flight_stands_in_the_file_as_other_readers_read_it(path, monitor, recorder_of):
    with recorder_of() as recorder:
        monitor.listen(recorder.event)
        monitor.reason("camera-black", "lens cap")
        monitor.reason("camera-black", None)
        fly(recorder, monitor, [frame(0, JPEG), frame(1)], TARGET)
    assert recorder.unrecorded == 0 and recorder.pictures == 2
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert [(card.name, card.data) for card in reader.iter_attachments()] == [
            ("segmenter.card.json", b'{"kind": 1}')
        ]
        assert [(about.name, about.metadata) for about in reader.iter_metadata()] == [("aerial.flight", ABOUT)]
        found = [(schema.name, channel.topic) for schema, channel, _ in reader.iter_messages()]
        assert set(found) == {
            ("foxglove.CompressedImage", CAMERA),
            ("foxglove.ImageAnnotations", ANNOTATIONS),
            ("foxglove.Log", EVENTS),
            ("aerial.detections/1", DETECTIONS),
            ("aerial.health/1", HEALTH),
        }
    first, second = read(path, CAMERA)
    assert first["timestamp"] == {"sec": 1_700_000_000, "nsec": 5}
    assert (first["frame_id"], first["format"], second["format"]) == ("cam0", "jpeg", "png")
    assert first["frame"]["name"] == "f0" and base64.b64decode(first["data"]) == JPEG
    assert np.array_equal(cv2.imdecode(np.frombuffer(pictures(path)[1], np.uint8), 1), IMAGE_BGR)
    box = read(path, ANNOTATIONS)[0]["points"][0]
    assert box["type"] == 2 and box["points"] == [
        {"x": 10, "y": 20},
        {"x": 40, "y": 20},
        {"x": 40, "y": 35},
        {"x": 10, "y": 35},
    ]
    assert read(path, ANNOTATIONS)[0]["texts"][0]["text"] == "plain 0.90"
    assert [(event["level"], event["message"]) for event in read(path, EVENTS)] == [
        (3, "camera-black: lens cap"),
        (2, "camera-black is over"),
    ]


def test_names_that_are_no_utf8(path, monitor):
    """A reason comes in the thread that has the trouble, such as that of --output: an error there would end it."""
    with Recorder(path, RecordOptions(), {"source": "cam\udcff"}, {}, monitor=monitor) as recorder:
        monitor.listen(recorder.event)
        monitor.reason("disk-full", "the output o\udcff.jsonl takes nothing")
        fly(recorder, monitor, [frame(0, JPEG)])
    assert read(path, CAMERA)[0]["frame_id"] == "cam\\udcff"
    assert read(path, EVENTS)[0]["message"] == "disk-full: the output o\\udcff.jsonl takes nothing"


def test_every_message_fits_its_schema_and_every_schema_is_one_that_viewers_read(path, monitor, recorder_of):
    """Foxglove reads objects with fixed names, lists of them, numbers, text and base64, and enumerations of numbers."""
    with recorder_of() as recorder:
        recorder.event("hot", "95 °C")
        fly(recorder, monitor, [frame()], TARGET)
    with path.open("rb") as file:
        for schema, _, message in make_reader(file).iter_messages():
            check(json.loads(schema.data), json.loads(message.data), schema.name.startswith("aerial"))


def check(schema, value, is_open):
    if "oneOf" in schema:
        assert value in [one["const"] for one in schema["oneOf"]]
    elif schema["type"] == "object":
        assert is_open or schema["properties"].keys() == value.keys()
        for name, inner in schema["properties"].items():
            check(inner, value[name], is_open)
    elif schema["type"] == "array":
        for one in value:
            check(schema["items"], one, is_open)
    else:
        kinds = {"string": str, "integer": int, "number": (int, float)}
        assert isinstance(value, kinds[schema["type"]])
        assert schema.get("contentEncoding") in (None, "base64")


@pytest.mark.parametrize(
    ("frames", "kinds"),
    [
        ("png", ["png", "png"]),
        ("jpeg:40", ["jpeg", "jpeg"]),
        ("none", []),
        ("original", ["jpeg", "png"]),
        ("auto", ["jpeg", "jpeg"]),
    ],
)
def test_pictures_are_what_was_asked_for(path, monitor, recorder_of, frames, kinds):
    with recorder_of(frames) as recorder:
        fly(recorder, monitor, [frame(0, JPEG), frame(1)])
    assert [picture["format"] for picture in read(path, CAMERA)] == kinds
    assert len(read(path, DETECTIONS)) == 2
    if frames == "jpeg:40":
        assert pictures(path) == [jpeg_of(IMAGE_BGR, 40)] * 2
    if frames == "auto":
        assert pictures(path) == [JPEG, jpeg_of(IMAGE_BGR, 90)]


def jpeg_of(image_bgr, quality):
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.mark.parametrize(
    ("options", "encoded", "lossless", "stored"),
    [
        ({}, None, False, 10),  # a live camera's pictures, which must be encoded
        ({}, None, True, 30),  # a file's: it has time
        ({}, JPEG, False, 30),  # the camera's own bytes cost little
        ({"fps": 15.0}, None, False, 15),
        ({"frames": "jpeg:90"}, None, False, 30),
    ],
)
def test_where_nothing_is_asked_for_a_live_camera_without_jpegs_is_recorded_ten_times_a_second(
    path, monitor, recorder_of, options, encoded, lossless, stored
):
    with recorder_of(**{"frames": "auto", **options}, lossless=lossless) as recorder:
        fly(recorder, monitor, [frame(n, encoded, mono_ns=10**9 + round(n * 1e9 / 30)) for n in range(30)])
    assert (len(pictures(path)), len(read(path, DETECTIONS)), recorder.unrecorded) == (stored, 30, 0)


def test_so_many_pictures_a_second_and_every_message(path, monitor, recorder_of):
    times_ns = [round(index * 1e9 / 30) for index in range(60)] + [20 * 10**9, 5 * 10**9]  # a gap, then back
    with recorder_of("jpeg:50", fps=5.0) as recorder:
        fly(recorder, monitor, [frame(index, mono_ns=ns) for index, ns in enumerate(times_ns)])
    assert [picture["frame"]["index"] for picture in read(path, CAMERA)] == [*range(0, 60, 6), 60, 61]
    assert len(read(path, DETECTIONS)) == 62
    assert recorder.unrecorded == 0


def test_a_file_cut_anywhere_reads_back_to_its_last_whole_chunk(path, monitor, recorder_of, monkeypatch):
    monkeypatch.setattr(record, "SYNC_S", 0.0)
    with recorder_of("png") as recorder:
        sizes = []
        for index in range(6):
            fly(recorder, monitor, [frame(index)])
            wait_until(lambda index=index: count_on_disk(path) == index + 1)
            sizes.append(path.stat().st_size)
    whole = path.read_bytes()
    cut = path.with_name("cut.mcap")
    for size in [*range(0, len(whole), 97), *(size + step for size in sizes for step in (-1, 0, 1))]:
        cut.write_bytes(whole[:size])
        found = [message["frame"]["index"] for message in read(cut, DETECTIONS)]
        assert len(found) >= sum(size >= at for at in sizes), size
        assert found == list(range(len(found)))
    cut.write_bytes(whole[: sizes[2]] + bytes(5000))  # as a file system leaves it after a loss of power
    assert len(read(cut, DETECTIONS)) >= 3
    cut.write_bytes(whole[: sizes[2]] + RNG.bytes(5000))
    assert len(read(cut, DETECTIONS)) >= 3


def test_a_damaged_chunk_costs_only_itself(path, monitor, recorder_of, monkeypatch):
    monkeypatch.setattr(record, "SYNC_S", 0.0)
    with recorder_of("png") as recorder:
        sizes = []
        for index in range(3):
            fly(recorder, monitor, [frame(index)])
            wait_until(lambda index=index: count_on_disk(path) == index + 1)
            sizes.append(path.stat().st_size)
    data = bytearray(path.read_bytes())
    middle = data.index(b"zstd", sizes[0]) + 5000
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)
    recording = Recording(path)
    found = [msgspec.json.decode(payload, type=Detections) for _, payload in recording.messages(DETECTIONS)]
    assert {0, 2} <= {message.frame.index for message in found} and recording.damaged == 1


def test_a_chunk_is_on_the_disk_within_a_second_while_frames_come(path, monitor, recorder_of):
    with recorder_of("jpeg:50") as recorder:
        start_s = time.monotonic()
        for index in range(15):
            fly(recorder, monitor, [frame(index)])
            time.sleep(0.1)
            if time.monotonic() - start_s > 1.3:
                assert count_on_disk(path) >= 3
                return
    raise AssertionError("too slow")


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

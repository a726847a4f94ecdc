"""Flights in real files: what stands in them, and what a cut leaves."""

from __future__ import annotations

import base64
import json
import time

import cv2
import msgspec
import numpy as np
import pytest
from mcap.reader import make_reader
from record_kit import (
    ABOUT,
    IMAGE_BGR,
    JPEG,
    RNG,
    TARGET,
    count_on_disk,
    fly,
    frame,
    pictures,
    read,
    wait_until,
)

from aerial_runtime import record
from aerial_runtime.contract import Detections
from aerial_runtime.record import Recorder, RecordOptions
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import ANNOTATIONS, CAMERA, DETECTIONS, EVENTS, HEALTH


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

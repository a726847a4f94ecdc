"""Results in, numbered messages out: on a real socket, in a real file, and in time."""

from __future__ import annotations

import json
import threading
import time

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from aerial_runtime import outlet as outlet_module
from aerial_runtime.card import load_label_space
from aerial_runtime.client import Subscriber
from aerial_runtime.contract import Attribute, Box, Detections, Frame, Target
from aerial_runtime.crop_jpegs import CropBudget
from aerial_runtime.health import HealthMonitor
from aerial_runtime.jsonl import JsonlWriter
from aerial_runtime.outlet import QUEUE_FRAMES, Outlet
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.publish import Publisher
from aerial_runtime.track import Tracker

TARGET = Target(Box(1, 2, 3, 4), 16, 0.9, {"kind": Attribute("plain", 0.8)})


def frame(index=0):
    return Frame(np.zeros((6, 8, 3), np.uint8), f"f{index}.png", index, time.time_ns(), time.monotonic_ns())


def result(*targets):
    return PipelineResult(list(targets), len(targets), 0, segment_ms=1.5, classify_ms=0.5, total_ms=2.0)


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/socket"


@pytest.fixture
def monitor():
    return HealthMonitor("cam0")


def messages_of(monitor, *puts, source="cam0", models=None):
    """Return the messages of an outlet that is given these frames and results."""
    messages = []
    with Outlet(
        source, models or {}, None, None, monitor, lossless=True, on_message=[lambda m, r: messages.append(m)]
    ) as outlet:
        for put in puts:
            outlet.put(*put)
    return messages


def test_socket_and_file_get_the_same_numbered_messages(tmp_path, endpoint, monitor):
    path = tmp_path / "out.jsonl"
    with Publisher([endpoint]) as publisher, JsonlWriter(path, monitor=monitor) as writer:
        with Subscriber(endpoint, timeout_s=5) as subscriber:
            with Outlet("cam0", {"segmenter": "sha256:1"}, publisher, writer, monitor) as outlet:
                outlet.put(frame(0), result(), 0)
                heard = [(next(subscriber), subscriber.payload)]  # as a late joiner, then as it comes
                for index, dropped in enumerate([3, 3, 5], start=1):
                    outlet.put(frame(index), result(TARGET) if index == 1 else result(), dropped)
                heard += [(next(subscriber), subscriber.payload) for _ in range(3)]
    assert path.read_bytes().splitlines() == [payload for _, payload in heard]
    messages = [message for message, _ in heard]
    assert [message.sequence for message in messages] == [0, 1, 2, 3]
    assert [message.dropped for message in messages] == [0, 3, 0, 2]
    assert [message.targets for message in messages] == [[], [TARGET], [], []]
    assert [message.frame.index for message in messages] == [0, 1, 2, 3]


def test_the_wire_object_is_the_documented_one(monitor):
    before_ns = time.time_ns()
    picture = frame(7)
    models = {"segmenter": "sha256:1", "classifier": "sha256:2"}
    (sent,) = messages_of(monitor, (picture, result(TARGET), 0), models=models)
    message = json.loads(msgspec.json.encode(sent))
    assert before_ns <= message.pop("sent_utc_ns") <= time.time_ns()
    assert 0 <= message["timing_ms"].pop("age") < 1000
    assert message == {
        "schema": "aerial.detections/1",
        "source": "cam0",
        "sequence": 0,
        "frame": {
            "name": "f7.png",
            "index": 7,
            "width": 8,
            "height": 6,
            "captured_utc_ns": picture.captured_utc_ns,
            "captured_mono_ns": picture.captured_mono_ns,
        },
        "timing_ms": {"segment": 1.5, "classify": 0.5, "total": 2.0},
        "dropped": 0,
        "models": models,
        "targets": [
            {
                "box": {"x": 1, "y": 2, "width": 3, "height": 4},
                "area_px": 16,
                "confidence": 0.9,
                "attributes": {"kind": {"label": "plain", "confidence": 0.8}},
            }
        ],
    }


def test_a_name_that_is_no_utf8_is_escaped(monitor):
    picture = Frame(np.zeros((6, 8, 3), np.uint8), "f\udcff.png", 0, 0, 0)
    (message,) = messages_of(monitor, (picture, result(), 0), source="cam\udcff")
    assert (message.source, message.frame.name) == ("cam\\udcff", "f\\udcff.png")


def test_the_monitor_is_told(monitor):
    messages_of(monitor, *((frame(index), result(), 0) for index in range(3)))
    health = monitor.look()
    assert health.frames == 3
    assert health.stage_ms == {"segment": 1.5, "classify": 0.5, "total": 2.0}


def test_health_comes_once_a_second_without_any_frame(endpoint, monitor):
    with Publisher([endpoint]) as publisher, Subscriber(endpoint, ["health"], timeout_s=5) as subscriber:
        with Outlet("cam0", {}, publisher, None, monitor):
            monitor.state_is("running")
            next(subscriber)
            heard = [next(subscriber) for _ in range(4)]
            monitor.state_is("stopping")
        assert [health.state for health in heard[:2]] == ["running"] * 2
        waits_s = np.diff([health.sent_mono_ns for health in heard]) / 1e9
        assert 0.75 < np.median(waits_s) < 1.25  # a busy machine sends one late, and the next in its time
        while next(subscriber).state != "stopping":  # the last words
            pass
    assert subscriber.gaps == 0


def test_a_live_frame_for_which_there_is_no_room_is_counted(monkeypatch, monitor):
    monkeypatch.setattr(outlet_module, "PUT_S", 0.05)
    busy, gate = threading.Event(), threading.Event()

    def hold(message, result):
        busy.set()
        gate.wait(10)

    with Outlet("cam0", {}, None, None, monitor, on_message=[hold]) as outlet:
        outlet.put(frame(), result(), 0)
        assert busy.wait(5)
        start = time.monotonic()
        for _ in range(QUEUE_FRAMES + 3):
            outlet.put(frame(), result(), 0)
        assert 0.15 < time.monotonic() - start < 1
        gate.set()
    health = monitor.look()
    assert (health.frames, health.unsent) == (QUEUE_FRAMES + 1, 3)


def test_lossless_waits_until_stop(monkeypatch, monitor):
    monkeypatch.setattr(outlet_module, "PUT_S", 0.02)
    stop = threading.Event()
    messages = []

    def slow(message, result):
        time.sleep(0.05)
        messages.append(message)

    with Outlet("cam0", {}, None, None, monitor, lossless=True, on_message=[slow], stop=stop) as outlet:
        for index in range(12):
            outlet.put(frame(index), result(), 0)
    assert [message.frame.index for message in messages] == list(range(12))

    gate = threading.Event()
    with Outlet(
        "cam0", {}, None, None, monitor, lossless=True, on_message=[lambda m, r: gate.wait(10)], stop=stop
    ) as outlet:
        threading.Timer(0.2, stop.set).start()
        for index in range(QUEUE_FRAMES + 2):  # one in the thread's hands
            outlet.put(frame(index), result(), 0)
        assert stop.is_set()
        gate.set()
    assert monitor.look().unsent == 1


def test_the_last_frames_of_files_are_waited_for_until_stop(monkeypatch, monitor):
    """A pager that nobody scrolls, or pictures of 20 megapixels that become PNGs: what is queued takes its time."""
    monkeypatch.setattr(outlet_module, "CLOSE_S", 0.05)
    flown, gate, stop = [], threading.Event(), threading.Event()

    def slow(message, result):
        time.sleep(0.1)
        flown.append(message.frame.index)

    with Outlet("cam0", {}, None, None, monitor, lossless=True, on_message=[slow], stop=stop) as outlet:
        for index in range(QUEUE_FRAMES):
            outlet.put(frame(index), result(), 0)
    assert flown == list(range(QUEUE_FRAMES))
    assert monitor.look().unsent == 0

    outlet = Outlet("cam0", {}, None, None, monitor, lossless=True, on_message=[lambda *_: gate.wait(10)], stop=stop)
    with outlet:
        outlet.put(frame(), result(), 0)
        threading.Timer(0.2, stop.set).start()
        start = time.monotonic()
    assert 0.1 < time.monotonic() - start < 5
    gate.set()


@pytest.mark.parametrize("lossless", [False, True])
def test_what_ends_the_thread_is_raised_where_the_flight_is(monkeypatch, monitor, lossless):
    monkeypatch.setattr(outlet_module, "PUT_S", 0.05)

    def broken(message, result):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with Outlet("cam0", {}, None, None, monitor, lossless=lossless, on_message=[broken]) as outlet:
            for _ in range(QUEUE_FRAMES + 3):
                outlet.put(frame(), result(), 0)
    with pytest.raises(ZeroDivisionError):
        with Outlet("cam0", {}, None, None, monitor, lossless=lossless, on_message=[broken]) as outlet:
            outlet.put(frame(), result(), 0)


def test_a_console_that_takes_nothing_does_not_hold_up_the_end(monkeypatch, monitor):
    monkeypatch.setattr(outlet_module, "CLOSE_S", 0.1)
    gate = threading.Event()
    start = time.monotonic()
    with Outlet("cam0", {}, None, None, monitor, on_message=[lambda m, r: gate.wait(10)]) as outlet:
        for _ in range(3):
            outlet.put(frame(), result(), 0)
    assert time.monotonic() - start < 1
    assert monitor.look().unsent >= 2
    gate.set()


def test_crops_are_parts_of_the_message_and_frames_stay_as_they_are(endpoint, monitor):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (480, 640, 3), np.uint8)
    before = image.copy()
    image.setflags(write=False)
    targets = [
        Target(Box(100, 100, 30, 20), 1, confidence, {"kind": Attribute("plain", 0.8)}) for confidence in (0.5, 0.9)
    ]
    with Publisher([endpoint]) as publisher, Subscriber(endpoint, timeout_s=5) as subscriber:
        with Outlet("cam0", {}, publisher, None, monitor, crops=CropBudget(1_000_000, 1.3)) as outlet:
            outlet.put(Frame(image, "f", 0, 0, time.monotonic_ns()), result(*targets), 0)
            message = next(subscriber)
            assert isinstance(message, Detections) and len(message.targets) == 2
            sizes = [cv2.imdecode(np.frombuffer(crop, np.uint8), 1).shape for crop in subscriber.crops]
            outlet.put(frame(1), result(), 0)
            next(subscriber)
            assert subscriber.crops == []
    assert sizes == [(39, 39, 3)] * 2
    assert np.array_equal(image, before)


def test_a_subscriber_that_never_reads_delays_no_frame(endpoint, monitor):
    with Publisher([endpoint]) as publisher, zmq.Context() as context, context.socket(zmq.SUB) as sleeper:
        sleeper.set(zmq.RCVHWM, 1)
        sleeper.subscribe(b"")
        sleeper.connect(endpoint)
        messages = []
        with Outlet("cam0", {}, publisher, None, monitor, on_message=[lambda m, r: messages.append(m)]) as outlet:
            for index in range(2000):
                outlet.put(frame(index), result(*[TARGET] * 50), 0)
    assert len(messages) == 2000
    assert monitor.look().unsent == 0


def test_track_ids_stand_in_the_messages_and_events_have_their_topic(tmp_path, endpoint, monitor):
    path = tmp_path / "out.jsonl"
    tracker = Tracker(load_label_space("suas"))
    targets = [Target(Box(x, 100, 40, 40), 1600, 0.9, {}) for x in (100, 300)]
    with Publisher([endpoint]) as publisher, Subscriber(endpoint, ["targets"], timeout_s=5) as subscriber:
        with JsonlWriter(path, monitor=monitor) as writer:
            with Outlet("cam0", {}, publisher, writer, monitor, tracker=tracker, lossless=True) as outlet:
                for index in range(3):
                    picture = Frame(np.zeros((480, 640, 3), np.uint8), "f", index, 0, time.monotonic_ns())
                    outlet.put(picture, result(*targets) if index == 1 else result(), 0)
                heard = [next(subscriber)]
            heard.append(next(subscriber))
    ids = [[target["track_id"] for target in json.loads(line)["targets"]] for line in path.read_bytes().splitlines()]
    assert ids == [[], [1, 2], []]
    assert [message.sequence for message in heard] == [0, 1]
    events = [[(event.event, event.target.track_id) for event in message.events] for message in heard]
    assert events == [[("new", 1), ("new", 2)], [("final", 1), ("final", 2)]]
    assert heard[0].events[0].target.last.box == targets[0].box
    assert json.loads(subscriber.payload)["schema"] == "aerial.targets/1"

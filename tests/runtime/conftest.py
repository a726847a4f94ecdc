"""For the tests of capture: the cameras and the monitor of fake_camera.py, and seconds made short. For those of the
daemon: its flights. For those of publishing: a socket's place and listeners. For those of recordings: a recorder."""

from __future__ import annotations

import os
from functools import partial

import cv2
import pytest
import zmq
from daemon_kit import PINK, RED, FakeCamera
from fake_camera import Cameras, Told
from record_kit import make_recorder

from aerial_runtime import capture as capture_module
from aerial_runtime import reader as reader_module
from aerial_runtime.health import HealthMonitor


@pytest.fixture
def cameras():
    cameras = Cameras()
    yield cameras
    cameras.released.set()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def quick_capture(monkeypatch):
    """Shorten what would be seconds."""
    monkeypatch.setattr(capture_module, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(capture_module, "LONGEST_DELAY_S", 0.1)
    monkeypatch.setattr(capture_module, "START_S", 0.3)
    monkeypatch.setattr(reader_module, "ENDS_S", 0.05)
    monkeypatch.setattr(reader_module, "CLOSED_S", 0.02)


@pytest.fixture
def flight(tmp_path, kit):
    """A folder of four frames with 1, 0, 2 and 1 targets, in as many sizes."""
    folder = tmp_path / "flight"
    folder.mkdir()
    frames = [
        kit.frame(64, 48, (8, 8, 8, RED)),
        kit.frame(64, 48),
        kit.frame(80, 60, (0, 0, 12, PINK), (40, 20, 16, RED)),
        kit.frame(33, 21, (28, 16, 8, RED)),
    ]
    for index, image_bgr in enumerate(frames):
        cv2.imwrite(str(folder / f"f{index}.png"), image_bgr)
    return folder


@pytest.fixture
def long_flight(tmp_path, kit):
    """A folder of 3000 links to one frame: some seconds of work."""
    folder = tmp_path / "long"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "frame.png"), kit.frame(640, 480, (8, 8, 16, RED)))
    for index in range(3000):
        os.link(tmp_path / "frame.png", folder / f"{index:04}.png")
    return folder


@pytest.fixture
def camera(kit, monkeypatch):
    """A camera of one target a frame, lost once; how often it was opened."""
    monkeypatch.setattr(FakeCamera, "opened", 0)
    FakeCamera.may_stop.set()
    image_bgr = kit.frame(64, 48, (16, 16, 16, RED))
    monkeypatch.setattr("aerial_runtime.daemon.open_source", lambda *_: FakeCamera(image_bgr))
    return FakeCamera


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/socket"


@pytest.fixture
def listen():
    """Make subscribers to an endpoint: with a small queue, so that a slow one's messages wait at the publisher."""
    subscribers = []
    with zmq.Context() as context:

        def connect(endpoint, topic=b"", keys=None):
            subscriber = context.socket(zmq.SUB)
            subscribers.append(subscriber)
            subscriber.set(zmq.RCVTIMEO, 5000)
            subscriber.set(zmq.RCVHWM, 10)
            subscriber.set(zmq.LINGER, 0)
            if keys is not None:
                server, public, secret = keys
                subscriber.set(zmq.CURVE_SERVERKEY, server)
                subscriber.set(zmq.CURVE_PUBLICKEY, public)
                subscriber.set(zmq.CURVE_SECRETKEY, secret)
            subscriber.set(zmq.SUBSCRIBE, topic)
            subscriber.connect(endpoint)
            return subscriber

        yield connect
        for subscriber in subscribers:
            subscriber.close()


@pytest.fixture
def monitor():
    """What a flight tells of itself."""
    return HealthMonitor("cam0")


@pytest.fixture
def path(tmp_path):
    """Where the recording goes."""
    return tmp_path / "flight.mcap"


@pytest.fixture
def recorder_of(path, monitor):
    """Make a recorder, by its options."""
    return partial(make_recorder, path, monitor)

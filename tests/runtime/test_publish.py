"""Messages on a real socket and lines in a real file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from aerial_runtime.contract import Attribute, Box, Detections, Frame, Target
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.publish import JsonlWriter, Outlet, Publisher

TARGET = Target(Box(1, 2, 3, 4), 16, 0.9, {"kind": Attribute("plain", 0.8)})


def frame(index=0):
    return Frame(np.zeros((6, 8, 3), np.uint8), f"f{index}.png", index, time.time_ns(), time.monotonic_ns())


def result(*targets):
    return PipelineResult(list(targets), len(targets), 0, segment_ms=1.5, classify_ms=0.5, total_ms=2.0)


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/socket"


@pytest.fixture
def listener(endpoint):
    """A subscriber that has surely arrived once `publisher` below has sent."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVTIMEO, 5000)
        socket.set(zmq.RCVHWM, 10)  # small, so that a slow listener's messages wait at the publisher
        socket.set(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        yield socket


def until_heard(publisher, listener):
    """Send until the subscription has reached the publisher."""
    for _ in range(500):
        publisher.send(b"hello")
        if listener.poll(10):
            break
    while listener.poll(50):
        listener.recv_multipart()


def test_topic_and_payload(endpoint, listener):
    with Publisher(endpoint) as publisher:
        until_heard(publisher, listener)
        publisher.send(b"payload")
        assert listener.recv_multipart() == [b"detections", b"payload"]


def test_never_waits_for_a_listener_that_does_not_read(endpoint, listener):
    with Publisher(endpoint) as publisher:
        until_heard(publisher, listener)
        start = time.monotonic()
        for _ in range(2000):
            publisher.send(b"x" * 100_000)
        assert time.monotonic() - start < 3
        heard = 0
        while listener.poll(200):
            listener.recv_multipart()
            heard += 1
    assert 0 < heard < 1000  # what waits for a slow listener is bounded, the rest is lost


def test_a_busy_port_is_named():
    with Publisher("tcp://127.0.0.1:*") as first:
        endpoint = first._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        with pytest.raises(ResourceError, match=f"the endpoint {endpoint} is in use"):
            Publisher(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["nonsense", "foo://1", "tcp://127.0.0.1:port", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:5556x", "tcp://[::1]:-1"],
)
def test_what_is_no_endpoint_is_named(endpoint):
    with pytest.raises(UsageError, match=re.escape(f"--bind '{endpoint}' is not an endpoint")):
        Publisher(endpoint)


@pytest.mark.parametrize("port", ["*", "0"])
def test_a_free_port_can_be_asked_for(port):
    Publisher(f"tcp://127.0.0.1:{port}").close()


def test_a_name_that_is_no_utf8_is_escaped():
    picture = Frame(np.zeros((6, 8, 3), np.uint8), "f\udcff.png", 0, 0, 0)
    assert Outlet("cam\udcff", {}, None, None).publish(picture, result(), 0).frame.name == "f\\udcff.png"


def test_an_address_that_is_not_ours_is_named():
    with pytest.raises(ResourceError, match=r"cannot bind to tcp://192\.0\.2\.1:5556"):
        Publisher("tcp://192.0.2.1:5556")


def test_socket_and_file_get_the_same_numbered_messages(tmp_path, endpoint, listener):
    path = tmp_path / "out.jsonl"
    with Publisher(endpoint) as publisher, JsonlWriter(path) as writer:
        until_heard(publisher, listener)
        outlet = Outlet("cam0", {"segmenter": "sha256:1"}, publisher, writer)
        for index, dropped in enumerate([0, 3, 3, 5]):
            outlet.publish(frame(index), result(TARGET) if index == 1 else result(), dropped)
        heard = [listener.recv_multipart()[1] for _ in range(4)]
    assert path.read_bytes().splitlines() == heard
    messages = [msgspec.json.decode(payload, type=Detections) for payload in heard]
    assert [message.sequence for message in messages] == [0, 1, 2, 3]
    assert [message.dropped for message in messages] == [0, 3, 0, 2]
    assert [message.targets for message in messages] == [[], [TARGET], [], []]


def test_the_wire_object_is_the_documented_one():
    outlet = Outlet("cam0", {"segmenter": "sha256:1", "classifier": "sha256:2"}, None, None)
    before_ns = time.time_ns()
    picture = frame(7)
    message = json.loads(msgspec.json.encode(outlet.publish(picture, result(TARGET), 0)))
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
        "models": {"segmenter": "sha256:1", "classifier": "sha256:2"},
        "targets": [
            {
                "box": {"x": 1, "y": 2, "width": 3, "height": 4},
                "area_px": 16,
                "confidence": 0.9,
                "attributes": {"kind": {"label": "plain", "confidence": 0.8}},
            }
        ],
    }


def test_an_existing_output_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    with pytest.raises(UsageError, match=r"out\.jsonl exists; give --overwrite"):
        JsonlWriter(path)
    assert path.read_text() == "old\n"
    with JsonlWriter(path, overwrite=True) as writer:
        assert path.read_text() == "old\n"
        writer.write(b"new")
        writer.write(b"newer")
    assert path.read_text() == "new\nnewer\n"


def test_nothing_written_leaves_no_file(tmp_path):
    for overwrite in (False, True):
        JsonlWriter(tmp_path / "out.jsonl", overwrite).close()
        assert list(tmp_path.iterdir()) == []


def test_an_output_can_be_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    with JsonlWriter(tmp_path / "pipe", overwrite=True) as writer:
        writer.write(b"{}")
    assert reader.communicate(timeout=10)[0] == b"{}\n"


def test_a_line_is_there_when_write_returns(tmp_path):
    path = tmp_path / "out.jsonl"
    with JsonlWriter(path) as writer:
        for count in (1, 2, 3):
            writer.write(b"{}")
            assert path.read_bytes() == b"{}\n" * count


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    for path in (tmp_path / "no_folder" / "out.jsonl", tmp_path):
        with pytest.raises((ResourceError, UsageError), match=str(path)):
            JsonlWriter(path)
    with JsonlWriter(Path("/dev/full"), overwrite=True) as writer:
        with pytest.raises(ResourceError, match="No space left"):
            writer.write(b"{}")


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "out.jsonl"
    script = (
        "import resource, signal, sys; from pathlib import Path; from aerial_runtime.publish import JsonlWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "writer = JsonlWriter(Path(sys.argv[1]))\n"
        "try:\n    while True: writer.write(b'x' * 299)\n"
        "except Exception as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert str(path) in answer.stdout
    assert path.read_bytes() == (b"x" * 299 + b"\n") * 3

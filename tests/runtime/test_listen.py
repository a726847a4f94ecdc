"""`aerial-listen` against a real publisher."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest
import zmq

from aerial_runtime.contract import (
    Attribute,
    Box,
    Detections,
    FrameInfo,
    FusedAttribute,
    Sighting,
    Target,
    TargetEvent,
    TargetEvents,
    TimingMs,
    TrackedTarget,
)
from aerial_runtime.health import HealthMonitor
from aerial_runtime.keys import load_curve_server
from aerial_runtime.keys import main as keygen
from aerial_runtime.listen import main
from aerial_runtime.publish import DETECTIONS, HEALTH, TARGETS, Publisher

LISTEN = [sys.executable, "-c", "import sys; from aerial_runtime.listen import main; sys.exit(main())"]
ATTRIBUTES = {
    "shape": Attribute("star", 0.9),
    "letter": Attribute(None, 0.2),
    "orientation": Attribute("NE", 0.9, degrees=41.5),
}


def message(sequence, targets=1):
    frame = FrameInfo(f"f{sequence}.png", sequence, 64, 48, 0, 0)
    target = Target(Box(100, 80, 31, 29), 610, 0.97, ATTRIBUTES)
    return Detections("cam0", sequence, 0, frame, TimingMs(1, 1, 1, 2), 0, {}, [target] * targets)


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/socket"


@pytest.fixture
def publishing(endpoint):
    """Publish the given payloads over and over until the test ends."""
    stop = threading.Event()
    threads = []

    def publish(*payloads, topic=DETECTIONS):
        def loop():
            with Publisher([endpoint]) as publisher:
                while not stop.is_set():
                    for payload in payloads:
                        publisher.send(topic, [payload])
                        time.sleep(0.005)

        threads.append(threading.Thread(target=loop))
        threads[-1].start()

    yield publish
    stop.set()
    for thread in threads:
        thread.join()


def test_one_readable_line_per_target(endpoint, publishing, capsys):
    publishing(msgspec.json.encode(message(7, targets=2)))
    assert main(["--connect", endpoint, "--count", "1", "--timeout", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["#7 f7.png  31x29 px at 100,80  0.97  star/?/NE 42°"] * 2


def test_json_is_the_message_as_it_came(endpoint, publishing, capsys):
    payloads = [msgspec.json.encode(message(sequence, targets=0)) for sequence in (7, 8)]
    publishing(*payloads)
    assert main(["--connect", endpoint, "--json", "--count", "2", "--timeout", "10"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [payload.decode() for payload in payloads]


def test_gaps_restarts_and_strange_messages_are_noted(endpoint, publishing, capsys):
    publishing(*(msgspec.json.encode(message(sequence)) for sequence in (0, 1, 5)), b'{"schema": "aerial.other/1"}')
    assert main(["--connect", endpoint, "--count", "7", "--timeout", "10"]) == 0
    err = capsys.readouterr().err
    assert "aerial-listen: 3 messages of cam0 lost\n" in err
    assert "aerial-listen: cam0 has started again\n" in err
    assert "aerial-listen: a message that is not aerial.detections/1: " in err


def test_health_is_a_line(endpoint, publishing, capsys):
    monitor = HealthMonitor("cam0")
    monitor.state_is("running")
    monitor.frame(61.2, 1, 1, 2)
    monitor.count(dropped=3)
    monitor.reason("camera-lost", "no picture for 2 s")
    publishing(msgspec.json.encode(monitor.snapshot()), topic=HEALTH)
    assert main(["--connect", endpoint, "--topic", "health", "--count", "1", "--timeout", "10"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "cam0 degraded  1 frames  1.0 frames/s  age 61 ms, p95 61 ms  3 dropped  camera-lost: no picture for 2 s"
    )


def test_several_topics_at_once(endpoint, publishing, capsys):
    publishing(msgspec.json.encode(HealthMonitor("cam0").snapshot()), topic=HEALTH)
    assert main(["--connect", endpoint, "--topic", "detections", "--topic", "health", "--count", "1"]) == 0
    assert capsys.readouterr().out == "cam0 starting  0 frames  0.0 frames/s\n"


def test_keys_reach_the_link(tmp_path, capsys):
    assert keygen([str(tmp_path), "--client", "ground"]) == 0
    curve = load_curve_server(tmp_path / "server.key_secret", tmp_path / "clients")
    server, ours = str(tmp_path / "server.key"), str(tmp_path / "ground.key_secret")
    with Publisher(["tcp://0.0.0.0:*"], curve=curve) as publisher:
        done, sequence = threading.Event(), itertools.count()

        def send():
            while not done.wait(0.02):
                publisher.send(DETECTIONS, [msgspec.json.encode(message(next(sequence)))])

        sender = threading.Thread(target=send)
        sender.start()
        reach = publisher.endpoints[0].replace("0.0.0.0", "127.0.0.1")
        listen = ["--connect", reach, "--count", "1", "--timeout"]
        assert main([*listen, "10", "--server-key", server, "--client-key", ours]) == 0
        assert main([*listen, "10"]) == 5
        assert "one end uses keys, the other does not; check --server-key and" in capsys.readouterr().err
        assert keygen([str(tmp_path / "new"), "--client", "ground"]) == 0
        other = str(tmp_path / "new" / "ground.key_secret")
        assert main([*listen, "10", "--server-key", server, "--client-key", other]) == 5
        assert f"the daemon at {reach} refuses our key" in capsys.readouterr().err
        done.set()
        sender.join()


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--server-key", "missing", "--client-key", "missing"], 3),
        (["--server-key", "missing"], 2),
        (["--topic", "nothing"], 2),
    ],
)
def test_keys_and_topics_that_cannot_be_are_named(endpoint, flags, code, capsys):
    assert main(["--connect", endpoint, *flags]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert flags[0] in line


def test_unknown_fields_of_a_later_daemon_are_taken(endpoint, publishing, capsys):
    later = msgspec.to_builtins(message(3)) | {"track_file": "new"}
    publishing(msgspec.json.encode(later))
    assert main(["--connect", endpoint, "--count", "1", "--timeout", "10"]) == 0
    assert capsys.readouterr().err == ""


def test_silence_is_an_error_that_names_the_endpoint(endpoint, capsys):
    assert main(["--connect", endpoint, "--timeout", "0.1"]) == 5
    assert f"heard 0 messages on {endpoint}, then none for 0.1 s" in capsys.readouterr().err


def test_the_end_of_a_flight_is_no_error(endpoint, capsys):
    publisher = Publisher([endpoint])
    payloads = [msgspec.json.encode(message(sequence)) for sequence in range(50)]
    sender = threading.Thread(
        target=lambda: [(publisher.send(DETECTIONS, [payload]), time.sleep(0.02)) for payload in payloads]
    )
    sender.start()
    assert main(["--connect", endpoint, "--timeout", "0.5"]) == 0
    sender.join()
    publisher.close()


def test_a_bad_endpoint_is_a_usage_error(capsys):
    assert main(["--connect", "localhost"]) == 2
    assert "--connect 'localhost' is not an endpoint" in capsys.readouterr().err


def test_a_message_of_one_part_is_noted(endpoint, capsys):
    def send(socket):
        while not done.wait(0.02):
            socket.send(b"detections")
            socket.send_multipart([b"detections", msgspec.json.encode(message(next(sequence)))])

    done, sequence = threading.Event(), itertools.count()
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.bind(endpoint)
        sender = threading.Thread(target=send, args=(socket,))
        sender.start()
        assert main(["--connect", endpoint, "--count", "2", "--timeout", "10"]) == 0
        done.set()
        sender.join()
    assert "aerial-listen: a message that is not aerial.detections/1: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        *(["--timeout", seconds] for seconds in ("nan", "inf", "1e12", "0", "-1", "soon")),
        *(["--count", count] for count in ("0", "-1", "many")),
        ["--connect", "tcp://127.0.0.1:99999"],
    ],
)
def test_what_cannot_be_is_a_usage_error(flags, capsys):
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert flags[0] in line and flags[1] in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_the_usual_end(endpoint, publishing, number):
    publishing(msgspec.json.encode(message(0)))
    process = subprocess.Popen(
        [*LISTEN, "--connect", endpoint], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().startswith("#0 f0.png")
        process.send_signal(number)
        process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0


def test_a_line_per_event_of_a_target(endpoint, publishing, capsys):
    sighting = Sighting("f7.png", 7, 0, 0, Box(100, 80, 31, 29))
    attributes = {
        "letter": FusedAttribute("A", 0.99, 0.75),
        "orientation": FusedAttribute("NE", 0.9, 1.0, degrees=41.5),
    }
    target = TrackedTarget(3, 4, 0.97, attributes, sighting, sighting, sighting)
    events = TargetEvents("cam0", 0, 0, [TargetEvent(event, target) for event in ("updated", "final")])
    publishing(msgspec.json.encode(events), topic=TARGETS)
    assert main(["--connect", endpoint, "--topic", "targets", "--count", "1", "--timeout", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "updated target 3  A/NE 42°  0.97  4 sightings  31x29 px at 100,80 in f7.png",
        "final   target 3  A/NE 42°  0.97  4 sightings  31x29 px at 100,80 in f7.png",
    ]

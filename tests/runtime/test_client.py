"""The client library against real publishers: what it hears, what it misses, what it survives."""

from __future__ import annotations

import time

import msgspec
import pytest
import zmq

from aerial_runtime.client import Subscriber
from aerial_runtime.contract import Box, Detections, FrameInfo, Target, TimingMs
from aerial_runtime.health import HealthMonitor
from aerial_runtime.keys import load_curve_server
from aerial_runtime.keys import main as keygen
from aerial_runtime.publish import DETECTIONS, HEALTH, Publisher


def message(sequence, source="cam0"):
    frame = FrameInfo(f"f{sequence}.png", sequence, 64, 48, 0, 0)
    target = Target(Box(100, 80, 31, 29), 610, 0.97, {})
    return Detections(source, sequence, time.time_ns(), frame, TimingMs(1, 1, 1, 2), 0, {}, [target])


def send(publisher, *sequences, source="cam0", crops=()):
    for sequence in sequences:
        publisher.send(DETECTIONS, [msgspec.json.encode(message(sequence, source)), *crops])


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/socket"


@pytest.fixture
def publisher(endpoint):
    with Publisher([endpoint]) as publisher:
        yield publisher


@pytest.fixture
def troubles():
    return []


@pytest.fixture
def subscriber(endpoint, publisher, troubles):
    """A subscriber that has had message 0."""
    with Subscriber(endpoint, ["detections", "health"], timeout_s=0.5, on_trouble=troubles.append) as subscriber:
        send(publisher, 0)
        first_heard(publisher, subscriber)
        yield subscriber


def first_heard(publisher, subscriber):
    """Let a subscription arrive: its first message is the last one sent before."""
    for _ in range(200):
        publisher.repeat()
        if subscriber._socket.poll(20):
            return next(subscriber)
    raise AssertionError("the subscription has not arrived")


def sequences(subscriber):
    """Return what comes until nothing comes."""
    heard = []
    while True:
        try:
            heard.append(next(subscriber).sequence)
        except TimeoutError:
            return heard


def test_messages_are_typed_and_crops_are_beside_them(publisher, subscriber):
    send(publisher, 1, crops=[b"jpeg"])
    heard = next(subscriber)
    assert isinstance(heard, Detections) and heard.targets[0].box == Box(100, 80, 31, 29)
    assert subscriber.crops == [b"jpeg"]
    assert msgspec.json.decode(subscriber.payload, type=Detections) == heard
    health = HealthMonitor("cam0").snapshot()
    publisher.send(HEALTH, [msgspec.json.encode(health)])
    assert next(subscriber) == health
    assert subscriber.crops == []


def test_it_is_an_iterator(publisher, subscriber):
    send(publisher, 1, 2, 3)
    heard = []
    with pytest.raises(TimeoutError, match=r"no message for 0\.5 s"):
        for message in subscriber:
            heard.append(message.sequence)
    assert heard == [1, 2, 3]


def test_gaps_are_counted_per_source(publisher, subscriber, troubles):
    send(publisher, 1, 5)
    send(publisher, 100, 101, source="cam1")
    send(publisher, 6)
    assert sequences(subscriber) == [1, 5, 100, 101, 6]
    assert (subscriber.gaps, subscriber.restarts) == (3, 0)
    assert troubles == ["3 messages of cam0 lost"]


def test_repeats_are_dropped(endpoint, publisher, subscriber):
    send(publisher, 1)
    assert next(subscriber).sequence == 1
    with Subscriber(endpoint, timeout_s=0.5) as late:
        assert first_heard(publisher, late).sequence == 1
        assert sequences(subscriber) == []
        send(publisher, 2)
        assert sequences(subscriber) == sequences(late) == [2]
    assert subscriber.gaps == subscriber.restarts == 0


@pytest.mark.parametrize("again", [[0, 1], [2, 3], [1, 2]])
def test_a_restart_is_noticed_once(endpoint, troubles, again):
    """Also where the new daemon's first number that we hear is the old one's last."""
    with Subscriber(endpoint, ["detections", "health"], timeout_s=1, on_trouble=troubles.append) as subscriber:
        for numbers in ([0, 1, 2], again):
            with Publisher([endpoint]) as publisher:
                send(publisher, numbers[0])
                publisher.send(HEALTH, [msgspec.json.encode(HealthMonitor("cam0").snapshot())])
                assert {first_heard(publisher, subscriber).sequence, next(subscriber).sequence} == {numbers[0], 0}
                send(publisher, *numbers[1:])
                assert sequences(subscriber) == numbers[1:]
    assert (subscriber.restarts, subscriber.gaps) == (1, 0)
    assert troubles == ["cam0 has started again"]


def test_a_daemon_that_starts_later_is_waited_for(endpoint):
    with Subscriber(endpoint, timeout_s=5) as subscriber:
        time.sleep(0.2)
        with Publisher([endpoint]) as publisher:
            send(publisher, 7)
            assert first_heard(publisher, subscriber).sequence == 7


def test_strange_messages_are_counted_and_survived(publisher, subscriber, troubles):
    publisher.send(DETECTIONS, [b"{"])
    publisher.send(DETECTIONS, [b'{"schema": "aerial.other/1"}'])
    publisher.send(DETECTIONS, [])
    publisher.send(DETECTIONS, [b'{"schema": "\xff"}'])
    publisher.send(DETECTIONS, [b'{"x": ' + b"[" * 100_000])
    publisher.send(b"detections2", [b"{}"])  # of a later daemon
    send(publisher, 1)
    assert next(subscriber).sequence == 1
    assert subscriber.strange == 5
    assert [trouble.partition(":")[0] for trouble in troubles] == ["a message that is not aerial.detections/1"] * 5


def test_a_reader_that_sleeps_loses_messages_and_knows_how_many(endpoint, publisher, monkeypatch):
    monkeypatch.setattr("aerial_runtime.client.QUEUE_MESSAGES", 5)
    with Subscriber(endpoint, timeout_s=0.5) as subscriber:
        send(publisher, 0)
        first_heard(publisher, subscriber)
        payload = b" " * 100_000
        for sequence in range(1, 1000):
            publisher.send(DETECTIONS, [msgspec.json.encode(message(sequence)) + payload])
        heard = sequences(subscriber)
        publisher.send(DETECTIONS, [msgspec.json.encode(message(1000))])
        heard += sequences(subscriber)
    assert heard[-1] == 1000 and len(heard) < 500
    assert subscriber.gaps == 1000 - len(heard)


@pytest.fixture
def encrypted(tmp_path):
    """A publisher on all addresses with message 0, how to reach it, and the files of its keys and of strangers'."""
    for folder in (tmp_path, tmp_path / "new"):
        assert keygen([str(folder), "--client", "ground"]) == 0
    curve = load_curve_server(tmp_path / "server.key_secret", tmp_path / "clients")
    with Publisher(["tcp://0.0.0.0:*"], curve=curve) as publisher:
        send(publisher, 0)
        yield publisher, publisher.endpoints[0].replace("0.0.0.0", "127.0.0.1")


def keys(tmp_path, server="server.key", client="ground.key_secret"):
    return {"server_key": tmp_path / server, "client_keys": str(tmp_path / client)}


def test_a_link_with_keys(tmp_path, encrypted):
    publisher, reach = encrypted
    with Subscriber(reach, timeout_s=5, **keys(tmp_path)) as subscriber:
        assert first_heard(publisher, subscriber).sequence == 0
        send(publisher, 1)
        assert next(subscriber).sequence == 1


@pytest.mark.parametrize(
    ("mine", "why"),
    [
        ({"client": "new/ground.key_secret"}, "refuses our key; it must be among its allowed clients"),
        (None, "one end uses keys, the other does not"),
    ],
)
def test_who_is_refused_is_told_and_hears_nothing(tmp_path, encrypted, troubles, mine, why):
    publisher, reach = encrypted
    link = {} if mine is None else keys(tmp_path, **mine)
    with Subscriber(reach, timeout_s=5, on_trouble=troubles.append, **link) as subscriber:
        with pytest.raises(PermissionError, match=why):
            next(subscriber)
        assert troubles == []
        for _ in range(20):
            send(publisher, 1)
            publisher.repeat()
            assert not subscriber._socket.poll(10)


def test_keys_at_a_daemon_without_are_told(tmp_path, endpoint, publisher):
    keygen([str(tmp_path), "--client", "ground"])
    with Subscriber(endpoint, timeout_s=5, **keys(tmp_path)) as subscriber:
        with pytest.raises(PermissionError, match="one end uses keys, the other does not"):
            next(subscriber)


def test_the_key_of_another_server_is_told_once(tmp_path, encrypted, troubles):
    _, reach = encrypted
    link = keys(tmp_path, server="new/server.key")
    with Subscriber(reach, timeout_s=0.6, on_trouble=troubles.append, **link) as subscriber:
        with pytest.raises(TimeoutError):
            next(subscriber)
    assert troubles == [f"the daemon at {reach} does not answer; is this the server key of that one?"]


def test_arguments_that_cannot_be_are_named(tmp_path, endpoint):
    keygen([str(tmp_path), "--client", "ground"])
    server, ours = tmp_path / "server.key", tmp_path / "ground.key_secret"
    with pytest.raises(ValueError, match="'nonsense' is not an endpoint"):
        Subscriber("nonsense")
    with pytest.raises(ValueError, match="there is no topic 'Detections'; there are detections, health"):
        Subscriber(endpoint, ["Detections"])
    for keys in ({"server_key": server}, {"client_keys": ours}):
        with pytest.raises(ValueError, match="needs both"):
            Subscriber(endpoint, **keys)
    with pytest.raises(ValueError, match=r"clients/ground\.key holds no secret key"):
        Subscriber(endpoint, server_key=server, client_keys=tmp_path / "clients" / "ground.key")
    with pytest.raises(OSError, match="missing"):
        Subscriber(endpoint, server_key=tmp_path / "missing", client_keys=ours)
    for damaged in ("short", "~" * 40, "#" * 40):
        server.write_text(f'public-key = "{damaged}"')
        with pytest.raises(ValueError, match="is damaged"):
            Subscriber(endpoint, server_key=server, client_keys=ours)


def test_a_dead_link_is_noticed(endpoint):
    """A listener only reads; TCP tells it that the other end is gone only if it asks."""
    with Subscriber(endpoint) as subscriber:
        assert subscriber._socket.get(zmq.TCP_KEEPALIVE) == 1
        assert subscriber._socket.get(zmq.TCP_KEEPALIVE_IDLE) <= 10
        assert 0 < subscriber._socket.get(zmq.CONNECT_TIMEOUT) <= 5000  # else the kernel tries ever more rarely

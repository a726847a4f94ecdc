"""Endpoints: whom they reach, which cannot be, and which are taken."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest
import zmq
from publish_kit import until_heard

from aerial_runtime.client import Subscriber
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.keys import CurveServer
from aerial_runtime.publish import DETECTIONS, Publisher, is_within_machine

CURVE = CurveServer(zmq.curve_keypair()[1], frozenset([zmq.curve_keypair()[0]]))


@pytest.mark.parametrize(
    ("endpoint", "within"),
    [
        ("tcp://127.0.0.1:5556", True),
        ("tcp://127.9.9.9:5556", True),
        ("tcp://[::1]:5556", True),
        ("tcp://localhost:5556", True),
        ("tcp://lo:5556", True),
        ("ipc:///run/aerial", True),
        ("inproc://x", True),
        ("tcp://*:5556", False),
        ("tcp://0.0.0.0:5556", False),
        ("tcp://[::]:5556", False),
        ("tcp://eth0:5556", False),
        ("tcp://10.0.0.2:5556", False),
        ("tcp://127.0.0.1.evil.org:5556", False),
        ("pgm://eth0;239.1.1.1:5556", False),
    ],
)
def test_who_can_reach_an_endpoint(endpoint, within):
    assert is_within_machine(endpoint) == within


def test_the_network_needs_keys_or_insecure(endpoint, caplog):
    with pytest.raises(UsageError, match=r"tcp://\*:\* would show the flight to everybody.*aerial-keygen.*--insecure"):
        Publisher([endpoint, "tcp://*:*"])
    with Publisher([endpoint, "tcp://*:*"], insecure=True) as publisher:
        assert len(publisher.endpoints) == 2
    assert "everybody on the network can listen at tcp://*:* (--insecure)" in caplog.text


def test_keys_without_an_endpoint_that_uses_them_are_named(endpoint):
    with pytest.raises(UsageError, match=r"keys are for endpoints beyond this machine.*add one like"):
        Publisher([endpoint], curve=CURVE)


def test_a_busy_port_is_named():
    with Publisher(["tcp://127.0.0.1:*"]) as first:
        with pytest.raises(ResourceError, match=f"the endpoint {first.endpoints[0]} is in use"):
            Publisher(first.endpoints)


def test_an_ipc_endpoint_in_use_is_not_taken_away(endpoint, listen):
    with Publisher([endpoint]) as first:
        with pytest.raises(ResourceError, match=f"the endpoint {endpoint} is in use"):
            Publisher([endpoint])
        listener = listen(endpoint)
        until_heard(first, listener)


def test_an_ipc_endpoint_that_a_killed_process_left_is_bound(tmp_path, endpoint, listen):
    script = (
        f"from aerial_runtime.publish import Publisher; import time; p = Publisher([{endpoint!r}]); "
        "print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / "socket").is_socket()
    with Publisher([endpoint]) as publisher:
        until_heard(publisher, listen(endpoint))


def test_a_file_at_the_path_of_an_ipc_endpoint_is_kept(tmp_path):
    path = tmp_path / "flight.jsonl"
    path.write_text("last flight")
    with pytest.raises(UsageError, match="a file that is no socket stands there"):
        Publisher([f"ipc://{path}"])
    assert path.read_text() == "last flight"


@pytest.mark.parametrize(
    "endpoint",
    [
        "nonsense",
        "foo://1",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:5556x",
        "tcp://[::1]:-1",
        "ipc:///tmp/\udcff",
    ],
)
def test_what_is_no_endpoint_is_named(endpoint):
    with pytest.raises(UsageError, match=re.escape(f"--bind {endpoint!r} is not an endpoint")):
        Publisher([endpoint], insecure=True)


@pytest.mark.parametrize("port", ["*", "0"])
def test_a_free_port_can_be_asked_for(port):
    Publisher([f"tcp://127.0.0.1:{port}"]).close()


def test_ipv6_is_an_address_too():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 ({error.strerror})")
    with Publisher(["tcp://[::1]:*", "tcp://127.0.0.1:*"]) as publisher:
        with Subscriber(publisher.endpoints[0], timeout_s=5) as subscriber:
            for _ in range(500):
                publisher.send(DETECTIONS, [b"strange"])
                if subscriber._socket.poll(10):
                    return
            raise AssertionError("nothing came over IPv6")


def test_an_address_that_is_not_ours_is_named():
    with pytest.raises(ResourceError, match=r"cannot bind to tcp://192\.0\.2\.1:5556"):
        Publisher(["tcp://192.0.2.1:5556"], insecure=True)


def test_limits_are_set_before_bind(endpoint, monkeypatch):
    """libzmq takes most options after `bind` without a word, and ignores them."""
    calls = []

    class Recorder(zmq.Socket):
        def set(self, option, value):
            calls.append(option)
            super().set(option, value)

        def bind(self, address):
            calls.append("bind")
            return super().bind(address)

    monkeypatch.setattr(zmq.Context, "_socket_class", Recorder)
    with Publisher([endpoint]):
        pass
    needed = {zmq.SNDHWM, zmq.LINGER, zmq.MAXMSGSIZE, zmq.XPUB_VERBOSE, zmq.TCP_KEEPALIVE, zmq.TCP_MAXRT}
    assert needed <= set(calls[: calls.index("bind")])
    assert calls[-1] == "bind"

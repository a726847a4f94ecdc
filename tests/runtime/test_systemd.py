"""The protocol of sd_notify on a real datagram socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid

import pytest

from aerial_runtime import systemd
from aerial_runtime.systemd import Watchdog

S = 1_000_000_000


def bound(address):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(5)
    return listener


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket, and the environment it gives to what it starts."""
    path = str(tmp_path / "notify")
    with bound(path) as listener:
        yield listener, {"NOTIFY_SOCKET": path}


def heard(listener):
    """Return every datagram that has come."""
    listener.setblocking(False)
    lines = []
    try:
        while True:
            lines.append(listener.recv(4096).decode())
    except BlockingIOError:
        return lines


def test_the_life_of_a_service(manager):
    listener, environment = manager
    with Watchdog(environment) as watchdog:
        watchdog.extend_start(42.5)
        watchdog.ready()
        watchdog.status("30.0 frames/s\nREADY=0\r\n  degraded: \udcff")
        watchdog.stopping()
    assert heard(listener) == [
        "EXTEND_TIMEOUT_USEC=42500000",
        "READY=1",
        "STATUS=30.0 frames/s READY=0 degraded: \\udcff",
        "STOPPING=1",
    ]


def test_a_long_status_is_cut_between_characters(manager):
    listener, environment = manager
    with Watchdog(environment) as watchdog:
        watchdog.status("x" + 400 * "°")
    assert heard(listener) == ["STATUS=x" + 255 * "°"]


def test_an_abstract_socket():
    name = f"aerial-{uuid.uuid4()}"
    with bound(f"\0{name}") as listener, Watchdog({"NOTIFY_SOCKET": f"@{name}"}) as watchdog:
        watchdog.ready()
        assert heard(listener) == ["READY=1"]


def test_the_watchdog_is_fed_by_turns_at_most_every_half_of_its_time(manager):
    listener, environment = manager
    now_ns = 0
    environment |= {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    with Watchdog(environment, mono_ns=lambda: now_ns) as watchdog:
        assert watchdog.timeout_s == 4
        fed_at = []
        for step in range(50):
            now_ns = step * S // 10
            watchdog.turn()
            fed_at += [step / 10 for _ in heard(listener)]
        assert fed_at == [0, 2, 4]
        now_ns = 60 * S
        watchdog.turn()
        assert heard(listener) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "watched",
    [
        {},
        {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"},  # of the shell that started us, say
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "we"},
    ],
)
def test_a_watchdog_that_does_not_watch_us_is_not_fed(manager, watched):
    listener, environment = manager
    with Watchdog(environment | watched) as watchdog:
        watchdog.turn()
        assert watchdog.timeout_s is None and heard(listener) == []


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1234", "/none/notify", "/" + 200 * "x"])
def test_nobody_listens(name):
    with Watchdog({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000"}) as watchdog:
        watchdog.ready()
        watchdog.turn()
        watchdog.status("on and on")
        watchdog.stopping()
    watchdog.stopping()


def test_a_manager_that_does_not_read_holds_up_no_turn(manager, monkeypatch):
    listener, environment = manager
    monkeypatch.setattr(systemd, "WAIT_S", 0.05)
    now_ns = 0
    with Watchdog(environment | {"WATCHDOG_USEC": "1000000"}, mono_ns=lambda: now_ns) as watchdog:
        for _ in range(2000):  # until its queue is full
            watchdog.status("line")
        start = time.monotonic()
        watchdog.turn()
        watchdog.ready()
        assert time.monotonic() - start < 1
        assert "WATCHDOG=1" not in heard(listener)
        watchdog.turn()  # not fed yet, so it tries again at once
        assert heard(listener) == ["WATCHDOG=1"]


def test_a_real_process_reads_its_own_environment(manager):
    listener, environment = manager
    script = "from aerial_runtime.systemd import Watchdog; Watchdog().ready()"
    subprocess.run([sys.executable, "-c", script], env=os.environ | environment, check=True)
    assert heard(listener) == ["READY=1"]

"""The pages on a real port, and the text against the grammar of Prometheus' text format 0.0.4."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time

import msgspec
import pytest

from aerial_runtime.contract import Health
from aerial_runtime.errors import ResourceError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.machine import Readings
from aerial_runtime.metrics import MAX_CLIENTS, MetricsServer, metrics_text

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parse(text):
    """Return (name, labels) -> value; fail on a line that the format does not have."""
    assert text.endswith("\n")
    samples, announced, kind = {}, set(), None
    lines = iter(text.removesuffix("\n").split("\n"))
    for line in lines:
        if help_line := re.fullmatch(rf"# HELP ({NAME}) \S.*", line):
            name = help_line[1]
            assert name not in announced, "a metric stands in one group"
            announced.add(name)
            type_line = re.fullmatch(rf"# TYPE {name} (counter|gauge)", next(lines))
            assert type_line, line
            kind = type_line[1]
            assert (kind == "counter") == name.endswith("_total")
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample and sample[1] == name, line
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or "")
        labels = {key: re.sub(r"\\.", lambda escape: UNESCAPED[escape[0]], value) for key, value in pairs}
        key = (name, *labels.items())
        assert key not in samples, line
        samples[key] = float(sample[3])
    return samples


@pytest.fixture
def monitor():
    monitor = HealthMonitor('cam "0" \\ north\nside')
    monitor.loaded("CPUExecutionProvider", {"segmenter": "sha256:1", "classifier": "sha256:2"})
    monitor.state_is("running")
    for _ in range(3):
        monitor.frame(61.5, 40.0, 5.0, 46.0)
    monitor.count(dropped=4, unreadable=5, failed=6, unsent=7, unwritten=8, unrecorded=9)
    return monitor


@pytest.fixture
def server(monitor):
    with MetricsServer(0, monitor) as server:
        yield server


def ask(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_every_number_of_health_is_a_metric(monitor):
    monitor.reason("camera-lost", "no frame for 2 s")
    monitor.machine(Readings({"cpu": 48.5, "gpu": 45.0}, {"cpu0": 1510.4, "gpu": 624.75}, 200.5, 1e4))
    samples = parse(metrics_text(monitor.snapshot()))
    assert samples.pop(("aerial_uptime_seconds",)) >= 0
    source = 'cam "0" \\ north\nside'
    (info,) = (key for key in samples if key[0] == "aerial_info")
    assert dict(info[1:])["source"] == source and dict(info[1:])["provider"] == "CPUExecutionProvider"
    del samples[info]
    mib = 2**20
    assert samples == {
        ("aerial_model_info", ("role", "segmenter"), ("sha256", "sha256:1")): 1,
        ("aerial_model_info", ("role", "classifier"), ("sha256", "sha256:2")): 1,
        ("aerial_state", ("state", "starting")): 0,
        ("aerial_state", ("state", "running")): 0,
        ("aerial_state", ("state", "degraded")): 1,
        ("aerial_state", ("state", "stopping")): 0,
        ("aerial_degraded_reason", ("code", "camera-lost")): 1,
        ("aerial_frames_total",): 3,
        ("aerial_frames_dropped_total",): 4,
        ("aerial_frames_unreadable_total",): 5,
        ("aerial_frames_failed_total",): 6,
        ("aerial_messages_unsent_total",): 7,
        ("aerial_lines_unwritten_total",): 8,
        ("aerial_messages_unrecorded_total",): 9,
        ("aerial_frames_per_second",): 3,
        ("aerial_frame_age_seconds", ("quantile", "0.5")): 0.0615,
        ("aerial_frame_age_seconds", ("quantile", "0.95")): 0.0615,
        ("aerial_frame_age_seconds", ("quantile", "0.99")): 0.0615,
        ("aerial_stage_seconds", ("stage", "segment")): 0.04,
        ("aerial_stage_seconds", ("stage", "classify")): 0.005,
        ("aerial_stage_seconds", ("stage", "total")): 0.046,
        ("aerial_temperature_celsius", ("zone", "cpu")): 48.5,
        ("aerial_temperature_celsius", ("zone", "gpu")): 45,
        ("aerial_clock_hertz", ("unit", "cpu0")): 1.5104e9,
        ("aerial_clock_hertz", ("unit", "gpu")): 624.75e6,
        ("aerial_memory_bytes",): 200.5 * mib,
        ("aerial_disk_free_bytes",): 1e4 * mib,
    }


def test_what_is_not_known_is_absent():
    text = metrics_text(HealthMonitor("cam0").snapshot())
    samples = parse(text)
    for name in ("aerial_frame_age_seconds", "aerial_temperature_celsius", "aerial_memory_bytes"):
        assert name not in text
    assert samples[("aerial_frames_total",)] == 0


def test_the_page_of_metrics(server):
    status, headers, body = ask(server, "/metrics?name[]=aerial_frames_total")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parse(body.decode())[("aerial_frames_dropped_total",)] == 4


@pytest.mark.parametrize(
    ("state", "reason", "status", "said"),
    [
        ("starting", None, 503, "starting"),
        ("running", None, 200, "running"),
        ("running", "no frame for 2 s", 200, "degraded"),
        ("stopping", None, 503, "stopping"),
    ],
)
def test_healthz(server, monitor, state, reason, status, said):
    monitor.state_is(state)
    monitor.reason("camera-lost", reason)
    before = monitor.look().sequence
    answer, headers, body = ask(server, "/healthz")
    health = msgspec.json.decode(body, type=Health)
    assert (answer, health.state) == (status, said)
    assert headers["Content-Type"] == "application/json"
    assert [r.text for r in health.reasons] == ([reason] if reason else [])
    assert monitor.look().sequence == before  # a listener would take a gap for a message lost


def test_head_other_paths_and_other_methods(server, monitor):
    status, headers, _ = ask(server, "/healthz", "HEAD")
    assert status == 200 and int(headers["Content-Length"]) > 100
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client, client.makefile("rb") as answer:
        client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
        assert answer.read().endswith(b"\r\n\r\n")  # and no body
    monitor.state_is("stopping")
    assert ask(server, "/healthz", "HEAD")[0] == 503
    for path in ("/", "/metrics/", "/../etc/passwd", "/healthz2"):
        status, _, body = ask(server, path)
        assert (status, body) == (404, b"there are /metrics and /healthz\n")
    assert ask(server, "/metrics", "POST")[0] == 501


def test_it_is_of_this_machine_alone(server):
    with socket.socket() as client:
        client.settimeout(5)
        with pytest.raises(OSError):
            client.connect(("127.0.0.2", server.port))


def test_a_port_in_use(server, monitor):
    with pytest.raises(ResourceError, match=rf"port {server.port} .* in use; .* --metrics-port"):
        MetricsServer(server.port, monitor)


def test_slow_clients_hold_up_neither_the_others_nor_the_end(server, capsys):
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CLIENTS - 1)]
    try:
        for client in slow:
            client.sendall(b"GET /metrics HT")
        assert ask(server, "/healthz")[0] == 200
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 1
    finally:
        for client in slow:
            client.close()
    assert capsys.readouterr().err == ""


def test_a_crowd_gets_no_thread_each_and_leaves_none_behind(server):
    before = threading.active_count()
    crowd = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(3 * MAX_CLIENTS)]
    for client in crowd[MAX_CLIENTS:]:
        assert client.recv(1) == b""  # turned away at once
    assert threading.active_count() <= before + MAX_CLIENTS
    for client in crowd:
        client.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before  # a thread of an earlier test may have ended meanwhile
    assert ask(server, "/metrics")[0] == 200


def test_a_client_that_says_nothing_is_sent_away(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        assert client.recv(1) == b""


def test_clients_that_talk_nonsense_or_leave_say_nothing(server, capsys):
    for words in (b"\x00\xff\n\n", b"GET\n\n", b"GET /metrics HTTP/9.9\r\n\r\n", 70_000 * b"x", b""):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(words)
    assert ask(server, "/metrics")[0] == 200
    assert capsys.readouterr().err == ""


def test_the_port_is_free_again(monitor):
    with MetricsServer(0, monitor) as server:
        port = server.port
        assert ask(server, "/metrics")[0] == 200
    with MetricsServer(port, monitor) as server:
        assert ask(server, "/metrics")[0] == 200

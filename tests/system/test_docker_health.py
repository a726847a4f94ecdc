"""Docker's health check against real daemons: well, absent, starting, hanging."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aerial_runtime.health import HealthMonitor
from aerial_runtime.machine import Readings
from aerial_runtime.metrics import MetricsServer

CHECK = Path(__file__).parents[2] / "docker" / "healthcheck.py"


def check(port, timeout_s=30):
    environment = {**os.environ, "AERIAL_METRICS_PORT": str(port)}
    done = subprocess.run([sys.executable, CHECK], capture_output=True, text=True, env=environment, timeout=timeout_s,
                          check=False)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def daemon_alike(tmp_path):
    """A process by the name of the daemon, which sleeps, and one by another name."""
    program = tmp_path / "aerial-runtime"
    shutil.copy("/bin/sleep", program)
    other = tmp_path / "another"
    shutil.copy("/bin/sleep", other)
    running = [subprocess.Popen([path, "60"]) for path in (program, other)]
    yield running
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def served():
    monitor = HealthMonitor("cam0")
    with MetricsServer(0, monitor) as server:
        yield monitor, server.port


@pytest.fixture
def turning(served):
    """The same while the main loop turns, however long a check takes on a busy machine."""
    ended = threading.Event()

    def turn():
        while not ended.wait(0.2):
            served[0].turn()

    loop = threading.Thread(target=turn)
    loop.start()
    yield served
    ended.set()
    loop.join()


def test_running_is_well_and_degraded_says_why(turning):
    monitor, port = turning
    monitor.state_is("running")
    assert check(port) == (0, "running\n")
    monitor.reason("camera-lost", "no frame for 2 s")
    assert check(port) == (0, "degraded; camera-lost: no frame for 2 s\n")


@pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b'{"reasons": [], "status": "UP"}', b"<html>"])
def test_another_program_on_the_port_is_no_health(text):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, said = check(server.server_port)
        server.shutdown()
    assert code == 1 and said.startswith("no health on port") and "Traceback" not in said


def test_starting_is_not_yet_well(served):
    assert check(served[1]) == (1, "starting\n")


def test_a_machine_that_is_hot_is_well(turning):
    monitor, port = turning
    monitor.state_is("running")
    monitor.machine(Readings(temperatures_c={"cpu": 97.0}))
    assert check(port)[0] == 0


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, said = check(port)
    assert code == 1 and f"--metrics-port {port}" in said


def test_a_daemon_that_gives_no_answer_is_killed_and_nothing_else(daemon_alike):
    daemon, other = daemon_alike
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code, said = check(silent.getsockname()[1])
    assert code == 1 and "hangs: no answer" in said
    assert daemon.wait(5) == -signal.SIGKILL and other.poll() is None


def test_a_main_loop_that_stands_still_is_killed_the_second_time(served, daemon_alike):
    monitor, port = served
    monitor.state_is("running")
    monitor._turn_ns -= 6_000_000_000
    code, said = check(port)
    assert code == 1 and re.search(r"main loop stands still", said)
    assert daemon_alike[0].wait(5) == -signal.SIGKILL


def test_a_main_loop_that_turns_again_is_left_alone(served, daemon_alike):
    monitor, port = served
    monitor.state_is("running")
    monitor._turn_ns -= 6_000_000_000
    threading.Thread(target=lambda: (time.sleep(2), monitor.turn()), daemon=True).start()
    assert check(port)[0] == 0 and daemon_alike[0].poll() is None

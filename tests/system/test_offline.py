"""Nothing phones home: the daemon flies the demo in a network namespace that holds its own loopback alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALONE = 'ip link set lo up && test "$(ip -o link | wc -l)" = 1 && exec "$@"'
UNSHARE = ["unshare", "--map-root-user", "--net", "--", "sh", "-c", ALONE, "sh"]


@pytest.fixture(scope="module")
def cut_off():
    """What to put before a command, so that it has no network."""
    if not all(map(shutil.which, ("unshare", "ip"))):
        pytest.skip("no unshare or no ip (iproute2) on this machine")
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine gives no network namespace: {done.stderr.strip()}")
    return UNSHARE


def test_nothing_outside_is_reached(cut_off):
    """The test's own control: in there a connection fails at once."""
    code = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=5)"
    done = subprocess.run([*cut_off, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr


def test_the_daemon_flies_the_demo(cut_off, tmp_path):
    command = [Path(sys.executable).parent / "aerial-runtime", "--camera", "demo", "--metrics-port", "9100", "--quiet",
               "--output", tmp_path / "out.jsonl"]  # fmt: skip
    done = subprocess.run([*cut_off, *command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and sum(len(row["targets"]) for row in rows) > 50
    assert "recall" in done.stdout

"""The end of commands that a signal ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from aerial_runtime.errors import run_command

WORK = """
import os, sys, time
from pathlib import Path
from aerial_runtime.errors import run_command

def command():
    scratch = Path(sys.argv[1])
    try:
        scratch.touch()
        time.sleep(60)
    except KeyboardInterrupt:
        if sys.argv[2] == "own":
            return 130
        raise
    finally:
        os.kill(os.getpid(), int(sys.argv[3]))  # as `timeout` does, which sends it twice
        time.sleep(0.05)
        scratch.unlink()
    return 0

sys.exit(run_command("name", command))
"""


@pytest.mark.parametrize(
    ("number", "handling", "second", "code"),
    [
        (signal.SIGTERM, "none", signal.SIGTERM, 143),
        (signal.SIGTERM, "own", signal.SIGTERM, 143),
        (signal.SIGINT, "none", 0, 130),
        (signal.SIGINT, "own", 0, 130),
    ],
)
def test_a_signal_ends_a_command_that_tidies_up(tmp_path, number, handling, second, code):
    scratch = tmp_path / "scratch"
    words = [sys.executable, "-c", WORK, str(scratch), handling, str(int(second))]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        while not scratch.exists():
            assert process.poll() is None
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert error == ("" if handling == "own" else "name: interrupted\n")
    assert not scratch.exists()


def test_who_listens_for_sigterm_goes_on_to(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        assert run_command("name", lambda: os.kill(os.getpid(), signal.SIGTERM) or 0) == 0
        assert heard == [True] and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_afterwards_sigterm_is_what_it_was():
    assert run_command("name", lambda: 3) == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

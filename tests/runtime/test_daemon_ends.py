"""How a flight ends and what must not end it: signals, closed and held terminals, consoles that take nothing."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import signal
import subprocess
import time

import numpy as np
import pytest
from daemon_kit import DAEMON, FakeCamera, read_jsonl, start

from aerial_runtime.camera.base import frame_now
from aerial_runtime.daemon import main
from aerial_runtime.signals import stop_on_signals
from aerial_runtime.targets_file import read_targets


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_flight_cleanly(tmp_path, long_flight, tiny_models, number):
    output = tmp_path / "out.jsonl"
    process = start(long_flight, tiny_models, "none", "--output", output)
    try:
        first = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert first.startswith("0000.png")
    messages = read_jsonl(output)
    assert 0 < len(messages) < 3000
    assert f"{len(messages)} in " in out


def test_a_closed_terminal_ends_the_flight_cleanly(tmp_path, long_flight, tiny_models):
    """The kernel and the shell both tell of it, and the end of a session brings SIGTERM as well."""
    targets = tmp_path / "targets.json"
    process = start(long_flight, tiny_models, "none", "--targets", targets)
    try:
        process.stdout.readline()
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert 0 < read_targets(targets).frames < 3000


def test_under_nohup_a_flight_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.wait(0.2)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_ends_a_flight_without_readable_frames(tmp_path, tiny_models):
    folder = tmp_path / "bad"
    folder.mkdir()
    (tmp_path / "text").write_text("text")
    for index in range(20_000):
        os.link(tmp_path / "text", folder / f"{index:05}.png")
    process = start(folder, tiny_models, "none")
    try:
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert len(err.splitlines()) < 19_999
    assert "frames    0 in " in out and "; 0 unreadable" not in out


def test_a_stop_while_the_camera_hangs_is_a_stop_within_two_seconds(tiny_models, camera, monkeypatch, capsys):
    def hang(_):
        yield frame_now(np.zeros((48, 64, 3), np.uint8), "fake0:0", 0)
        signal.raise_signal(signal.SIGTERM)
        stopped.append(time.monotonic())
        time.sleep(5)

    stopped = []
    monkeypatch.setattr(FakeCamera, "__iter__", hang)
    assert main(["--camera", "/dev/null", "--models", str(tiny_models), "--bind", "none"]) == 0
    assert time.monotonic() - stopped[0] < 2
    assert capsys.readouterr().err == ""


def test_a_stop_while_the_camera_does_not_open_is_a_stop_within_two_seconds(tmp_path, tiny_models, monkeypatch, capsys):
    def open_source(*_):
        signal.raise_signal(signal.SIGTERM)
        stopped.append(time.monotonic())
        time.sleep(5)

    stopped = []
    monkeypatch.setattr("aerial_runtime.daemon.open_source", open_source)
    targets = tmp_path / "targets.json"
    targets.write_text("those of yesterday")
    words = ["--camera", "/dev/null", "--models", str(tiny_models), "--bind", "none"]
    assert main([*words, "--targets", str(targets), "--overwrite"]) == 0
    assert time.monotonic() - stopped[0] < 2
    out, err = capsys.readouterr()
    assert err == "" and "frames    0 in " in out
    assert (read_targets(targets).frames, read_targets(targets).targets) == (0, [])


def test_a_second_signal_ends_a_flight_that_hangs(tmp_path, flight, tiny_models):
    hangs = "import time; from aerial_runtime.detector import Detector; Detector.__call__ = lambda *_: "
    hangs += "(print('it hangs', flush=True), time.sleep(60));"
    process = start(flight, tiny_models, f"ipc://{tmp_path}/socket", daemon=[*DAEMON[:2], hangs + DAEMON[2]])
    try:
        assert process.stdout.readline() == "it hangs\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_nobody_reading_the_console_does_not_end_the_flight(tmp_path, flight, tiny_models):
    output = tmp_path / "out.jsonl"
    process = start(flight, tiny_models, "none", "--output", output)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert len(read_jsonl(output)) == 4


def test_a_console_that_takes_nothing_does_not_end_the_flight(tmp_path, flight, tiny_models):
    """Full disks and readers that have gone, on both streams; the second frame is unreadable, which is said."""
    (flight / "f1.png").write_text("text")
    command = [*DAEMON, "--camera", str(flight), "--models", str(tiny_models), "--bind", "none", "--output"]
    for name, streams in {"full": ">/dev/full 2>&1", "gone": "2>&1 | true", "closed": ">&- 2>&-"}.items():
        output = tmp_path / name
        line = f"set -o pipefail; {shlex.join([*command, str(output)])} {streams}"
        assert subprocess.run(["bash", "-c", line]).returncode == 0, name
        assert len(read_jsonl(output)) == 3


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_console_that_is_held_holds_up_nothing_else(tmp_path, flight, tiny_models, is_terminal):
    """A terminal after Ctrl-S, a pager that nobody scrolls: the messages of a camera go on, and so does the end."""
    reading, writing = pty.openpty() if is_terminal else os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"full ")
    os.set_blocking(writing, True)
    output, targets = tmp_path / "out.jsonl", tmp_path / "targets.json"
    as_camera = ["--inject", "camera-loss@1000s"]
    command = [*DAEMON, "--camera", flight, "--models", tiny_models, "--bind", "none", *as_camera]
    process = subprocess.Popen([*command, "--output", output, "--targets", targets], stdout=writing)
    os.close(writing)
    try:
        end_s = time.monotonic() + 20
        while not output.exists() or output.read_bytes().count(b"\n") < 10:
            assert time.monotonic() < end_s, "the output does not grow"
            time.sleep(0.05)
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        os.close(reading)
    assert read_targets(targets).frames >= 10

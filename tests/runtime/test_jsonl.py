"""Lines in a real file, on disks that are full or slow, and in pipes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from aerial_runtime import jsonl
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.jsonl import QUEUE_LINES, JsonlWriter


@pytest.fixture
def monitor():
    return HealthMonitor("cam0")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


class Disk:
    """A fault to inject: full while `full` is set; when it was tried."""

    def __init__(self):
        self.full = False
        self.moments_s = []

    def __call__(self):
        self.moments_s.append(time.monotonic())
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def reasons(monitor):
    return [reason.code for reason in monitor.look().reasons]


def wait_until(is_so):
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("not within half a minute")


def test_lines_are_on_the_disk_within_a_second_and_at_the_end(path, monitor, monkeypatch):
    monkeypatch.setattr(jsonl, "SYNC_S", 0.2)
    synced, whole = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_size), whole(file)))
    with JsonlWriter(path, monitor=monitor) as writer:
        writer.put(b"{}")
        wait_until(lambda: 3 in synced)
        before = len(synced)
        time.sleep(0.5)
        assert len(synced) == before  # nothing new: the disk sleeps
        writer.put(b"[]")
    assert synced[-1] == 6 == path.stat().st_size


def test_a_disk_that_takes_lines_into_memory_alone(path, monitor, monkeypatch):
    """As a stick that was pulled out: writing works for a while, syncing does not, and what lay in memory is lost."""
    monkeypatch.setattr(jsonl, "SYNC_S", 0.05)
    is_gone, whole, synced = threading.Event(), os.fsync, []

    def sync(file):
        if is_gone.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        whole(file)
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fsync", sync)
    with JsonlWriter(path, monitor=monitor) as writer:
        writer.put(b"1")
        wait_until(lambda: 2 in synced)
        is_gone.set()
        for line in (b"2", b"3"):
            writer.put(line)
            wait_until(lambda line=line: monitor.look().unwritten == int(line) - 1)
            assert reasons(monitor) == ["output-failed"]
        is_gone.clear()
        wait_until(lambda: reasons(monitor) == [])
        writer.put(b"4")
    assert writer.unwritten == monitor.look().unwritten == 2


def test_an_existing_output_is_kept_unless_told_otherwise(path, monitor):
    path.write_text("old\n")
    with pytest.raises(UsageError, match=r"out\.jsonl exists; give --overwrite"):
        JsonlWriter(path, monitor=monitor)
    with JsonlWriter(path, overwrite=True, monitor=monitor) as writer:
        assert path.read_text() == "old\n"
        writer.put(b"new")
        writer.put(b"newer")
    assert path.read_text() == "new\nnewer\n"


def test_nothing_written_leaves_no_file(tmp_path, path, monitor):
    for overwrite in (False, True):
        JsonlWriter(path, overwrite, monitor=monitor).close()
        assert list(tmp_path.iterdir()) == []


def test_an_output_can_be_a_pipe(tmp_path, monitor):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    with (tmp_path / "pipe").open("wb"):  # opens once somebody reads
        with JsonlWriter(tmp_path / "pipe", overwrite=True, monitor=monitor) as writer:
            writer.put(b"{}")
    assert reader.communicate(timeout=10)[0] == b"{}\n"


def test_a_pipe_that_nobody_reads_yet_does_not_hold_up_the_start(tmp_path, monitor, monkeypatch):
    monkeypatch.setattr(jsonl, "RETRY_S", 0.05)
    pipe, writers = tmp_path / "pipe", []
    os.mkfifo(pipe)
    start = threading.Thread(
        target=lambda: writers.append(JsonlWriter(pipe, overwrite=True, monitor=monitor)), daemon=True
    )
    start.start()
    start.join(5)
    assert writers, "it waits for a reader"
    with writers[0] as writer:
        writer.put(b"{}")
        wait_until(lambda: reasons(monitor) == ["output-failed"])
        reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
        wait_until(lambda: reasons(monitor) == [])
    assert reader.communicate(timeout=10)[0] == b"{}\n"


def test_a_line_is_soon_with_the_operating_system(path, monitor):
    with JsonlWriter(path, monitor=monitor) as writer:
        for count in (1, 2, 3):
            writer.put(b"{}")
            wait_until(lambda count=count: path.exists() and path.read_bytes() == b"{}\n" * count)


def test_an_output_that_cannot_be_written_is_named(tmp_path, monitor):
    for path in (tmp_path / "no_folder" / "out.jsonl", tmp_path):
        with pytest.raises((ResourceError, UsageError), match=str(path)):
            JsonlWriter(path, monitor=monitor)


def test_everything_put_before_close_is_written(path, monitor):
    with JsonlWriter(path, monitor=monitor, lossless=True) as writer:
        for number in range(10_000):
            writer.put(b"%d" % number)
    assert path.read_bytes().split() == [b"%d" % number for number in range(10_000)]
    assert (writer.unwritten, monitor.look().unwritten) == (0, 0)


def test_a_short_episode_of_a_full_disk_loses_nothing(path, monitor, monkeypatch):
    monkeypatch.setattr(jsonl, "RETRY_S", 0.05)
    disk = Disk()
    with JsonlWriter(path, monitor=monitor, writing=disk) as writer:
        writer.put(b"0")
        wait_until(path.exists)
        disk.full = True
        for number in range(1, 50):
            writer.put(b"%d" % number)
        wait_until(lambda: reasons(monitor) == ["disk-full"])
        assert "No space left on device" in monitor.look().reasons[0].text
        disk.full = False
        wait_until(lambda: reasons(monitor) == [])
    assert path.read_bytes().split() == [b"%d" % number for number in range(50)]
    assert writer.unwritten == 0


@pytest.mark.parametrize("lossless", [False, True])
def test_a_long_episode_is_counted_and_the_rest_is_whole(path, monitor, monkeypatch, lossless):
    """Lossless waits for a slow disk, not for a full one."""
    monkeypatch.setattr(jsonl, "RETRY_S", 0.05)
    monkeypatch.setattr(jsonl, "POLL_S", 0.01)
    disk = Disk()
    disk.full = True
    with JsonlWriter(path, monitor=monitor, lossless=lossless, writing=disk) as writer:
        wait_until(lambda: writer.put(b"held") or reasons(monitor) == ["disk-full"])
        for _ in range(2 * QUEUE_LINES):
            writer.put(b"held")
        left_out = writer.unwritten
        assert left_out >= QUEUE_LINES and monitor.look().unwritten == left_out
        disk.full = False
        wait_until(lambda: reasons(monitor) == [])
        wait_until(lambda: len(path.read_bytes()) == 5 * (QUEUE_LINES + 1))
        writer.put(b"after")
    assert path.read_bytes().split() == [b"held"] * (QUEUE_LINES + 1) + [b"after"]
    assert writer.unwritten == left_out


def test_a_slow_reader_gets_every_line_at_the_end(path, monitor, monkeypatch):
    monkeypatch.setattr(jsonl, "CLOSE_S", 0.3)
    with JsonlWriter(path, monitor=monitor, writing=lambda: time.sleep(0.1)) as writer:
        for number in range(12):
            writer.put(b"%d" % number)
    assert path.read_bytes().split() == [b"%d" % number for number in range(12)]
    assert writer.unwritten == 0


def test_a_very_slow_reader_does_not_hold_up_the_end(path, monitor, monkeypatch):
    monkeypatch.setattr(jsonl, "CLOSE_S", 0.1)
    monkeypatch.setattr(jsonl, "LONGEST_CLOSE_S", 0.3)
    start_s = time.monotonic()
    with JsonlWriter(path, monitor=monitor, writing=lambda: time.sleep(0.05)) as writer:
        for _ in range(100):
            writer.put(b"{}")
    assert time.monotonic() - start_s < 1.5
    assert 50 < writer.unwritten == monitor.look().unwritten


def test_a_full_disk_is_asked_again_every_second(path, monitor):
    disk = Disk()
    disk.full = True
    with JsonlWriter(path, monitor=monitor, writing=disk) as writer:
        writer.put(b"{}")
        wait_until(lambda: len(disk.moments_s) == 4)
    waits_s = np.diff(disk.moments_s)[:3]
    assert 0.99 < waits_s.min() < 1.3  # the least: a busy machine adds its own
    assert writer.unwritten == monitor.look().unwritten == 1


def test_a_full_disk_from_the_first_line_on_keeps_the_old_file(path, monitor):
    path.write_text("old\n")
    disk = Disk()
    disk.full = True
    with JsonlWriter(path, overwrite=True, monitor=monitor, writing=disk) as writer:
        writer.put(b"new")
    assert path.read_text() == "old\n"


def test_what_the_disk_never_took_counts_at_the_end(path, monitor, monkeypatch):
    for name in ("RETRY_S", "CLOSE_S", "LONGEST_CLOSE_S"):
        monkeypatch.setattr(jsonl, name, 60.0)
    disk = Disk()
    disk.full = True
    with JsonlWriter(path, monitor=monitor, writing=disk) as writer:
        for _ in range(10):
            writer.put(b"{}")
        wait_until(lambda: reasons(monitor) == ["disk-full"])
        start = time.monotonic()
    assert time.monotonic() - start < 20
    assert writer.unwritten == 10


def test_a_disk_that_hangs_is_waited_for_once(path, monitor, monkeypatch):
    monkeypatch.setattr(jsonl, "CLOSE_S", 0.1)
    gate = threading.Event()
    with JsonlWriter(path, monitor=monitor, writing=lambda: gate.wait(60)) as writer:
        writer.put(b"{}")
        writer.close()
        assert writer.unwritten == 1
        monkeypatch.setattr(jsonl, "CLOSE_S", 60.0)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 10
    gate.set()
    wait_until(lambda: all(thread.name != "output" for thread in threading.enumerate()))


def test_another_failure_has_another_reason(monitor):
    with JsonlWriter(Path("/dev/full"), overwrite=True, monitor=monitor) as writer:
        writer.put(b"{}")
        wait_until(lambda: reasons(monitor) == ["disk-full"])
    assert writer.unwritten == 1
    with JsonlWriter(Path("/dev/null"), overwrite=True, monitor=HealthMonitor("cam1"), writing=_broken) as writer:
        writer.put(b"{}")
        wait_until(lambda: reasons(writer._monitor) == ["output-failed"])


def _broken():
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_slow_disk_delays_no_live_flight_and_every_file_flight(path, monitor):
    gate = threading.Event()
    with JsonlWriter(path, monitor=monitor, writing=lambda: gate.wait(10)) as writer:
        start = time.monotonic()
        for _ in range(QUEUE_LINES + 10):
            writer.put(b"{}")
        assert time.monotonic() - start < 1
        assert 9 <= writer.unwritten <= 10
        gate.set()
    with JsonlWriter(path, overwrite=True, monitor=monitor, lossless=True, writing=lambda: time.sleep(0.001)) as writer:
        for _ in range(QUEUE_LINES + 100):
            writer.put(b"{}")
    assert path.read_bytes() == b"{}\n" * (QUEUE_LINES + 100)


def test_a_reader_of_a_pipe_that_sleeps_does_not_hold_up_the_end(tmp_path, monitor):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    start = time.monotonic()
    with JsonlWriter(tmp_path / "pipe", overwrite=True, monitor=monitor) as writer:
        for _ in range(10):
            writer.put(b"x" * 20_000)
    assert time.monotonic() - start < 2
    os.close(reader)  # the thread's write ends with a broken pipe
    writer._thread.join(5)
    writer.close()
    assert writer.unwritten == 7  # a pipe holds 64 kB


def test_a_file_that_may_not_grow_keeps_whole_lines(path):
    """As a full disk does, but in earnest: the kernel cuts the fourth line short."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from aerial_runtime.jsonl import JsonlWriter; from aerial_runtime.health import HealthMonitor\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 4000))\n"
        "monitor = HealthMonitor('cam0')\n"
        "with JsonlWriter(Path(sys.argv[1]), monitor=monitor) as writer:\n"
        "    for _ in range(5): writer.put(b'x' * 299)\n"
        "    while not monitor.look().reasons: pass\n"
        "    print(monitor.look().reasons[0].code, Path(sys.argv[1]).stat().st_size)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "    while monitor.look().reasons: pass\n"
        "print(writer.unwritten)"
    )
    answer = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["disk-full", "900", "0"]
    assert path.read_bytes() == (b"x" * 299 + b"\n") * 5

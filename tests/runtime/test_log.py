"""Lines on stderr: for a person or a collector, few of each kind, and none that ends a flight."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone

import pytest

from aerial_runtime import log
from aerial_runtime.health import HealthMonitor
from aerial_runtime.log import MAX_KEYS, RateLimit, fail, note, setup_log, warn

S = 1_000_000_000


def test_lines_for_a_person(capsys):
    warn("unreadable", "unreadable frame: a.jpg is cut off")
    note("ready", "first frame after 1.2 s")
    fail("aerial-listen", "no such endpoint")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "aerial-runtime: unreadable frame: a.jpg is cut off",
        "aerial-runtime: first frame after 1.2 s",
        "aerial-listen: error: no such endpoint",
    ]


def test_a_pipe_that_nobody_reads_holds_up_nobody(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with open(reading, "rb", buffering=0) as far, open(writing, "w") as near:
        monkeypatch.setattr(sys, "stderr", near)
        logging_thread = threading.Thread(target=warn, args=("key", "lost"), daemon=True)
        logging_thread.start()
        logging_thread.join(5)
        assert not logging_thread.is_alive()
        while far.read(1 << 16).endswith(b"x" * 4096) and select.select([far], [], [], 0)[0]:
            pass
        warn("another", "heard")
        assert far.read(1 << 16) == b"aerial-runtime: heard\n"


def test_a_program_with_a_log_of_its_own_gets_no_line_twice(capsys):
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        warn("key", "text")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err == "aerial-runtime: text\n"


def test_lines_for_a_collector(capsys):
    setup_log("json")
    warn("unreadable \udcff", 'a "quoted"\nname\udcff with 100 %s')
    fail("aerial-runtime", "the end")
    first, last = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    moment = datetime.fromisoformat(first.pop("time"))
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(seconds=5)
    assert first == {
        "level": "warning",
        "command": "aerial-runtime",
        "key": "unreadable \\udcff",
        "text": 'a "quoted"\nname\\udcff with 100 %s',
        "left_out": 0,
    }
    assert (last["level"], last["key"], last["text"]) == ("error", "exit", "the end")


def test_a_message_that_comes_again_is_left_out_and_counted(capsys, monkeypatch):
    for i in range(30):
        warn("unreadable", f"frame {i}")
        warn("other", f"other {i}")
        fail("aerial-runtime", "never left out") if i == 29 else None
    monkeypatch.setattr(log, "EVERY_S", 0)
    warn("unreadable", "frame 30")
    assert capsys.readouterr().err.splitlines() == [
        "aerial-runtime: frame 0",
        "aerial-runtime: other 0",
        "aerial-runtime: error: never left out",
        "aerial-runtime: frame 30 (29 more like it left out)",
    ]


def test_one_in_ten_seconds_passes():
    limit = RateLimit()
    assert limit.left_out("key", 0) == 0
    assert [limit.left_out("key", second * S) for second in range(1, 22)] == 9 * [None] + [9] + 9 * [None] + [9, None]


def test_the_keys_that_are_kept_are_bounded():
    limit = RateLimit()
    for number in range(MAX_KEYS + 1):
        assert limit.left_out(f"file {number}", 0) == 0
    assert limit.left_out(f"file {MAX_KEYS}", 1) is None
    assert limit.left_out("file 0", 1) == 0  # the oldest was forgotten


def test_many_threads_log_whole_lines(capsys):
    def tell(number):
        for i in range(50):
            warn(f"{number} {i}", f"{number} " + 200 * "x")

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 200 and all(line.endswith(" " + 200 * "x") for line in lines)


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&1 >/dev/null | true", "2>&-"])
@pytest.mark.parametrize("format", ["console", "json"])
def test_a_log_that_nobody_takes_ends_nothing(streams, format, tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from aerial_runtime.log import setup_log, warn
setup_log("{format}")
for i in range(3):
    warn(f"key {{i}}", "text \\udcff")
    time.sleep(0.1)
Path(sys.argv[1]).touch()
"""
    done = tmp_path / "done"
    line = f'"$0" -c "$1" "$2" {streams}'
    subprocess.run(["bash", "-c", line, sys.executable, script, str(done)], env=os.environ)
    assert done.exists()


def test_reasons_are_logged_when_they_come_and_go(capsys, monkeypatch):
    monkeypatch.setattr(log, "EVERY_S", 0)
    monitor = HealthMonitor("cam0")
    monitor.state_is("running")
    for text in ("no frame for 2 s", "tried again", None, None):
        monitor.reason("camera-lost", text)
    assert capsys.readouterr().err.splitlines() == [
        "aerial-runtime: camera-lost: no frame for 2 s",
        "aerial-runtime: camera-lost is over",
    ]

"""The end of commands whose output nobody takes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import pytest

HELP = "import sys; from aerial_runtime.listen import main; sys.exit(main(['--help']))"
REPORT = """
import sys
from aerial_runtime.errors import CheckError, run_command

def command():
    print("report")  # buffered, so that the pipe breaks at the end
    if {fails}:
        raise CheckError("too few")
    return 0

sys.exit(run_command("name", command))
"""


def run(script, streams):
    line = f'set -o pipefail; (sleep 0.2; exec "$0" -c "$1") {streams}'
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["bash", "-c", line, sys.executable, script]
    answer = subprocess.run(command, capture_output=True, text=True, env=buffered)
    return answer.returncode, answer.stderr


@pytest.mark.parametrize(
    ("script", "code", "error"),
    [
        (HELP, 0, ""),
        (REPORT.format(fails=False), 0, ""),
        (REPORT.format(fails=True), 6, "name: error: too few\n"),
    ],
)
def test_a_reader_that_has_gone_is_no_error(script, code, error):
    assert run(script, "| true") == (code, error)


def test_a_stream_that_does_not_wait_for_its_reader_loses_no_line():
    """Another program may have set it so: ssh and others do with a terminal, and leave it like that."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = "x" * 1000
    script = f"from aerial_runtime.say import say; print(all([say({line!r}) for _ in range(300)]), file=sys.stderr)"
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; {script}"], stdout=writing, stderr=subprocess.PIPE
    ) as ours:
        os.close(writing)
        select.select([reading], [], [])
        time.sleep(0.3)  # the pipe, of 64 kB, is full
        with os.fdopen(reading) as lines:
            assert lines.read() == 300 * f"{line}\n"
        assert ours.stderr.read() == b"True\n"


def test_an_error_that_nobody_reads_keeps_its_exit_code():
    for streams in ("2>/dev/full", "2>&1 | true", ">&- 2>&-"):
        assert run(REPORT.format(fails=True), streams)[0] == 6


def test_a_report_that_does_not_fit_on_the_disk_is_an_error():
    code, error = run(REPORT.format(fails=False), ">/dev/full")
    assert code == 1 and "No space left on device" in error

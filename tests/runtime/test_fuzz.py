"""A small sample of the fuzz; the whole: python tests/bench/fuzz.py --count 10000 --seed N"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from aerial_runtime.errors import InputError, UsageError

FUZZ = Path(__file__).parents[1] / "bench" / "fuzz.py"


@pytest.fixture
def fuzz(tmp_path, monkeypatch, tiny_models):
    """The fuzz on tiny models."""
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        yield module.Fuzz(stack, tiny_models)


def run(*flags):
    command = [sys.executable, str(FUZZ), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)


def test_only_errors_that_say_what_to_do_come_out(tmp_path):
    answer = run("--count", "280", "--seed", "3")
    assert (answer.returncode, "FAILED" in answer.stdout) == (0, False), answer.stdout + answer.stderr
    tried, refused = map(int, re.search(r"^(\d+) tried, (\d+) refused, 0 failed", answer.stdout, re.MULTILINE).groups())
    assert tried == 280 and 100 < refused < 280  # some are good, some are not: both ways are gone


def test_inputs_follow_from_seed_and_number(fuzz):
    assert [fuzz.make(1, index) for index in range(21)] == [fuzz.make(1, index) for index in range(21)]
    assert [fuzz.make(1, index) for index in range(21)] != [fuzz.make(2, index) for index in range(21)]
    assert len({fuzz.make(1, index)[0] for index in range(7)}) == 7


def test_another_exception_is_not_taken_for_a_refusal(fuzz, monkeypatch):
    assert fuzz.attempt("camera", "nowhere.png")
    assert not fuzz.attempt("camera", "good.png")
    errors = iter([KeyError("x"), UsageError("two\nlines"), InputError("one line")])

    def broken(given):
        raise next(errors)

    monkeypatch.setitem(fuzz.kinds, "camera", (None, broken))
    with pytest.raises(KeyError):
        fuzz.attempt("camera", "")
    with pytest.raises(RuntimeError, match="more than one line"):
        fuzz.attempt("camera", "")
    assert fuzz.attempt("camera", "")


def test_a_failure_is_reported_with_what_repeats_it(tmp_path, monkeypatch):
    """The same file in a process whose camera opener is broken."""
    script = (
        "import runpy, sys, aerial_runtime.camera as camera\n"
        "def broken(*_): raise KeyError('x')\n"
        f"camera.open_source = broken; sys.argv = ['fuzz', '--count', '7', '--seed', '5']\n"
        f"runpy.run_path({str(FUZZ)!r}, run_name='__main__')"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 1
    assert "FAILED --seed 5 --only 2: camera: KeyError: 'x'" in answer.stdout

"""Ten kills of a daemon that records; two hundred: make soak"""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def kills():
    for name in ("soak", "kills"):
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # the second imports the first
        spec.loader.exec_module(module)
    yield module
    del sys.modules["soak"], sys.modules["kills"]


def test_a_killed_recording_reads_back_to_within_a_second(kills, tmp_path, tiny_models):
    rng = random.Random(4)
    found = []
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(kills.kill(folder, rng.uniform(0, kills.LONGEST_S), tiny_models))
        assert found[-1].problems() == []
    assert sum(kill.due >= 0 for kill in found) >= 3
    late = dataclasses.replace(found[-1], due=found[-1].last + 100)
    assert "were due" in late.problems()[0]

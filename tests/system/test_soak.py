"""A short flight of the soak, with every fault in it; the whole: make soak"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest

SOAK = Path(__file__).parents[1] / "bench" / "soak.py"
ANY_SLOPE = 1e9  # the first thousands of frames fill buffers; the whole soak judges memory


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["soak"]


@pytest.fixture(scope="module")
def flight(soak, tmp_path_factory, tiny_models):
    return soak.fly(count=1000, fps=100.0, seed=7, folder=tmp_path_factory.mktemp("soak"), models=tiny_models)


def test_every_frame_is_accounted_for(flight):
    assert flight.problems(ANY_SLOPE) == []
    assert flight.last_index + 1 >= 1000 and flight.health.state == "stopping"
    assert flight.told["camera-lost"] == 3 and flight.told["disk-full"] == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda health: msgspec.structs.replace(health, dropped=health.dropped + 1), "frames, but"),
        (lambda health: msgspec.structs.replace(health, frames=health.frames + 1), "messages heard or missed"),
        (lambda health: msgspec.structs.replace(health, unwritten=health.unwritten + 1), "lines written or not"),
        (lambda health: msgspec.structs.replace(health, unreadable=0), "one corrupt frame"),
    ],
)
def test_a_frame_that_is_counted_wrongly_is_found(flight, change, problem):
    wrong = dataclasses.replace(flight, health=change(flight.health))
    assert any(problem in found for found in wrong.problems(ANY_SLOPE))


@pytest.mark.parametrize(
    ("what", "problem"),
    [("memory_mb", "memory grows by 10.0 MB"), ("descriptors", "descriptors grow"), ("threads", "threads grow")],
)
def test_growth_is_found(soak, flight, what, problem):
    steady = [soak.Sample(1000 * n, 100.0, 20, 10, calm=n % 7 != 0) for n in range(101)]
    assert dataclasses.replace(flight, samples=steady).problems() == []
    growing = [dataclasses.replace(s, **{what: getattr(s, what) + s.frames / 10_000}) for s in steady]
    assert any(problem in found for found in dataclasses.replace(flight, samples=growing).problems())


def test_a_fault_that_nobody_was_told_of_is_found(flight):
    silent = dataclasses.replace(flight, told=flight.told - type(flight.told)({"disk-full": 1}))
    assert any("reasons told" in found for found in silent.problems(ANY_SLOPE))

"""What the image installs is pinned, hashed, the same that is tested, and complete for a Jetson."""

import importlib.util
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from aerial_runtime.errors import CheckError

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "docker" / "requirements").glob("*.txt"))


@pytest.fixture(scope="module")
def checker():
    spec = importlib.util.spec_from_file_location("check_aarch64", ROOT / "docker" / "check_aarch64.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(requirements, environment):
    """Return name -> pinned version of those whose marker holds."""
    held = [each for each in requirements if each.marker is None or each.marker.evaluate(environment)]
    return {re.sub("[-_.]+", "-", each.name).lower(): str(each.specifier) for each in held}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_each_requirement_is_pinned_and_hashed(checker, lock):
    lines = list(checker.locked(lock))
    assert len(lines) > 5
    for requirement, line in lines:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), line
        assert re.fullmatch(r"\S+( --hash=sha256:[0-9a-f]{64})+", line)


@pytest.mark.parametrize("python", ["3.10.12", "3.11.7", "3.12.3", "3.13.1"])
def test_what_flies_is_what_is_tested(checker, python):
    environment = checker.environment_of(python)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = pins([Requirement(line) for line in lines if not line.startswith("#")], environment)
    flight = pins([requirement for requirement, _ in checker.locked(LOCKS[1])], environment)
    assert LOCKS[1].stem == "flight" and {"numpy", "onnxruntime", "opencv-python-headless"} <= set(flight)
    assert flight.items() <= tested.items()


def test_a_dependency_that_no_lock_holds_is_found(checker, monkeypatch):
    wheel = {
        "name": "pyzmq",
        "version": "1",
        "requires_dist": ["numpy", 'cffi; implementation_name == "pypy"', "left-out>=2"],
    }
    monkeypatch.setattr(checker, "resolve", lambda *_: [{"metadata": wheel}])
    with pytest.raises(CheckError, match=r"pyzmq needs left-out>=2, which no lock holds"):
        checker.check("3.12.3", [LOCKS[1]])
    wheel["requires_dist"].pop()
    assert checker.check("3.12.3", [LOCKS[1]]) == ["pyzmq 1"]


def test_markers_are_those_of_the_jetson_and_not_of_this_python(checker, monkeypatch):
    asked = {}
    monkeypatch.setattr(checker, "resolve", lambda python, lines: asked.update({python: lines}) or [])
    for python in ("3.10.12", "3.12.3"):
        checker.check(python, LOCKS[:2])
    assert any(line.startswith("tomli==") for line in asked["3.10.12"])
    assert not any(line.startswith("tomli==") for line in asked["3.12.3"])
    assert not any(line.startswith("pycuda") for lines in asked.values() for line in lines)

"""What flies, flies alone: the wheel in an empty environment, with nothing of the ground, on every supported Python."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def interpreter(version: str) -> str | None:
    """Path of a working interpreter of that version: ours, one on the PATH, or one of pyenv's."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = [sys.executable] if version == ours else [shutil.which(f"python{version}")]
    places += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    for place in filter(None, places):
        if subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0:
            return place
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("aerial-*.whl")
    return built


@pytest.fixture(scope="module", params=PYTHONS)
def flight(request, wheel, tmp_path_factory):
    """The commands of an empty environment that holds the wheel with the extra `cpu`."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} on this machine")
    environment = tmp_path_factory.mktemp("flight") / "env"
    subprocess.run([python, "-m", "venv", environment], check=True)
    install = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", ROOT / "constraints.txt", f"{wheel}[cpu]"], check=True)
    return environment / "bin"


def test_the_wheel_flies_the_demo(flight, tmp_path):
    command = [flight / "aerial-runtime", "--camera", "demo", "--bind", "none", "--output", "out.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "recall" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and sum(len(row["targets"]) for row in rows) > 50


def test_the_wheel_says_which_commit_it_was_built_from(flight):
    command = [flight / "python", "-I", flight / "aerial-runtime", "--version"]  # -I: the wheel's, not a PYTHONPATH's
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    build = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=.dirty"]
    clone = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    suffix = f"+{clone.stdout.strip()}" if clone.returncode == 0 else ""
    assert done.stdout.strip() == f"aerial-runtime {version('aerial')}{suffix}"


def test_nothing_of_the_ground_is_installed(flight):
    code = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('torch', 'lightning', 'onnx', 'PIL'))))"
    assert subprocess.run([flight / "python", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("words", [("aerial-train", "segmenter", "--name", "x"), ("aerial-export", "x.pt")])
def test_ground_commands_say_what_is_missing(flight, words):
    done = subprocess.run([flight / words[0], *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "pip install" in done.stderr and "Traceback" not in done.stderr

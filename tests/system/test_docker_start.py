"""The image's entry point, with programs that say how they were called."""

import re
import subprocess
from pathlib import Path

import pytest

START = Path(__file__).parents[2] / "docker" / "start.sh"


@pytest.fixture
def start(tmp_path):
    for name in ("aerial-runtime", "python"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)

    def run(*words):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["/bin/sh", START, *map(str, words)], capture_output=True, text=True, env=environment,
                              check=False)  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).strip()

    return run


def test_fly_records_under_a_name_of_its_own(start, tmp_path):
    engine = tmp_path / "segmenter.engine"
    engine.touch()
    flights = [start("fly", f"--segmenter={engine}", "--camera", "a b")[1] for _ in range(2)]
    for said in flights:
        assert re.fullmatch(
            r"aerial-runtime --output /var/lib/aerial/recordings/\d{8}T\d{6}\.\d{9}\.jsonl --segmenter=.* --camera a b",
            said,
        )
    assert flights[0] != flights[1]


def test_fly_says_what_to_do_where_there_is_no_engine(start, tmp_path):
    for words in (("--segmenter", tmp_path / "s.engine"), (f"--segmenter={tmp_path}/s.engine",)):
        code, said = start("fly", *words)
        assert code == 3 and f"{tmp_path}/s.engine" in said and "docker compose run --rm aerial prepare" in said
        assert "--segmenter=" not in said


def test_prepare_and_any_other_command(start):
    assert start("prepare", "--frame-size", "1280x720") == (
        0,
        "python /opt/aerial/libexec/prepare.py --models /var/lib/aerial/models --frame-size 1280x720",
    )
    assert start("aerial-runtime", "--version") == (0, "aerial-runtime --version")
    assert start("sh", "-c", "exit 7")[0] == 7

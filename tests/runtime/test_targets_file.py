"""The file of all targets: whole or not there."""

from __future__ import annotations

import os
import resource

import pytest

from aerial_runtime.contract import Box, FlightTargets, FusedAttribute, Sighting, TrackedTarget
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_runtime.targets_file import TargetsFile, read_targets

SIGHTING = Sighting("f0.png", 0, 1, 2, Box(1, 2, 3, 4))
TARGET = TrackedTarget(1, 1, 0.9, {"kind": FusedAttribute("plain", 0.8, 1.0)}, SIGHTING, SIGHTING, SIGHTING)
FLIGHT = FlightTargets("cam0", 3, 0, [TARGET])


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "targets.json"
    file = TargetsFile(path, overwrite=False)
    assert not any(tmp_path.iterdir()), "before the end there is nothing"
    file.write(FLIGHT)
    assert read_targets(path) == FLIGHT
    assert [*tmp_path.iterdir()] == [path]
    assert '"schema": "aerial.flight-targets/1"' in path.read_text()


def test_an_old_file_is_kept_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "targets.json"
    path.write_text("old")
    with pytest.raises(UsageError, match=r"targets\.json exists; give --overwrite"):
        TargetsFile(path, overwrite=False)
    file = TargetsFile(path, overwrite=True)
    assert path.read_text() == "old"
    file.write(FLIGHT)
    assert read_targets(path) == FLIGHT


def test_a_file_beside_it_is_left_alone(tmp_path):
    """--output may be called so."""
    path, other = tmp_path / "targets.json", tmp_path / "targets.json.part"
    other.write_text("somebody's")
    TargetsFile(path, overwrite=False).write(FLIGHT)
    assert other.read_text() == "somebody's" and read_targets(path) == FLIGHT


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    file = TargetsFile(tmp_path / "targets.json", overwrite=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(ResourceError, match="cannot write --targets"):
            file.write(FLIGHT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(tmp_path.iterdir())


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "targets.json", []
    whole = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append((os.fstat(file).st_size, path.exists())), whole(file)))
    TargetsFile(path, overwrite=False).write(FLIGHT)
    assert synced[0] == (path.stat().st_size, False)  # the file itself, whole
    assert synced[1][1]  # then the folder that holds its name


def test_places_that_cannot_be(tmp_path):
    with pytest.raises(UsageError, match="is not a regular file"):
        TargetsFile(tmp_path, overwrite=True)
    with pytest.raises(ResourceError, match=r"cannot write --targets .*\(No such file or directory\)"):
        TargetsFile(tmp_path / "nowhere" / "targets.json", overwrite=False)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "targets.json"
    with pytest.raises(InputError, match="cannot read the targets"):
        read_targets(path)
    for text in ("[1, 2", "[]", '{"schema": "aerial.detections/1"}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is no file of targets"):
            read_targets(path)

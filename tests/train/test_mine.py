"""Mining: candidates on frames without targets become crops that a classifier learns to reject."""

import errno
import json
import os

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_train import mine
from aerial_train.cli import main
from aerial_train.data import open_crops, write_crops

RED, FAINT = (0, 0, 255), (0, 0, 150)


@pytest.fixture
def empty(tmp_path, kit):
    """Photographs of empty ground: three red things that the tiny classifier takes for targets, a faint one."""
    folder = tmp_path / "empty"
    folder.mkdir()
    frames = [((20, 20, 12, RED), (60, 20, 40, RED)), ((20, 20, 16, RED), (100, 60, 20, FAINT)), ()]
    for number, squares in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}.png"), kit.frame(240, 160, *squares))
    return folder


def words(models, out, *more):
    return ["mine", "--models", str(models), "--out", str(out), *map(str, more)]


def test_what_is_taken_for_a_target_becomes_a_dataset(tmp_path, suas_models, empty, capsys):
    assert main(words(suas_models, tmp_path / "mined", "--empty", empty, "--above", 0.5)) == 0
    assert "3 crops of 3 frames without targets" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "mined" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["recipe"], manifest["count"]) == ("crops", "mined", 3)
    space, size = load_label_space("suas"), manifest["settings"]["size"]
    crops = open_crops(
        str(tmp_path / "mined"), space=space, split="all", recipe="flight", backgrounds=None, seed=0, crop_size=size,
        margin=manifest["settings"]["margin"],
    )  # fmt: skip
    batch = crops.batch(0, range(3))
    assert not batch.is_target.any() and not batch.heading.any()
    assert all((labels == -1).all() for labels in batch.labels.values())
    middle = batch.crops[:, size // 2, size // 2]
    assert (middle == RED).all()
    sizes = sorted(crops.sample(0, index).source_px for index in range(3))
    assert sizes == pytest.approx([12, 16, 40], abs=8)


def test_the_crops_of_one_flight_are_never_divided(tmp_path, suas_models, kit):
    flights = {"a": 3, "b": 1}  # red things in each of its two photos
    for flight, count in flights.items():
        squares = [(20 + 60 * k, 20, 16, RED) for k in range(count)]
        for number in range(2):
            (tmp_path / "empty").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / "empty" / f"{flight}_{number}.png"), kit.frame(240, 160, *squares))
    assert main(words(suas_models, tmp_path / "mined", "--empty", tmp_path / "empty", "--above", 0.5)) == 0
    splits = json.loads((tmp_path / "mined" / "manifest.json").read_text())["splits"]
    assert sorted(splits.values()) == [2, 6]


def test_how_sure_the_classifier_must_be(tmp_path, suas_models, empty, capsys):
    assert main(words(suas_models, tmp_path / "all", "--empty", empty, "--above", 0)) == 0
    assert "4 crops of 3 frames" in capsys.readouterr().out


def test_frames_are_drawn_without_targets_on_the_photos_of_trainings(tmp_path, suas_models, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    ground = np.full((1080, 1920, 3), 90, np.uint8)
    for flight in ("one", "two"):
        cv2.imwrite(str(photos / f"{flight}_1.jpg"), ground)
    out = tmp_path / "mined"
    assert main(words(suas_models, out, "--frames", 2, "--backgrounds", photos, "--above", 0)) == 0
    assert "of 2 frames without targets" in capsys.readouterr().out


def test_held_out_frames_lie_on_photos_that_trainings_leave_out(tmp_path):
    for name, bgr in (("one", (0, 0, 255)), ("two", (255, 0, 0))):
        cv2.imwrite(str(tmp_path / f"{name}_1.png"), np.full((300, 400, 3), bgr, np.uint8))
    grounds: dict[bool, set[str]] = {True: set(), False: set()}
    for image, held_out in mine._drawn(load_label_space("suas"), tmp_path, 0, 30):
        blue, _, red = np.median(image.reshape(-1, 3), axis=0)
        if abs(blue - red) > 60:  # else procedural terrain
            grounds[held_out].add("red" if red > blue else "blue")
    assert sorted(map(len, grounds.values())) == [1, 1] and grounds[True] != grounds[False]


def test_ctrl_c_keeps_what_was_found(tmp_path, suas_models, empty, capsys, monkeypatch):
    whole = mine.candidates

    def stop(pair, image_bgr, above):
        if (image_bgr[60:80, 100:120] == FAINT).all():
            raise KeyboardInterrupt
        return whole(pair, image_bgr, above)

    monkeypatch.setattr(mine, "candidates", stop)
    assert main(words(suas_models, tmp_path / "mined", "--empty", empty, "--above", 0.5)) == 130
    assert "2 crops of 1 frames without targets, interrupted of 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "mined" / "manifest.json").read_text())["count"] == 2


def test_a_full_disk_is_told_as_the_writer_of_datasets_tells_it(tmp_path, suas_models, empty, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write_crops, "write_shard", full)
    assert main(words(suas_models, tmp_path / "mined", "--empty", empty, "--above", 0.5)) == 5
    error = capsys.readouterr().err
    assert "only 0 crops could be written to" in error and "(No space left on device); they can be used" in error


def test_what_cannot_be(tmp_path, suas_models, empty, capsys):
    for change, code, message in (
        (["--frames", 0], 2, "--frames"),
        (["--above", 2], 2, "--above"),
        (["--device", "tpu"], 2, "--device"),
        (["--empty", empty, "--backgrounds", empty], 2, "give one of them"),
        (["--empty", tmp_path / "none"], 3, "check --empty"),
    ):
        assert main(words(suas_models, tmp_path / "out", *change)) == code
        assert message in capsys.readouterr().err
    (empty / "3.png").write_bytes(b"no picture")
    assert main(words(suas_models, tmp_path / "out", "--empty", empty)) == 3
    assert "3.png" in capsys.readouterr().err
    assert main(words(suas_models, tmp_path / "out", "--empty", empty)) == 5, "the folder exists"

"""The demo flight: one field, seen frame after frame, with its truth."""

import json
from itertools import pairwise

import cv2
import numpy as np
import pytest

from aerial_runtime.camera.demo import DEMO_FOLDER
from aerial_runtime.card import load_label_space
from aerial_runtime.label_file import read_labels
from aerial_train import cli
from aerial_train.demo_flight import STEP_PX, fly, label_row

SUAS = load_label_space("suas")


@pytest.fixture(scope="module")
def flight():
    return fly(SUAS, 3, seed=5)


def test_a_board_moves_down_the_picture_and_stays_what_it_is(flight):
    followed = 0
    for (_, _, before), (_, _, after) in pairwise(flight):
        later = dict(after)
        for number, target in before:
            if number in later and not target.truncated and not later[number].truncated:
                assert later[number].labels == target.labels
                assert later[number].box.y - target.box.y == pytest.approx(STEP_PX, rel=0.2)
                assert later[number].size_px == pytest.approx(target.size_px, rel=0.15, abs=2)
                followed += 1
    assert followed >= 2


def test_flights_repeat():
    (name, image, _), (other_name, other, _) = fly(SUAS, 1, seed=6)[0], fly(SUAS, 1, seed=6)[0]
    assert name == other_name
    np.testing.assert_array_equal(image, other)


def test_truth_is_a_label_file(flight, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([label_row(name, image, targets, SUAS) for name, image, targets in flight]))
    frames = read_labels(path)
    assert [frame.image for frame in frames] == [name for name, _, _ in flight]
    attributes = frames[0].targets[0].attributes
    assert set(attributes) == {"shape", "letter", "shape_color", "letter_color", "orientation"}


def test_the_shipped_flight_is_whole():
    frames = read_labels(DEMO_FOLDER / "labels.json")
    assert len(frames) == 24 and sum(label.scored for frame in frames for label in frame.targets) >= 60
    for frame in frames:
        assert cv2.imread(str(DEMO_FOLDER / frame.image)).shape == (1080, 1920, 3)
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) < 8e6


def test_what_cannot_be_leaves_no_folder(tmp_path, capsys):
    space = tmp_path / "space.json"
    space.write_text('{"name": "own", "heads": [{"name": "kind", "classes": ["tent", "boat"]}]}')
    for words, code, named in (
        (["--seed", "-1"], 2, "--seed"),
        (["--label-space", "no.json"], 3, "no.json"),
        (["--label-space", str(space)], 3, "'tent'"),
    ):
        assert cli.main(["demo-flight", "--out", str(tmp_path / "new"), *words]) == code
        assert named in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_existing_folder_is_not_overwritten(tmp_path, capsys):
    assert cli.main(["demo-flight", "--out", str(tmp_path)]) == 5
    assert str(tmp_path) in capsys.readouterr().err

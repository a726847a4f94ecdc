"""`aerial-train`: every subcommand answers, and says in a sentence what is wrong."""

import json

import cv2
import numpy as np
import pytest

from aerial_train import cli
from aerial_train.dataset import CropFolder, FrameFolder, open_dataset


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0 and command in capsys.readouterr().out


def test_no_command_and_unknown_commands_are_usage_errors(capsys):
    for words in ([], ["nonsense"], ["scenes"], ["segmenter", "--name", "a", "--unknown", "1"]):
        assert cli.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_ground_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "score", ("package_that_is_missing", "text"))
    assert cli.main(["score"]) == 5
    assert "package_that_is_missing; pip install 'aerial[train]'" in capsys.readouterr().err


def test_sheets_of_crops_and_frames(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    real = tmp_path / "real"
    real.mkdir()
    cv2.imwrite(str(real / "a.png"), np.full((30, 50, 3), 99, np.uint8))
    assert cli.main(["scenes", "--sheet", str(sheet), "--count", "5", "--beside", str(real)]) == 0
    assert cv2.imread(str(sheet)).shape == (138, 12 * 112, 3)
    assert cli.main(["scenes", "--sheet", str(sheet), "--frames", "--count", "2"]) == 0
    assert cv2.imread(str(sheet)).shape == (256, 4 * 512, 3)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--sheet", "none/sheet.png", "--count", "1"], 5, "none/sheet.png"),
        (["--sheet", "s.png", "--count", "0"], 2, "--count"),
        (["--sheet", "s.png", "--seed", "-1"], 2, "--seed"),
        (["--sheet", "sheet"], 2, ".png"),
        (["--sheet", "s.png", "--frames", "--recipe", "r32"], 2, "r32"),
        (["--sheet", "s.png", "--beside", "none"], 3, "none"),
        (["--sheet", "s.png", "--backgrounds", "none"], 3, "none"),
        (["--sheet", "s.png", "--label-space", "none.json"], 3, "none.json"),
    ],
)
def test_bad_requests_for_sheets(words, code, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scenes", *words]) == code
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_datasets_read_back_as_they_were_drawn(tmp_path):
    from aerial_runtime.card import load_label_space
    from aerial_train.scenes.backgrounds import Backgrounds
    from aerial_train.scenes.crops import CROP_RECIPES, CropScenes
    from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

    space = load_label_space("suas")
    frames, crops = tmp_path / "frames", tmp_path / "crops"
    assert cli.main(["dataset", "--out", str(frames), "--count", "4", "--size", "130x70", "--seed", "3"]) == 0
    live = FrameScenes(space, FRAME_RECIPES["flight"], Backgrounds(None), 3).with_size(130, 70)
    read = open_dataset(frames)
    assert isinstance(read, FrameFolder) and read.label_space == space
    for field in ("images", "coverage", "weight"):
        np.testing.assert_array_equal(getattr(read.batch(0, range(4)), field), getattr(live.batch(0, range(4)), field))
    assert read.sample(0, 1).targets[0].labels == live.sample(0, 1).targets[0].labels

    assert cli.main(["dataset", "--out", str(crops), "--kind", "crops", "--count", "9"]) == 0
    read_crops = open_dataset(crops)
    assert isinstance(read_crops, CropFolder)
    ours, theirs = (
        read_crops.batch(0, range(9)),
        CropScenes(space, CROP_RECIPES["flight"], Backgrounds(None)).batch(0, range(9)),
    )
    np.testing.assert_array_equal(ours.crops, theirs.crops)
    np.testing.assert_array_equal(ours.is_target, theirs.is_target)
    np.testing.assert_allclose(ours.heading, theirs.heading, atol=1e-6)
    for name, labels in theirs.labels.items():
        np.testing.assert_array_equal(ours.labels[name], labels)


def test_coco_boxes_areas_and_polygons_fit_the_masks(tmp_path):
    folder = tmp_path / "frames"
    assert cli.main(["dataset", "--out", str(folder), "--count", "6", "--seed", "1"]) == 0
    coco = json.loads((folder / "labels.json").read_text())
    assert {image["file_name"] for image in coco["images"]} == {path.name for path in (folder / "images").iterdir()}
    assert coco["annotations"]
    assert min(row["id"] for row in coco["annotations"]) == min(image["id"] for image in coco["images"]) == 1
    for row in coco["annotations"]:
        x, y, width, height = row["bbox"]
        assert 0 < row["area"] <= width * height and row["category_id"] == 1
        for polygon in row["segmentation"]:
            points = np.array(polygon).reshape(-1, 2)
            assert (points >= (x, y)).all() and (points <= (x + width, y + height)).all()


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--recipe", "r32"], 2, "r32"),
        (["--count", "0"], 2, "--count"),
        (["--size", "big"], 2, "'big'"),
        (["--size", "4x4"], 2, "16x16"),
        (["--out", "/dev/null/x"], 5, "/dev/null/x"),
    ],
)
def test_bad_requests_for_datasets(words, code, named, tmp_path, capsys):
    out = [] if "--out" in words else ["--out", str(tmp_path / "d")]
    assert cli.main(["dataset", *out, *words]) == code
    assert named in capsys.readouterr().err


def test_folders_that_are_no_dataset_are_refused(tmp_path):
    from aerial_runtime.errors import InputError

    with pytest.raises(InputError, match="not a readable dataset"):
        open_dataset(tmp_path)
    folder = tmp_path / "d"
    assert cli.main(["dataset", "--out", str(folder), "--count", "2"]) == 0
    (folder / "images" / "000001.png").unlink()
    with pytest.raises(InputError, match=r"000001\.png"):
        open_dataset(folder).batch(0, [1])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"count": 5}))
    with pytest.raises(InputError, match="promises 5"):
        open_dataset(folder)


def test_score_checks_its_limits(tmp_path, capsys):
    labels, empty = tmp_path / "labels.json", tmp_path / "out.jsonl"
    labels.write_text(json.dumps([{"image": "a", "targets": [{"x": 0, "y": 0, "w": 30, "h": 30}]}]))
    empty.write_text("")
    assert cli.main(["score", str(labels), str(empty), "--list"]) == 0
    assert "missed a x=0 y=0 30x30" in capsys.readouterr().out
    assert cli.main(["score", str(labels), str(empty), "--min-recall", "0.5"]) == 6
    assert "recall is 0.000" in capsys.readouterr().err

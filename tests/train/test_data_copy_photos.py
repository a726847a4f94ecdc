"""`aerial-train dataset --from`: photos copied to a dataset with the same labels, or nothing left behind."""

import json

import cv2
import numpy as np

from aerial_train import cli


def test_a_copy_is_a_dataset_with_the_same_labels_and_a_fixed_split(boxes, tmp_path, capsys, photo_kit):
    out = tmp_path / "out"
    assert cli.main(["dataset", "--from", str(boxes), "--out", str(out)]) == 0
    assert "4 photos of 2 sources, 2 to train on, 2 held out" in capsys.readouterr().out
    assert (out / "images" / "a_1.png").read_bytes() == (boxes / "a_1.png").read_bytes()
    before, after = photo_kit.whole(boxes), photo_kit.whole(out)
    for index in range(4):
        one, other = before.sample(0, index), after.sample(0, index)
        assert (one.name, one.targets) == (other.name, other.targets)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.ignore, other.ignore)
    held_out = {photo_kit.whole(out, split="val", seed=seed).sample(0, 0).name for seed in range(9)}
    assert len(held_out) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["statistics"]["classes"]["shape"]["star"] == 4 and manifest["splits"] == {"train": 2, "val": 2}


def test_drawn_masks_are_copied_too(tmp_path, photo_kit):
    path = photo_kit.coco_of(tmp_path / "in", [{"bbox": [50, 40, 30, 20]}], split="train")
    (path.parent / "masks").mkdir()
    mask = np.zeros((120, 200), np.uint8)
    mask[40:60, 50:80] = 255
    cv2.imwrite(str(path.parent / "masks" / "a_1.png"), mask)
    assert cli.main(["dataset", "--from", str(path), "--out", str(tmp_path / "out")]) == 0
    for data in (path, tmp_path / "out"):
        np.testing.assert_array_equal(photo_kit.whole(data).sample(0, 0).mask, mask)


def test_copies_that_cannot_be_leave_nothing_behind(boxes, tmp_path, capsys):
    out = tmp_path / "out"
    (boxes / "b_2.png").write_bytes(b"no picture")
    rows = json.loads((boxes / "labels.json").read_text())
    (boxes / "labels.json").write_text(json.dumps([row | {"width": 200, "height": 120} for row in rows]))
    assert cli.main(["dataset", "--from", str(boxes), "--out", str(out)]) == 3
    assert "b_2.png" in capsys.readouterr().err and not out.exists()
    for words, code, named in (
        (["--from", str(boxes), "--kind", "crops"], 2, "--kind cannot be given with --from"),
        (["--from", str(boxes), "--count", "3", "--size", "64x64"], 2, "--count and --size"),
    ):
        assert cli.main(["dataset", "--out", str(out), *words]) == code
        assert named in capsys.readouterr().err


def test_names_outside_the_folder_are_not_copied(tmp_path, photo_kit):
    cv2.imwrite(str(tmp_path / "a.png"), photo_kit.picture())
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "labels.json").write_text(
        json.dumps([{"image": "../a.png", "targets": [], "source": s} for s in "ab"][:1])
    )
    assert cli.main(["dataset", "--from", str(folder), "--out", str(tmp_path / "out"), "--val", "0"]) == 3
    assert not (tmp_path / "out").exists()

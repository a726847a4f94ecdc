"""`aerial-train real` as a user runs it: the tiny models see red boards in photographs and crops labelled by hand."""

import json
import re

import cv2
import numpy as np
import pytest

from aerial_runtime.backends import open_backend
from aerial_runtime.card import Thresholds
from aerial_runtime.contract import Frame
from aerial_runtime.pipeline import Pipeline
from aerial_train.checkpoint import classifier_tensors, save_checkpoint
from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.cli import main
from aerial_train.data.reading import read_photos
from aerial_train.evaluation.pair import Pair
from aerial_train.evaluation.real_crops import LOOK_PX, find_board, read_crop, score_crops, shrunk

RED, PINK, FAINT = (0, 0, 255), (200, 0, 255), (0, 0, 150)  # FAINT is segmented, then taken for no target


@pytest.fixture
def pair(tiny_models):
    with open_backend(tiny_models / "segmenter.onnx") as one, open_backend(tiny_models / "classifier.onnx") as other:
        yield Pair(one, other)


@pytest.fixture
def frames(tmp_path, kit):
    folder = tmp_path / "frames"
    folder.mkdir()
    rows = [
        # A board found and read, one that is read wrongly, one taken for no target, one not painted at all; an extra,
        # and one that the edge cuts.
        ("a.png", [(20, 20, 24, RED), (100, 20, 32, RED), (20, 100, 20, FAINT), (200, 160, 20, RED), (216, 0, 24, RED)],
         [(20, 20, 24, "plain"), (100, 20, 32, "pink"), (20, 100, 20, None), (100, 100, 48, None)], True),
        # What is not labelled may be a target.
        ("b.png", [(40, 40, 16, RED)], [], False),
    ]  # fmt: skip
    labels = []
    for name, painted, known, complete in rows:
        cv2.imwrite(str(folder / name), kit.frame(240, 200, *painted))
        targets = [{"x": x, "y": y, "w": side, "h": side, "kind": kind} for x, y, side, kind in known]
        targets += [{"x": 216, "y": 0, "w": 24, "h": 24, "kind": "plain", "truncated": True}] if complete else []
        labels.append({"image": name, "targets": targets, "complete": complete})
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def write_crops(folder, rows):
    """rows: (picture, kind, source)."""
    folder.mkdir()
    labels = []
    for number, (image, kind, source) in enumerate(rows):
        cv2.imwrite(str(folder / f"c{number}.png"), image)
        labels.append({"image": f"c{number}.png", "kind": kind, "source_repo": source})
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def test_frames(tmp_path, frames, tiny_models, capsys):
    words = ["real", str(frames), "--models", str(tiny_models), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert re.search(r"17-24 +2 +1 +50\.0 ", text) and re.search(r"all +4 +2 +50\.0 ", text)
    assert "extras: 1 in 1 frames with every target labelled, 1.000 a frame (1.000-1.000)" in text
    assert re.search(r"kind +2 +1 +50\.0 .* 100\.0\n", text) and re.search(r"all heads +2 +1 ", text)
    assert re.search(r"a\.png x=20 y=100 20x20 +taken for no target \(0\.0\d\)", text)
    assert re.search(r"a\.png x=100 y=100 48x48 +not segmented", text)
    numbers = json.loads((tmp_path / "out" / "scores.json").read_text())
    score = numbers["real"][str(frames)]
    assert (score["labels"], score["found"], score["extras"], score["fields_right"]) == (4, 2, 1, 1)
    assert numbers["provenance"]["classifier: model"].startswith("classifier.onnx")
    assert "taken for no target" in (tmp_path / "out" / "report.html").read_text()


def test_a_pair_flies_what_the_pipeline_flies(tmp_path, kit):
    thresholds = Thresholds(target=0.5, abstain={"kind": 0.9})
    kit.build_segmenter(tmp_path / "segmenter.onnx", kit.segmenter_card())
    kit.build_classifier(tmp_path / "classifier.onnx", kit.classifier_card(thresholds=thresholds))
    # The kinds of the second are near to each other, so that its label is withheld; the third is no target.
    image = kit.frame(240, 200, (20, 20, 24, RED), (100, 20, 32, (80, 0, 255)), (20, 100, 20, FAINT))
    with open_backend(tmp_path / "segmenter.onnx") as one, open_backend(tmp_path / "classifier.onnx") as other:
        pair = Pair(one, other)
        seen = pair.see(image, "a")
        assert pair.fly(seen) == Pipeline(one, other)(Frame(image, "a", 0, 0, 0)).targets
    assert len(seen) == 3 and all(target.attributes["kind"].label for target in seen)
    assert {target.attributes["kind"].label for target in pair.fly(seen)} == {"plain", None}


def test_the_board_is_looked_for_in_a_smaller_picture(tmp_path, pair, kit):
    image = kit.frame(640, 480, (240, 160, 200, PINK), (0, 0, 60, RED))
    folder = write_crops(tmp_path / "crops", [(image, "pink", "a"), (kit.frame(100, 80), "plain", "a")])
    large, empty = read_photos(folder, pair.label_space).photos
    found, whole = (read_crop(pair, large, manner) for manner in ("found", "whole"))
    assert found.found and found.image_bgr.shape == (120, 160, 3)
    box = found.target.box  # in the smaller picture
    assert (box.x, box.y, box.width, box.height) == (60, 40, 48, 48)
    assert found.target.attributes["kind"].label == "pink"
    assert not whole.found and whole.target.box.width == 640
    assert whole.target.confidence < 0.5 < found.target.confidence  # most of the whole is black
    assert not read_crop(pair, empty, "found").found  # nothing to see, so the whole is read


def test_a_board_that_the_classifier_rejects_is_not_found(tmp_path, pair, kit):
    folder = write_crops(tmp_path / "crops", [(kit.frame(100, 80, (30, 20, 40, FAINT)), "plain", "a")])
    photo = read_photos(folder, pair.label_space).photos[0]
    assert find_board(pair, kit.frame(100, 80, (30, 20, 40, FAINT))) is not None
    assert not read_crop(pair, photo, "found").found


def test_the_board_is_near_the_middle_and_large(pair, kit):
    image = kit.frame(160, 120, (0, 0, 60, RED), (72, 52, 12, RED), (60, 72, 32, RED))
    board = find_board(pair, image).box
    assert (board.x, board.y, board.width) == (60, 72, 32)
    assert find_board(pair, kit.frame(160, 120, (0, 0, 32, RED))) is None  # far from the middle


def test_a_small_picture_keeps_its_size():
    small = np.zeros((50, 70, 3), np.uint8)
    assert shrunk(small, LOOK_PX) is small
    assert shrunk(np.zeros((300, 1600, 3), np.uint8), LOOK_PX).shape == (30, 160, 3)


def test_sources_of_ten_labels_count_alike_and_the_rest_as_one(tmp_path, pair):
    plain, pink = (np.full((20, 20, 3), color, np.uint8) for color in (RED, PINK))
    rows = [(plain, "plain", "many")] * 28 + [(plain, "pink", "many")] * 2  # 28 of 30
    rows += [(pink, "pink", "few")] * 5 + [(pink, "plain", "few")] * 5  # 5 of 10
    rows += [
        (plain, "plain", "one"),
        (plain, "pink", "two"),
        (plain, "pink", "three"),
        (plain, None, "three"),
    ]  # 1 of 3
    folder = write_crops(tmp_path / "crops", rows)
    photos = read_photos(folder, pair.label_space).photos
    score = score_crops(pair, [read_crop(pair, photo, "whole") for photo in photos], "whole")
    (head,) = score.heads
    assert head.labels == 43 and score.crops == 44
    assert head.accuracy == pytest.approx((28 / 30 + 5 / 10 + 1 / 3) / 3)
    assert [(group.source, group.right, group.labels) for group in head.sources] == [
        ("many", 28, 30), ("few", 5, 10), ("the rest", 1, 3),
    ]  # fmt: skip
    assert 0 < head.low < head.accuracy < head.high < 1
    # All are said to be sure: the error of calibration is the share that is wrong.
    assert head.ece == pytest.approx(9 / 43, abs=0.01) and head.ece_low < head.ece < head.ece_high


def test_withheld_labels_are_wrong(tmp_path, kit):
    kit.build_segmenter(tmp_path / "segmenter.onnx", kit.segmenter_card())
    card = kit.classifier_card(thresholds=Thresholds(target=0.5, abstain={"kind": 0.9}))
    kit.build_classifier(tmp_path / "classifier.onnx", card)
    plain, near = (np.full((20, 20, 3), color, np.uint8) for color in (RED, (80, 0, 255)))
    folder = write_crops(tmp_path / "crops", [(plain, "plain", "a"), (near, "plain", "a"), (near, "pink", "a")])
    with open_backend(tmp_path / "segmenter.onnx") as one, open_backend(tmp_path / "classifier.onnx") as other:
        pair = Pair(one, other)
        photos = read_photos(folder, pair.label_space).photos
        (head,) = score_crops(pair, [read_crop(pair, photo, "whole") for photo in photos], "whole").heads
    assert head.accuracy == head.answered == pytest.approx(1 / 3)
    assert head.right_if_forced == pytest.approx(2 / 3)


def test_errors_are_written_as_pictures(tmp_path, frames, tiny_models, kit, capsys):
    crops = write_crops(tmp_path / "crops", [(np.full((20, 20, 3), RED, np.uint8), "pink", "a")] * 3)
    words = ["real", str(frames), str(crops), "--models", str(tiny_models), "--errors", str(tmp_path / "errors")]
    assert main([*words, "--pictures", "2"]) == 0
    assert sorted(path.name for path in (tmp_path / "errors").iterdir()) == [
        "crops-found.png", "crops-whole.png", "frames-extra.png", "frames-labels.png", "frames-missed.png",
    ]  # fmt: skip
    assert "crops-whole.png: 2 of 3" in capsys.readouterr().out
    # The larger one that was missed comes first: black ground in its green frame; then the one that looks faint.
    sheet = cv2.imread(str(tmp_path / "errors" / "frames-missed.png"))
    first, second = sheet[:160, :160], sheet[:160, 320:480]
    assert first[..., 1].max() > 150 and first[70:90, 70:90].max() == 0
    assert second[70:90, 70:90, 2].min() == 150
    # Beneath: the letters of a caption.
    assert sheet[162:].max() > 200


def test_sets_go_by_the_names_of_their_folders(tmp_path, frames, tiny_models, monkeypatch):
    for name in ("monday", "tuesday"):
        folder = tmp_path / "exports" / name
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True)
        (folder / "data.yaml").write_text("names: [plain]")
        (folder / "images" / "a.png").write_bytes((frames / "a.png").read_bytes())
    words = ["real", str(tmp_path / "exports" / "monday"), str(tmp_path / "exports" / "tuesday"), "."]
    monkeypatch.chdir(frames)
    assert main([*words, "--models", str(tiny_models), "--errors", str(tmp_path / "errors")]) == 0
    written = {path.name for path in (tmp_path / "errors").iterdir()}
    assert {"monday-extra.png", "tuesday-extra.png", "frames-missed.png"} <= written


def test_nothing_wrong_writes_nothing(tmp_path, tiny_models):
    crops = write_crops(tmp_path / "crops", [(np.full((20, 20, 3), RED, np.uint8), "plain", "a")])
    words = ["real", str(crops), "--models", str(tiny_models), "--errors", str(tmp_path / "errors")]
    assert main(words) == 0 and not (tmp_path / "errors").exists()


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (["--models", "nowhere"], 3, "there is no model nowhere/segmenter.onnx"),
        (["--segmenter", "nowhere.pt"], 3, "there is no model nowhere.pt"),
        (["--pictures", "0"], 2, "--pictures must be at least 1"),
        (["--threads", "0"], 2, "--threads must be at least 1"),
    ],
)
def test_what_cannot_be(frames, tiny_models, capsys, change, code, sentence):
    assert main(["real", str(frames), "--models", str(tiny_models), *change]) == code
    assert sentence in capsys.readouterr().err


def test_a_checkpoint_takes_the_place_of_one_model(tmp_path, frames, tiny_models, kit, capsys):
    inputs, outputs = classifier_tensors(kit.tiny, 16)
    card = kit.classifier_card(inputs=inputs, outputs=outputs, thresholds=Thresholds(target=1.0))
    save_checkpoint(tmp_path / "c.pt", Classifier(ClassifierConfig((8,), blocks=1), kit.tiny), card)
    words = ["real", str(frames), "--models", str(tiny_models), "--classifier", str(tmp_path / "c.pt")]
    assert main(words) == 0
    assert re.search(r"all +4 +0 +0\.0 ", capsys.readouterr().out)  # one that knows nothing is never that sure


def test_folders_of_one_name_would_overwrite_their_pictures(tmp_path, frames, tiny_models, capsys):
    words = ["real", str(frames), str(frames / "labels.json"), "--models", str(tiny_models), "--errors"]
    assert main([*words, str(tmp_path / "errors")]) == 2
    assert "two folders have one name among frames, frames" in capsys.readouterr().err


def test_no_labels(tmp_path, tiny_models, capsys):
    assert main(["real", str(tmp_path), "--models", str(tiny_models)]) == 3
    assert "holds neither labels.json" in capsys.readouterr().err

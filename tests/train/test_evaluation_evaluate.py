"""`aerial-train evaluate` as a user runs it: on tiny models whose answers follow from colours."""

import argparse
import json
import re
import shutil

import cv2
import msgspec
import numpy as np
import pytest
import torch

from aerial_runtime.card import ModelCard, Thresholds
from aerial_train import data as data_package
from aerial_train.checkpoint import classifier_tensors, load_checkpoint, save_checkpoint
from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.cli import main
from aerial_train.data.reading import read_photos
from aerial_train.data.splits import VAL_SHARE, with_splits
from aerial_train.evaluation.evaluate import add_arguments, evaluate_segmenter
from aerial_train.evaluation.sources import open_source
from aerial_train.torch_backend import open_model

BGR = {"plain": (0, 0, 255), "pink": (200, 0, 255), "orange": (0, 200, 255)}


def write_frames(folder, kit, rows):
    """rows: (squares painted, labels (x, y, side), complete)."""
    folder.mkdir()
    labels = []
    for number, (squares, known, complete) in enumerate(rows):
        name = f"flight{number}_001.png"
        cv2.imwrite(str(folder / name), kit.frame(160, 120, *squares))
        targets = [{"x": x, "y": y, "w": side, "h": side} for x, y, side in known]
        labels.append({"image": name, "targets": targets, "complete": complete})
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def write_crops(folder, kinds, painted=None):
    folder.mkdir()
    labels = []
    for number, (kind, color) in enumerate(zip(kinds, painted or kinds, strict=True)):
        image = np.full((20, 20, 3), BGR[color], np.uint8)
        cv2.imwrite(str(folder / f"c{number}.png"), image)
        labels.append({"image": f"c{number}.png", "kind": kind})
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture
def checkpoint(tmp_path, kit):
    torch.manual_seed(0)
    inputs, outputs = classifier_tensors(kit.tiny, 16)
    card = ModelCard(
        kind="classifier", name="c", label_space=kit.tiny, inputs=inputs, outputs=outputs, crop_margin=1.0,
        crop_size=16, scores={"loss": 0.5, "kind_accuracy": 0.1}, training={"seed": 0},
    )  # fmt: skip
    network = Classifier(ClassifierConfig((4,), blocks=1), kit.tiny)
    network.heads.weight.data *= 10
    save_checkpoint(tmp_path / "best.pt", network, card)
    return tmp_path / "best.pt"


RED = (0, 0, 255)


def test_segmenter(tmp_path, kit, tiny_models, capsys):
    data = write_frames(tmp_path / "frames", kit, [
        ([(20, 20, 24, RED), (100, 60, 20, RED)], [(20, 20, 24), (60, 80, 20)], True),  # found, extra, missed
        ([(40, 40, 32, RED), (100, 80, 16, RED)], [(40, 40, 32)], False),  # found; the other may be a target
    ])  # fmt: skip
    assert main(["evaluate", str(tiny_models / "segmenter.onnx"), str(data), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"match rule +3 +2 +66\.7 .* 50\.0 +1\n", text)
    assert "1 frames with every target labelled: 1.00 extras a frame" in text
    numbers = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert numbers["segmenter"]["objects"]["found"] == 2 and numbers["provenance"]["frames"] == "2"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "flight0_001.png x=60 y=80 20x20" in page  # missed
    assert "flight0_001.png x=100 y=60 20x20" in page  # extra
    assert "Suspected label errors" in page and "1 objects and 1 labels" in page
    assert numbers["provenance"]["file"] in page


def test_classifier(tmp_path, kit, tiny_models, capsys):
    kinds = ["plain", "pink", "orange", "pink", "orange"]
    data = write_crops(tmp_path / "crops", kinds, ["plain", "pink", "orange", "pink", "pink"])
    assert main(["evaluate", str(tiny_models / "classifier.onnx"), str(data), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"kind +5 +80\.0 .* 40\.0 ", text)  # four right, the most frequent class is 2 of 5
    page = (tmp_path / "out" / "report.html").read_text()
    assert "orange taken for pink: 1 of 2" in page
    assert "c4.png: kind labelled orange, pink at 1.00" in page
    head = json.loads((tmp_path / "out" / "scores.json").read_text())["classifier"]["heads"][0]
    assert head["confusion"] == [[1, 0, 0], [0, 2, 0], [0, 1, 1]]


def test_the_report_stands_alone_and_escapes(tmp_path, kit, tiny_models):
    data = write_crops(tmp_path / "a<b>&c", ["pink", "plain"], ["pink", "orange"])
    assert main(["evaluate", str(tiny_models / "classifier.onnx"), str(data), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in page and "a<b>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "http" not in page
    assert len(page) < 2e6


def test_write_changes_the_card_and_nothing_else(tmp_path, checkpoint, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"] * 24)
    before = load_checkpoint(checkpoint)
    assert main(["evaluate", str(checkpoint), str(data), "--write", "--abstain-error", "0.7"]) == 0
    after = load_checkpoint(checkpoint)
    assert after.card.weights_sha256 == before.card.weights_sha256
    assert after.card.temperature["kind"] != 1 and set(after.card.thresholds.abstain) == {"kind"}
    assert after.card.scores["loss"] == 0.5 and after.card.scores["kind_accuracy"] != 0.1
    assert after.card.training["seed"] == 0 and after.card.training["evaluated"]["crops"] == "72"
    assert after.card.training["evaluated"]["data"] == "crops"  # no path of this machine
    assert "export it again" in capsys.readouterr().out
    # What is written is what evaluating again then finds: nothing is left to be divided by.
    assert main(["evaluate", str(checkpoint), str(data), "--write"]) == 0
    again = load_checkpoint(checkpoint).card
    assert again.temperature["kind"] == pytest.approx(after.card.temperature["kind"], rel=1e-3)
    assert again.scores == pytest.approx(after.card.scores, rel=1e-3)


def test_nothing_is_written_to_a_model_that_was_not_measured(tmp_path, checkpoint, monkeypatch, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"])
    trained = load_checkpoint(checkpoint)
    sample = data_package.opening.PhotoCrops.sample

    def and_the_training_goes_on(self, epoch, index):
        torch.nn.init.ones_(trained.network.heads.bias)
        save_checkpoint(checkpoint, trained.network, trained.card)
        return sample(self, epoch, index)

    monkeypatch.setattr(data_package.opening.PhotoCrops, "sample", and_the_training_goes_on)
    assert main(["evaluate", str(checkpoint), str(data), "--write"]) == 3
    assert "was replaced while it was measured" in capsys.readouterr().err
    assert load_checkpoint(checkpoint).card.scores == trained.card.scores


def test_scores_of_the_pipeline_go_with_the_thresholds_that_they_were_of(tmp_path, checkpoint):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"] * 24)
    start = load_checkpoint(checkpoint)
    scores = {**start.card.scores, "certificate_recall": 0.9, "real_a_recall": 0.8}
    measured = {"certificate": {"frames": "9"}, "real": {"data": "a"}}
    card = msgspec.structs.replace(start.card, scores=scores, training={"seed": 0, "measured": measured})
    save_checkpoint(checkpoint, start.network, card)
    assert main(["evaluate", str(checkpoint), str(data), "--write"]) == 0
    after = load_checkpoint(checkpoint).card
    assert after.temperature != start.card.temperature
    assert not [name for name in after.scores if name.startswith(("certificate", "real"))]
    assert after.scores["loss"] == 0.5 and "measured" not in after.training


def test_scores_alone_are_written_where_thresholds_shall_stay(tmp_path, checkpoint, capsys):
    """As after `certificate --write`, which chooses for both models together and drops what was of another one."""
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"] * 24)
    start = load_checkpoint(checkpoint)
    card = msgspec.structs.replace(
        start.card, thresholds=Thresholds(target=0.123), scores={"certificate_recall": 0.9},
        training={"measured": {"certificate": {"frames": "9"}}},
    )  # fmt: skip
    save_checkpoint(checkpoint, start.network, card)
    assert main(["evaluate", str(checkpoint), str(data), "--write", "--keep-thresholds"]) == 0
    after = load_checkpoint(checkpoint).card
    assert (after.thresholds, after.temperature) == (card.thresholds, card.temperature)
    assert after.scores["certificate_recall"] == 0.9 and 0 < after.scores["kind_accuracy"] <= 1
    assert set(after.training) == {"measured", "evaluated"}
    assert "stay as they are" in capsys.readouterr().out
    assert main(["evaluate", str(checkpoint), str(data), "--write", "--keep-thresholds", "--views", "4"]) == 2
    assert "leave out --views" in capsys.readouterr().err


def test_a_segmenters_scores_for_the_card_are_of_the_chosen_threshold(tmp_path, kit):
    path = kit.build_segmenter(tmp_path / "s.onnx", kit.segmenter_card(thresholds=Thresholds(mask=0.95)))
    squares = [(20, 20, 40, (0, 0, 200))]  # 0.78 in the map: seen at lower thresholds alone
    data = write_frames(tmp_path / "frames", kit, [(squares, [(20, 20, 40)], True)] * 64)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([str(path), str(data)])
    written = []
    with open_model(path, "cpu", 1) as backend:
        for _ in range(2):
            numbers, choice = evaluate_segmenter(args, backend, open_source(args, backend.card))
            backend.card = msgspec.structs.replace(backend.card, thresholds=choice.thresholds)
            written.append((choice.thresholds.mask, numbers))
    assert written[0][0] < 0.78 and written[0][1]["object_recall"] == 1
    assert written[1] == written[0]


def test_views_are_written_where_they_shall_be(tmp_path, checkpoint):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"] * 24)
    assert main(["evaluate", str(checkpoint), str(data), "--views", "4"]) == 0
    assert load_checkpoint(checkpoint).card.views == 1
    assert main(["evaluate", str(checkpoint), str(data), "--views", "4", "--write"]) == 0
    assert load_checkpoint(checkpoint).card.views == 4
    assert main(["evaluate", str(checkpoint), str(data), "--write"]) == 0
    assert load_checkpoint(checkpoint).card.views == 4  # the card's, where nothing is given


def test_segmenters_have_no_views(tmp_path, tiny_models, capsys):
    assert main(["evaluate", str(tiny_models / "segmenter.onnx"), "scenes", "--views", "2"]) == 2
    assert "--views is for classifiers" in capsys.readouterr().err


def test_what_is_held_out_is_what_is_measured(tmp_path, kit, checkpoint, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"] * 24)
    rows = json.loads((data / "labels.json").read_text())
    for number, row in enumerate(rows):
        row["split"] = "train" if number % 3 else "val"
    (data / "labels.json").write_text(json.dumps(rows))
    assert main(["evaluate", str(checkpoint), str(data)]) == 0
    said = capsys.readouterr().out
    assert f"measured on 24 pictures of {data}, split val" in said and "24 crops, 24 targets" in said
    assert main(["evaluate", str(checkpoint), str(data), "--split", "all", "--write"]) == 0
    said = capsys.readouterr().out
    assert "72 crops, 72 targets" in said and "if it has, give --split val" in said


def with_seed(checkpoint, seed):
    start = load_checkpoint(checkpoint)
    path = checkpoint.with_name(f"of-seed-{seed}.pt")
    save_checkpoint(path, start.network, msgspec.structs.replace(start.card, training={"seed": seed}))
    return path


def test_photos_are_divided_as_by_the_training(tmp_path, checkpoint, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"] * 24)
    rows = json.loads((data / "labels.json").read_text())
    (data / "labels.json").write_text(json.dumps([{**row, "source": f"s{k // 3}"} for k, row in enumerate(rows)]))
    seven, five = with_seed(checkpoint, 7), with_seed(checkpoint, 5)

    def seed_of(*words):
        assert main(["evaluate", str(seven), str(data), "--write", *words]) == 0
        return load_checkpoint(seven).card.training["evaluated"]["seed"]

    assert [seed_of("--split", "val"), seed_of("--split", "val", "--seed", "2"), seed_of()] == ["7", "2", "0"]
    held_out = {photo.source for photo in with_splits(read_photos(data, load_checkpoint(seven).card.label_space).photos,
                                                      VAL_SHARE, 7, "") if photo.split == "val"}  # fmt: skip
    capsys.readouterr()
    assert main(["evaluate", str(seven), str(data), "--split", "val"]) == 0
    assert f"measured on {3 * len(held_out)} pictures" in capsys.readouterr().out
    assert main(["compare", str(seven), str(five), str(data), "--split", "val"]) == 3
    assert "by the seeds 5 and 7" in capsys.readouterr().err
    assert main(["compare", str(seven), str(five), str(data), "--split", "val", "--seed", "5"]) == 0
    assert main(["compare", str(seven), str(five), str(data)]) == 0
    assert main(["average", str(seven), str(five), "--out", str(tmp_path / "mean.pt")]) == 0
    assert main(["average", *[str(tmp_path / "mean.pt")] * 2, "--out", str(tmp_path / "again.pt")]) == 0
    assert main(["evaluate", str(tmp_path / "mean.pt"), str(data), "--split", "val"]) == 3
    assert main(["evaluate", str(tmp_path / "again.pt"), str(data), "--split", "val"]) == 3
    assert "by the seeds 5 and 7" in capsys.readouterr().err


def test_count_takes_the_first(tmp_path, kit, tiny_models, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"])
    assert main(["evaluate", str(tiny_models / "classifier.onnx"), str(data), "--count", "2"]) == 0
    assert "2 crops, 2 targets" in capsys.readouterr().out


def test_drawn_scenes_have_no_suspects(tmp_path, suas_models, capsys):
    out = tmp_path / "out"
    words = ["evaluate", str(suas_models / "classifier.onnx"), "scenes", "--count", "6", "--pictures", "2"]
    assert main([*words, "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "Suspected label errors" not in page and "procedural terrain" in page
    assert "orientation raw" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (["--write"], 2, "evaluate the .pt, then export it"),
        (["--keep-thresholds"], 2, "says what --write leaves as it is"),
        (["--count", "0"], 2, "--count must be at least 1"),
        (["--count", "9"], 2, "holds 3 pictures, --count 9 is more"),
        (["--abstain-error", "1"], 2, "--abstain-error must be within"),
        (["--device", "gpu"], 2, "--device must be auto, cpu or cuda:N"),
        (["--label-space", "suas"], 3, "answers in its own label space 'tiny'"),
        (["--pictures", "-1"], 2, "cannot be negative"),
    ],
)
def test_what_cannot_be(tmp_path, tiny_models, capsys, change, code, sentence):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"])
    assert main(["evaluate", str(tiny_models / "classifier.onnx"), str(data), *change]) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "code", "sentence"),
    [
        ("nowhere", 3, "there is no data nowhere"),
        ("scenes=0.5,nowhere=0.5", 2, "one kind of data at a time"),
    ],
)
def test_data_that_cannot_be(tiny_models, capsys, data, code, sentence):
    assert main(["evaluate", str(tiny_models / "classifier.onnx"), data]) == code
    assert sentence in capsys.readouterr().err


def test_a_report_is_not_overwritten_unasked(tmp_path, tiny_models, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink"])
    words = ["evaluate", str(tiny_models / "classifier.onnx"), str(data), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert main(words) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_an_out_that_cannot_be_is_refused_before_the_work(tmp_path, tiny_models, monkeypatch, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink"])
    monkeypatch.setattr("aerial_train.evaluation.sources.os.access", lambda path, mode: path != tmp_path)
    words = ["evaluate", str(tiny_models / "classifier.onnx"), str(data), "--out", str(tmp_path / "a" / "b")]
    assert main(words) == 5
    captured = capsys.readouterr()
    assert "choose another --out" in captured.err and captured.out == ""


def test_ctrl_c_leaves_nothing_behind(tmp_path, checkpoint, monkeypatch, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink", "orange"])
    before = checkpoint.read_bytes()

    def interrupted(self, epoch, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(data_package.opening.PhotoCrops, "sample", interrupted)
    assert main(["evaluate", str(checkpoint), str(data), "--write", "--out", str(tmp_path / "out")]) == 130
    assert checkpoint.read_bytes() == before and not (tmp_path / "out").exists()
    assert "interrupted" in capsys.readouterr().err


def test_a_full_disk_keeps_no_half_report(tmp_path, tiny_models, monkeypatch, capsys):
    data = write_crops(tmp_path / "crops", ["plain", "pink"])
    out = tmp_path / "file"
    out.mkdir()
    shutil.copy(data / "labels.json", out / "kept.json")

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    words = ["evaluate", str(tiny_models / "classifier.onnx"), str(data), "--out", str(out)]
    assert main(words) == 5
    assert "cannot write the report" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["kept.json"]

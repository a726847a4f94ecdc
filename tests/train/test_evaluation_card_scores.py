"""What was measured of a pipeline stands in the cards of both checkpoints, and changes nothing else in them."""

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from aerial_runtime.card import ModelCard, load_label_space
from aerial_train.checkpoint import classifier_tensors, load_checkpoint, save_checkpoint, segmenter_tensors
from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.cli import main
from aerial_train.evaluation import certificate
from aerial_train.unet import UNet, UNetConfig

SUAS = load_label_space("suas")


@pytest.fixture
def checkpoints(tmp_path):
    """Both, untrained; returned as the options that name them."""
    torch.manual_seed(0)
    config = UNetConfig(filters=(4, 8))
    inputs, outputs = segmenter_tensors(config.output_stride)
    common = {"label_space": SUAS, "crop_margin": 1.3, "training": {"seed": 7}}
    card = ModelCard(
        kind="segmenter", name="s", inputs=inputs, outputs=outputs, stride=config.output_stride,
        scores={"loss": 0.5, "dice": 0.5}, **common,
    )  # fmt: skip
    save_checkpoint(tmp_path / "s.pt", UNet(config), card)
    inputs, outputs = classifier_tensors(SUAS, 16)
    card = ModelCard(
        kind="classifier", name="c", inputs=inputs, outputs=outputs, crop_size=16,
        scores={"loss": 0.5, "target_accuracy": 0.5}, **common,
    )  # fmt: skip
    save_checkpoint(tmp_path / "c.pt", Classifier(ClassifierConfig((4,), blocks=1), SUAS), card)
    return ["--segmenter", str(tmp_path / "s.pt"), "--classifier", str(tmp_path / "c.pt")]


def cards(options):
    return [load_checkpoint(Path(path)).card for path in options[1::2]]


@pytest.fixture
def data(tmp_path):
    """A set of frames and one of crops: a red board each."""
    image = np.full((96, 128, 3), 90, np.uint8)
    image[30:60, 40:70] = (0, 0, 255)
    board = {"x": 40, "y": 30, "w": 30, "h": 30, "shape": "square", "shape_color": "red"}
    rows = {"frames": {"targets": [board]}, "crops": {"shape": "square", "shape_color": "red", "source_repo": "a"}}
    for name, row in rows.items():
        folder = tmp_path / name
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), image if name == "frames" else image[20:70, 30:80])
        (folder / "labels.json").write_text(json.dumps([{"image": "a.png", **row}]))
    return [str(tmp_path / name) for name in rows]


def test_certificate_and_real_side_by_side(checkpoints, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(certificate, "choose_thresholds", lambda pair, scenes, others: (0.35, 0.125 * others))
    before = cards(checkpoints)
    assert main(["certificate", "--frames", "1", *checkpoints, "--write"]) == 0
    out = capsys.readouterr().out
    assert "export both again" in out and "mask 0.35 instead of 0.5, target 1 instead of 0.5" in out
    assert main(["real", *data, *checkpoints, "--write"]) == 0
    for old, card in zip(before, cards(checkpoints), strict=True):
        assert card.weights_sha256 == old.weights_sha256
        changed = {"mask": 0.35} if card.kind == "segmenter" else {"target": 1}
        assert card.thresholds == msgspec.structs.replace(old.thresholds, **changed)
        assert "dice" not in card.scores and "target_accuracy" not in card.scores  # those were of other thresholds
        assert card.scores["loss"] == 0.5 and card.training["seed"] == 7
        assert {"certificate_recall", "certificate_extras_a_frame", "real_frames_recall"} <= card.scores.keys()
        assert {"real_frames_recall_25_39_px", "real_crops_whole_shape_accuracy"} <= card.scores.keys()
        assert all(value >= 0 for value in card.scores.values())
        measured = card.training["measured"]
        both = {"segmenter": "s", "classifier": "c"}
        assert measured["certificate"] == {"frames": "1", "seed": "0", "backgrounds": "procedural terrain", **both}
        assert measured["real"] == {"data": "frames, crops", **both}
        assert str(tmp_path) not in repr(card)
    assert main(["certificate", "--frames", "2", *checkpoints, "--write"]) == 0
    after = cards(checkpoints)[0]
    assert after.training["measured"]["certificate"]["frames"] == "2" and "real_frames_recall" in after.scores


def test_neither_card_gets_scores_where_one_model_was_not_measured(checkpoints, monkeypatch, capsys):
    def and_the_training_goes_on(pair, scenes, others):
        trained = load_checkpoint(Path(checkpoints[3]))
        torch.nn.init.ones_(trained.network.heads.bias)
        save_checkpoint(Path(checkpoints[3]), trained.network, trained.card)
        return 0.5, 0.5

    monkeypatch.setattr(certificate, "choose_thresholds", and_the_training_goes_on)
    before = cards(checkpoints)
    assert main(["certificate", "--frames", "1", *checkpoints, "--write"]) == 3
    assert "c.pt was replaced while it was measured" in capsys.readouterr().err
    assert [card.scores for card in cards(checkpoints)] == [card.scores for card in before]


@pytest.mark.parametrize("given", [[], ["--segmenter"], ["--classifier"]])
def test_only_checkpoints_can_be_written_to(checkpoints, data, suas_models, capsys, given):
    options = [word for k in range(0, 4, 2) if checkpoints[k] in given for word in checkpoints[k : k + 2]]
    for words in (["certificate"], ["real", *data]):
        assert main([*words, "--models", str(suas_models), *options, "--write"]) == 2
        assert "give both --segmenter FILE.pt and --classifier FILE.pt" in capsys.readouterr().err

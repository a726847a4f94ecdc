"""`aerial-train compare` as a user runs it, and what it counts as gained and lost."""

import json
import re

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aerial_runtime.card import CARD_METADATA_KEY, Head, LabelSpace, card_from_json, card_to_json
from aerial_train.cli import main

BGR = {"plain": (0, 0, 255), "pink": (200, 0, 255), "orange": (0, 200, 255)}
PAINTED = (("plain", "plain"), ("pink", "pink"), ("plain", "pink"), ("pink", "orange"))  # label, colour
RED, DARK = (0, 0, 255), (0, 0, 110)


@pytest.fixture
def blind_to_pink(tmp_path, tiny_models):
    """The tiny classifier, but that pink is plain to it."""
    model = onnx.load(tiny_models / "classifier.onnx")
    weight = next(item for item in model.graph.initializer if item.name == "kind_w")
    changed = numpy_helper.to_array(weight).copy()
    changed[0, 1] = 0
    weight.CopyFrom(numpy_helper.from_array(changed, "kind_w"))
    onnx.save(model, tmp_path / "blind.onnx")
    return tmp_path / "blind.onnx"


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    labels = []
    for number, (kind, color) in enumerate(PAINTED):
        cv2.imwrite(str(folder / f"c{number}.png"), np.full((20, 20, 3), BGR[color], np.uint8))
        labels.append({"image": f"c{number}.png", "kind": kind})
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture
def frames(tmp_path, kit):
    folder = tmp_path / "frames"
    folder.mkdir()
    cv2.imwrite(str(folder / "f.png"), kit.frame(160, 120, (20, 20, 24, RED), (80, 40, 20, DARK), (120, 100, 16, DARK)))
    targets = [{"x": x, "y": y, "w": side, "h": side} for x, y, side in ((20, 20, 24), (80, 40, 20))]
    (folder / "labels.json").write_text(json.dumps([{"image": "f.png", "targets": targets}]))
    return folder


def run(a, b, data, out=None):
    return main(["compare", str(a), str(b), str(data), *(["--out", str(out)] if out else [])])


def test_classifiers(tmp_path, tiny_models, blind_to_pink, crops, capsys):
    assert run(tiny_models / "classifier.onnx", blind_to_pink, crops, tmp_path / "out") == 0
    # A: plain, pink right; B: plain, and the pink one that is labelled plain
    assert re.search(r"kind +4 +50\.0 +50\.0 +\+0\.0 +\+1 +-1 +1 +1\n", capsys.readouterr().out)
    kind = json.loads((tmp_path / "out" / "scores.json").read_text())["differences"]["kind"]
    row = {name: kind[name] for name in ("a", "b", "neither", "p")}
    assert row == {"a": 0.5, "b": 0.5, "neither": 1, "p": 1}
    assert kind["lost"] != kind["gained"] and {*kind["lost"], *kind["gained"]} == {"c1.png", "c2.png"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "gained (right only in B): 1" in page and "blind.onnx against classifier.onnx" in page


def test_the_order_of_the_models_matters(tiny_models, blind_to_pink, crops, tmp_path):
    run(tiny_models / "classifier.onnx", blind_to_pink, crops, tmp_path / "one")
    run(blind_to_pink, tiny_models / "classifier.onnx", crops, tmp_path / "other")
    one, other = (
        json.loads((tmp_path / name / "scores.json").read_text())["differences"]["kind"] for name in ("one", "other")
    )
    assert one["gained"] == other["lost"] == ["c2.png"] and one["lost"] == other["gained"] == ["c1.png"]


def test_segmenters(tmp_path, kit, tiny_models, frames, capsys):
    """B, with a lower threshold, also finds the dark board, and a dark thing that is none."""
    card = kit.segmenter_card()
    low = type(card.thresholds)(mask=0.3)
    kit.build_segmenter(tmp_path / "low.onnx", kit.segmenter_card(thresholds=low))
    assert run(tiny_models / "segmenter.onnx", tmp_path / "low.onnx", frames, tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert re.search(r"labels from 17 px +2 +50\.0 +100\.0 +\+50\.0 +\+1 +-0 +0 +1\n", text)
    assert re.search(r"17-24 px +2 +50\.0 +100\.0 ", text)
    assert "A 0, B 1; 0 of A's and 1 of B's the other has not" in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "f.png x=80 y=40 20x20" in page and "f.png x=120 y=100 16x16" in page and "only in B: 1" in page


def test_two_kinds_are_no_pair(tiny_models, crops, capsys):
    assert run(tiny_models / "classifier.onnx", tiny_models / "segmenter.onnx", crops) == 3
    assert "give two models of one kind" in capsys.readouterr().err


def test_other_classes_are_no_pair(tmp_path, tiny_models, crops, capsys):
    model = onnx.load(tiny_models / "classifier.onnx")
    entry = next(item for item in model.metadata_props if item.key == CARD_METADATA_KEY)
    other = LabelSpace("other", (Head("kind", ("plain", "pink", "green")),))
    entry.value = card_to_json(msgspec.structs.replace(card_from_json(entry.value, "test"), label_space=other))
    onnx.save(model, tmp_path / "other.onnx")
    assert run(tiny_models / "classifier.onnx", tmp_path / "other.onnx", crops) == 3
    assert "give two models of one label space" in capsys.readouterr().err

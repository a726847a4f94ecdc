"""The smallest target: counted on drawn frames whose truth is known to the pixel."""

import json
import re

import numpy as np
import pytest

from aerial_runtime.backends import open_backend
from aerial_runtime.card import load_label_space
from aerial_runtime.contract import Box
from aerial_train.cli import main
from aerial_train.data.base import HELD_OUT_SEED_OFFSET
from aerial_train.evaluation.certificate import EDGES_PX, MASKS, certificate_scenes, choose_thresholds, fly_scenes
from aerial_train.evaluation.contrast import EDGES, contrast_table, score_contrasts
from aerial_train.evaluation.pair import Pair
from aerial_train.evaluation.readings import score_readings
from aerial_train.evaluation.real_tables import pipeline_tables
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.frames import FrameSample, LabelledTarget

RED, UNSEEN = (0, 0, 255), (90, 90, 90)


class Boards:
    """Frames of given boards: (x, y, side, colour, kind, truncated)."""

    count = None

    def __init__(self, kit, *frames):
        self.kit, self.frames, self.label_space = kit, frames, kit.tiny

    def sample(self, epoch, index):
        boards = self.frames[index]
        image = self.kit.frame(480, 320, *(board[:4] for board in boards))
        targets = tuple(
            LabelledTarget(Box(x, y, side, side), {}, {"kind": kind}, None, truncated)
            for x, y, side, _, kind, truncated in boards
            if kind is not None
        )
        mask = np.zeros(image.shape[:2], np.uint8)
        for target in targets:
            mask[target.box.y : target.box.y + target.box.height, target.box.x : target.box.x + target.box.width] = 255
        return FrameSample(image, mask, targets, f"scenes {index}")


@pytest.fixture
def pair(tiny_models):
    with open_backend(tiny_models / "segmenter.onnx") as one, open_backend(tiny_models / "classifier.onnx") as other:
        yield Pair(one, other)


def test_recall_and_reading_by_size(pair, kit):
    scenes = Boards(
        kit,
        [(20, 20, 12, RED, 0, False), (60, 20, 16, UNSEEN, 0, False), (100, 20, 24, RED, 0, False),
         (200, 20, 64, RED, 1, False), (300, 20, 8, RED, 0, False), (400, 200, 20, RED, None, False)],
        [(20, 20, 16, RED, 0, False), (456, 20, 24, RED, 0, True), (100, 100, 20, (0, 0, 150), None, False)],
    )  # fmt: skip
    readings, _ = fly_scenes(pair, scenes, 2)
    score = score_readings(readings, pair.label_space, EDGES_PX)
    found = {size.from_px: (size.labels, size.found) for size in score.sizes}
    assert found == {12: (3, 2), 17: (1, 1), 25: (0, 0), 40: (0, 0), 60: (1, 1)}
    # Red without a label is extra; what is too small or cut counts neither way, nor what the classifier rejects.
    assert score.extras == 1 and score.extras_a_frame == 0.5 and score.unvetoed_a_frame == 1.0
    table = str(pipeline_tables(score, pair.label_space)[0])
    assert "extras: 1 in 2 frames with every target labelled, 0.500 a frame (0.000-1.000)" in table
    reading = {size.from_px: size.attributes["kind"] for size in score.sizes if size.found}
    assert reading[12].right == reading[12].known == 2
    assert (reading[60].right, reading[60].known) == (0, 1)  # it is plain, and labelled pink
    assert score.missed == ["scenes 0 x=60 y=20 16x16: not segmented"]


def test_recall_by_contrast(pair, kit):
    ground = kit.frame(480, 320)[0, 0]
    low = tuple(
        int(level) + 20 for level in ground
    )  # 60 levels off, three channels added; the segmenter sees red alone
    scenes = Boards(
        kit,
        [(20, 20, 30, RED, 0, False), (100, 20, 30, low, 0, False), (200, 20, 24, RED, 0, False)],
        [(470, 20, 30, RED, 0, True), (100, 100, 40, low, 1, False)],
    )
    readings, levels = fly_scenes(pair, scenes, 2)
    assert levels[0][1] == pytest.approx(60) and levels[0][0] == pytest.approx(np.abs(ground - np.array(RED)).sum())
    found = {score.from_levels: (score.labels, score.found) for score in score_contrasts(readings, levels)}
    red = max(edge for edge in EDGES if edge <= levels[0][0])
    assert found == {**dict.fromkeys(EDGES, (0, 0)), 40: (2, 0), red: (1, 1)}  # 24 px and what is cut do not count
    lines = str(contrast_table(score_contrasts(readings, levels))).splitlines()
    assert len(lines) == 5 and lines[2].split() == ["40-79", "2", "0", "0.0", "0.0-65.8"]


def test_the_veto_is_chosen_on_what_the_segmenter_hands_on(pair, kit):
    """The tiny classifier gives red 1.00 and dim red 0.0x, which the tiny segmenter takes for a board."""
    dim = (0, 0, 150)
    scenes = Boards(kit, [(20, 20, 30, RED, 0, False), (100, 20, 30, dim, None, False), (200, 20, 30, RED, 0, False)])
    mask, chosen = choose_thresholds(pair, scenes, 8.0, 1)
    assert mask == pair.mask_threshold  # no other finds more
    (reading,), _ = fly_scenes(pair, scenes, 1)
    red, rejected = (
        [target.confidence for target in reading.seen if (target.box.x != 100) == board] for board in (True, False)
    )
    assert max(rejected) < chosen <= min(red)
    only_boards = Boards(kit, [(20, 20, 30, RED, 0, False)])
    assert choose_thresholds(pair, only_boards, 8.0, 1) == (pair.mask_threshold, pair.conf)


def test_the_mask_is_chosen_for_both_models_together(pair, kit):
    """At 0.95 the segmenter sees red alone; the classifier would take the paler board for a target too."""
    pale = (0, 0, 180)
    scenes = Boards(kit, [(20, 20, 30, RED, 0, False), (100, 20, 30, pale, 0, False), (200, 20, 30, RED, None, False)])
    mask, conf = choose_thresholds(pair.with_mask(0.95), scenes, 8.0, 1)
    assert mask == MASKS[0]
    (reading,), _ = fly_scenes(pair.with_mask(mask), scenes, 1)
    assert conf == min(target.confidence for target in reading.seen)


def test_the_scenes_are_full_size_and_held_out():
    space = load_label_space("suas")
    scenes = certificate_scenes(space, Backgrounds(), seed=3)
    assert scenes.seed == 3 + HELD_OUT_SEED_OFFSET
    samples = [scenes.sample(-1, index) for index in range(3)]
    assert {sample.image_bgr.shape for sample in samples} == {(1080, 1920, 3)}
    sizes = [target.size_px for sample in samples for target in sample.targets if not target.truncated]
    assert len(sizes) >= 9 and min(sizes) >= 11 and max(sizes) <= 121


def test_as_a_user_runs_it(tmp_path, suas_models, capsys):
    words = ["certificate", "--frames", "2", "--models", str(suas_models), "--out", str(tmp_path / "out")]
    assert main([*words, "--errors", str(tmp_path / "errors"), "--pictures", "3"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"px +targets +found +recall +95 %", text) and "2 frames through both models" in text
    numbers = json.loads((tmp_path / "out" / "scores.json").read_text())
    score = numbers["certificate"]
    assert [size["from_px"] for size in score["sizes"]] == [12, 17, 25, 40, 60]
    from_25 = sum(size["labels"] for size in score["sizes"] if size["from_px"] >= 25)
    assert sum(part["labels"] for part in numbers["contrast"]) == from_25 and "by contrast" in text
    # The tiny segmenter sees red alone: most boards are missed, and the sheet shows the largest.
    assert 0 < len(score["missed"]) == score["labels"] - score["found"]
    assert (tmp_path / "errors" / "certificate-missed.png").is_file()
    plot = (tmp_path / "out" / "certificate.svg").read_text()
    assert plot.startswith("<?xml") and str(tmp_path) not in plot
    assert "1920x1080" in numbers["provenance"]["frames"]


def test_the_same_seed_gives_the_same_certificate(tmp_path, suas_models):
    for folder in ("a", "b"):
        words = ["certificate", "--frames", "1", "--models", str(suas_models), "--out", str(tmp_path / folder)]
        assert main(words) == 0
    a, b = (json.loads((tmp_path / folder / "scores.json").read_text())["certificate"] for folder in ("a", "b"))
    assert a == b
    assert (tmp_path / "a" / "certificate.svg").read_bytes() == (tmp_path / "b" / "certificate.svg").read_bytes()


@pytest.mark.parametrize("change", [["--frames", "0"], ["--seed", "-1"], ["--pictures", "0"], ["--others", "0"]])
def test_what_cannot_be(suas_models, capsys, change):
    assert main(["certificate", "--models", str(suas_models), *change]) == 2
    assert f"{change[0]}" in capsys.readouterr().err

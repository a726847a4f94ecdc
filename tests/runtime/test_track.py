"""Following targets: what happens to their ids. Whole flights stand in test_track_flights.py."""

from __future__ import annotations

import cmath
import json
import math
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerial_runtime import track as track_module
from aerial_runtime.camera import open_source
from aerial_runtime.card import load_label_space
from aerial_runtime.config import parse_config
from aerial_runtime.contract import Box, Frame, Target
from aerial_runtime.label_file import read_labels
from aerial_runtime.motion import ImageMotion
from aerial_runtime.opening import open_pipeline
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.score import match_targets
from aerial_runtime.track import Tracker

SPACE = load_label_space("suas")
STEP_NS = 100_000_000
BLACK = np.zeros((540, 960, 3), np.uint8)


class Flight:
    """A tracker that is given boxes, and pictures or black."""

    def __init__(self):
        self.tracker, self.number = Tracker(SPACE), 0
        self.events = []

    def __call__(self, *boxes, image=BLACK, step=1, labels=None, heading=(0, 0)):
        self.number += step
        targets = [Target(Box(*box), box[2] * box[3], 0.9, {}) for box in boxes]
        rows = {}
        if labels is not None:
            rows = {head.name: np.full((len(boxes), len(head.classes)), 0.01, np.float32) for head in SPACE.heads}
            for row, label in enumerate(labels):
                for answers in rows.values():
                    answers[row, label] = 0.9
            rows["heading"] = np.tile(np.array(heading, np.float32), (len(boxes), 1))
        time_ns = self.number * STEP_NS
        result = PipelineResult(targets, len(boxes), 0, 0, 0, 0, probabilities=rows)
        found, events = self.tracker(Frame(image, f"f{self.number}", self.number, time_ns, time_ns), result)
        self.events += [(event.event, event.target.track_id, self.number) for event in events]
        return [None if target.track_id is msgspec.UNSET else target.track_id for target in found]


@pytest.fixture
def flight():
    return Flight()


def meadow(seed=0, side=2400):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0, 12, (side // n, side // n)).astype(np.float32) for n in (4, 10, 50)]
    return (128 + sum(cv2.resize(part, (side, side)) for part in parts)).clip(0, 255).astype(np.uint8)


def view(ground, x, y):
    return cv2.merge([np.ascontiguousarray(ground[y : y + 540, x : x + 960])] * 3)


def test_ids_stay_and_begin_at_one(flight):
    assert flight((100, 100, 30, 30), (500, 200, 40, 40)) == [1, 2]
    assert flight((510, 205, 40, 40), (110, 105, 30, 30)) == [2, 1]
    assert flight() == []
    assert flight((130, 115, 30, 30)) == [1]


def test_equal_boards_side_by_side_are_not_taken_for_one_another(flight):
    """The camera moves by almost their distance: the nearest box is that of the other."""
    ground = meadow()
    for number in range(12):
        x = 100 + 34 * number
        row = [(1000 + 45 * board - x, 300, 36, 36) for board in range(4)]
        assert flight(*row, image=view(ground, x, 800), labels=[3] * 4) == [1, 2, 3, 4]


def test_a_target_is_known_again_after_it_was_out_of_sight(flight):
    ground = meadow()
    board = (1300, 1100)
    ids = []
    for x in [*range(400, 1430, 90), *range(1420, 400, -90)]:
        is_seen = 0 < board[0] - x < 900
        ids += flight(
            *[(board[0] - x, board[1] - 800, 36, 36)] * is_seen, image=view(ground, x, 800), labels=[2] * is_seen
        )
    assert len(ids) > 15 and set(ids) == {1}


def test_nothing_seen_for_a_while_with_frames_lost(flight):
    ground = meadow()
    flight((600, 300, 36, 36), image=view(ground, 500, 800), labels=[2])
    for x in (560, 620, 680, 800, 860):
        flight(image=view(ground, x, 800), step=2)
    assert flight((600 - 420, 300, 36, 36), image=view(ground, 920, 800), labels=[2], step=3) == [1]


def test_frames_without_targets_are_passed_over_while_the_camera_moves_slowly(flight, monkeypatch):
    looks, look = [], ImageMotion.look

    def counted(camera, image_bgr):
        looks.append(flight.number)
        look(camera, image_bgr)

    monkeypatch.setattr(ImageMotion, "look", counted)
    ground = meadow()

    def fly(*places, is_seen):
        del looks[:]
        boards = [(1200 - x, 300, 36, 36) for x in places]
        ids = [flight(*[board] * is_seen, image=view(ground, x, 800)) for board, x in zip(boards, places, strict=True)]
        return len(looks), ids

    assert fly(300, 310, 320, is_seen=False)[0] == 0  # there is nothing to follow
    assert fly(330, 340, is_seen=True) == (2, [[1], [1]])
    assert fly(*range(350, 550, 10), is_seen=False)[0] == 10
    assert fly(550, is_seen=True) == (1, [[1]])
    assert fly(*range(700, 1150, 150), is_seen=False)[0] >= 2  # it flies fast: the next might show other ground
    assert fly(1150, is_seen=True) == (1, [[1]])


def test_a_stranger_at_the_same_place_after_the_place_is_lost_is_new(flight):
    for number in range(8):
        flight((400 - 40 * number, 200, 30, 30))
    for _ in range(20):  # the pictures show nothing: the camera may be anywhere
        flight()
    assert ("final", 1) in [event[:2] for event in flight.events]
    assert flight((400, 200, 30, 30)) == [2]


def test_a_piece_of_a_target_and_two_in_one_box_are_no_targets(flight):
    picture = view(meadow(), 500, 500)
    both = (100, 100, 80, 80), (200, 100, 80, 80)
    for _ in range(4):
        flight(*both, image=picture, labels=[1, 1])
    assert flight(both[0], (130, 130, 20, 20), both[1], image=picture, labels=[1, 1, 1]) == [1, None, 2]
    assert flight((100, 100, 180, 80), image=picture, labels=[1]) == [None]
    assert flight(*both, image=picture, labels=[1, 1]) == [1, 2]


def test_a_target_that_comes_in_at_the_edge_is_one(flight):
    for x in (-60, -40, -20, 0, 20, 40, 60):
        assert flight((max(0, x), 200, min(60, 60 + x) or 4, 60), labels=[1]) == [1]


def test_directions_follow_the_camera(flight):
    """Half a turn, five degrees a frame; the letter's top is always the same point of the board."""
    boards = np.array([-150 - 100j, 180 - 60j, 20 + 120j, 120 + 90j, -100 + 60j])
    for number in range(37):
        turn = cmath.rect(1, math.pi * number / 36)
        boxes = [(round(480 + z.real) - 15, round(270 + z.imag) - 15, 30, 30) for z in turn * boards]
        up = 0.9 * turn * -1j
        assert flight(*boxes, labels=[1, 2, 3, 4, 5], heading=(up.real, up.imag)) == [1, 2, 3, 4, 5]
    for target in flight.tracker.flight("x").targets:
        assert target.attributes["orientation"].degrees == pytest.approx(180, abs=4)
        assert target.attributes["orientation"].agreement > 0.99


def test_events(flight):
    flight((100, 100, 30, 30), labels=[1])
    for _ in range(14):
        flight((100, 100, 30, 30), labels=[1])
    flight((100, 100, 30, 30), labels=[2])
    for _ in range(4):
        flight((100, 100, 30, 30), labels=[1])
    assert flight.events == [("new", 1, 1), ("updated", 1, 11)]  # once a second
    (ended,) = flight.tracker.finish()
    assert (ended.event, ended.target.sightings) == ("final", 20)
    assert ended.target.attributes["shape"].label == SPACE.head("shape").classes[1]
    assert ended.target.attributes["shape"].agreement == 0.95
    assert flight.tracker.finish() == []


def test_a_changed_label_is_told_at_once(flight):
    flight((100, 100, 30, 30), labels=[1])
    flight((100, 100, 30, 30), labels=[2])
    flight((100, 100, 30, 30), labels=[2])
    assert [event[0] for event in flight.events] == ["new", "updated"]
    assert flight.events[1][2] in (2, 3)


def test_memory_is_bounded_and_the_summary_keeps_those_seen_most(monkeypatch, flight):
    monkeypatch.setattr(track_module, "MAX_LIVE", 20)
    monkeypatch.setattr(track_module, "MAX_TARGETS", 30)
    often, picture = (900, 500, 30, 30), view(meadow(), 500, 500)
    for number in range(100):
        flight(
            often, (50 + 40 * (number % 20), 40 + 60 * (number // 20), 20, 20), image=picture, labels=[1, number % 10]
        )
        assert len(flight.tracker._tracks) <= 20
    flight.tracker.finish()
    summary = flight.tracker.flight("cam0")
    assert (summary.frames, len(summary.targets)) == (100, 30)
    assert summary.left_out == flight.tracker._count - 30 > 0
    assert summary.targets[0].track_id == 1 and summary.targets[0].sightings == 100


def test_the_same_flight_gives_the_same_ids():
    def ids():
        flight, ground, rng = Flight(), meadow(), np.random.default_rng(5)
        return [
            flight(*[(*map(int, rng.integers(0, 500, 2)), 30, 30) for _ in range(4)], image=view(ground, 30 * n, 700))
            for n in range(20)
        ]

    assert ids() == ids()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_is_a_crash(data):
    """Frames of changing sizes, clocks that stand or go back, boxes anywhere."""
    tracker = Tracker(SPACE)
    for number in range(data.draw(st.integers(1, 6))):
        width, height = data.draw(st.sampled_from([(1, 1), (64, 48), (640, 2), (320, 200)]))
        kind = data.draw(st.sampled_from(["black", "noise"]))
        image = np.zeros((height, width, 3), np.uint8)
        if kind == "noise":
            image = np.random.default_rng(number % 2).integers(0, 255, image.shape, np.uint8)
        side = st.integers(1, 5000)
        boxes = data.draw(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 4000), side, side), max_size=8))
        targets = [Target(Box(*box), data.draw(st.sampled_from([0, 16, 10**6])), 0.5, {}) for box in boxes]
        time_ns = data.draw(st.sampled_from([0, 5, 10**9, 10**18]))
        found, _ = tracker(Frame(image, "f", number, 0, time_ns), PipelineResult(targets, 0, 0, 0, 0, 0))
        assert [msgspec.structs.replace(t, track_id=msgspec.UNSET) for t in found] == targets
        known = [target.track_id for target in found if target.track_id is not msgspec.UNSET]
        assert len(set(known)) == len(known)
        assert np.isfinite(tracker._places).all() and np.isfinite(tracker._errors2).all()
    msgspec.json.encode(tracker.flight("x"))


def test_the_demo_flight_has_each_target_once():
    demo = Path(str(files("aerial_runtime").joinpath("demo", "labels.json")))
    labels = read_labels(demo)
    truth = {target["id"]: target for row in json.loads(demo.read_text()) for target in row["targets"]}
    heads = [head.name for head in SPACE.heads]
    whole, tracks, readings = {}, {}, {}
    with ExitStack() as stack:
        pipeline = open_pipeline(parse_config(["--camera", "demo"]), stack)
        tracker = Tracker(SPACE, pipeline.abstain)
        frames = [frame for frame in open_source("demo") if frame is not None]
        for frame, row in zip(frames, labels, strict=True):
            targets, _ = tracker(frame, pipeline(frame))
            for index, match in match_targets(row.targets, targets).items():
                board = row.targets[index].id
                tracks.setdefault(board, []).append(targets[match].track_id)
                readings.setdefault(board, []).append(targets[match].attributes)
            for label in row.targets:
                whole[label.id] = whole.get(label.id, 0) + (not label.truncated)
    often = [board for board, frames in whole.items() if frames >= 3]
    assert len(often) == 18
    assert all(len(set(tracks[board])) == 1 for board in often)
    fused = {target.track_id: target.attributes for target in tracker.flight("demo").targets}

    def right(board, attributes):
        return sum(attributes[head].label == truth[board][head] for head in heads)

    def sureness(attributes):
        return sum(attributes[head].confidence for head in heads)

    of_fused = sum(right(board, fused[tracks[board][0]]) for board in often)
    of_surest = sum(right(board, max(readings[board], key=sureness)) for board in often)
    of_any = sum(np.mean([right(board, one) for one in readings[board]]) for board in often)
    assert of_fused > of_any
    assert of_fused >= of_surest - 1  # of 72; one letter may fall either way

"""Targets of a whole flight: once, doubled, missed, mixed, extra; fused attributes."""

from __future__ import annotations

import msgspec
import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.contract import (
    Box,
    Detections,
    FlightTargets,
    FrameInfo,
    FusedAttribute,
    Sighting,
    Target,
    TimingMs,
    TrackedTarget,
)
from aerial_runtime.label_file import LabelledBox, LabelledFrame
from aerial_runtime.score_targets import format_targets, has_ids, score_targets

SPACE = load_label_space("suas")
TRUTH = {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": "blue", "orientation": "N"}


def label(number, x, truncated=False, **attributes):
    return LabelledBox(x, 10, 30, 30, truncated, attributes, number)


def message(name, *places):
    targets = [
        Target(Box(x, 10, 30, 30), 900, 0.9, {}, msgspec.UNSET if track is None else track) for x, track in places
    ]
    return Detections("s", 0, 0, FrameInfo(name, 0, 100, 100, 0, 0), TimingMs(0, 0, 0, 0), 0, {}, targets)


def score(frames, flight=None, **options):
    labels = [LabelledFrame(name, boxes) for name, boxes, _ in frames]
    return score_targets(labels, [message(name, *places) for name, _, places in frames], flight, SPACE, **options)


def counts(found):
    return found.targets, found.once, found.doubled, found.missed, found.mixed, found.extra


def test_once_doubled_missed_and_extra():
    frames = [
        ("a", [label(0, 0), label(1, 100), label(2, 200)], [(0, 1), (100, 2), (400, 9)]),
        ("b", [label(0, 10), label(1, 110)], [(10, 1), (110, 3)]),
    ]
    found = score(frames)
    assert counts(found) == (3, 1, 1, 1, 0, 1)
    assert found.wrong == ["doubled target 1: tracks 2, 3", "missed target 2"]
    assert "once 1  doubled 1  missed 1" in format_targets(found)


def test_one_track_on_two_targets_is_mixed():
    assert counts(score([("a", [label(0, 0)], [(0, 1)]), ("b", [label(1, 0)], [(0, 1)])])) == (2, 2, 0, 0, 1, 0)


def test_only_targets_that_are_whole_often_enough_count():
    frames = [("a", [label(0, 0), label(1, 100, truncated=True)], [(0, 1)]), ("b", [label(0, 0)], [(0, 2)])]
    assert counts(score(frames))[:4] == (1, 0, 1, 0)
    assert counts(score(frames, min_frames=2))[:4] == (1, 0, 1, 0)
    assert counts(score(frames, min_frames=3))[:4] == (0, 0, 0, 0)


def test_tracks_on_what_is_not_scored_are_no_extras():
    cut = [label(0, 0, truncated=True), LabelledBox(100, 10, 30, 30)]  # the second has no id
    assert counts(score([("a", cut, [(0, 1), (100, 2), (400, 3)])])) == (0, 0, 0, 0, 0, 1)
    partly = LabelledFrame("a", [], complete=False)
    assert score_targets([partly], [message("a", (0, 1))], None, SPACE).extra == 0


def test_a_detection_without_a_track_is_a_miss():
    assert counts(score([("a", [label(0, 0)], [(0, None)])])) == (1, 0, 0, 1, 0, 0)


@pytest.mark.parametrize(("last", "right"), [("b", 1), ("a", 0)])
def test_the_direction_is_judged_in_the_frame_that_it_is_told_for(last, right):
    sighting = Sighting(last, 0, 0, 0, Box(0, 0, 30, 30))
    attributes = {name: FusedAttribute(value, 0.9, 1.0) for name, value in (TRUTH | {"orientation": "E"}).items()}
    flight = FlightTargets("s", 2, 0, [TrackedTarget(1, 2, 0.9, attributes, sighting, sighting, sighting)])
    frames = [("a", [label(0, 0, **TRUTH)], [(0, 1)]), ("b", [label(0, 0, **(TRUTH | {"orientation": "E"}))], [(0, 1)])]
    fused = score(frames, flight).fused
    assert (fused.all_known, fused.all_right) == (1, 1)
    assert fused.attributes["orientation"].right == right


def test_labels_of_some_frames_are_enough_for_all_but_the_direction():
    sighting = Sighting("c", 0, 0, 0, Box(0, 0, 30, 30))  # nobody has labelled it
    attributes = {name: FusedAttribute(value, 0.9, 1.0) for name, value in TRUTH.items()}
    flight = FlightTargets("s", 2, 0, [TrackedTarget(1, 2, 0.9, attributes, sighting, sighting, sighting)])
    fused = score([("a", [label(0, 0, **TRUTH)], [(0, 1)])], flight).fused
    assert (fused.all_known, fused.all_right) == (1, 1)
    assert "orientation" not in fused.attributes


def test_without_ids_there_is_nothing_to_follow():
    frames = [LabelledFrame("a", [label(0, 0)])]
    assert has_ids(frames, [message("a", (0, 1))])
    assert not has_ids(frames, [message("a", (0, None))])
    assert not has_ids([LabelledFrame("a", [LabelledBox(0, 0, 30, 30)])], [message("a", (0, 1))])

"""Doubtful candidates in other framings, with maps and answers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import Thresholds
from aerial_runtime.classify import Classifier
from aerial_runtime.contract import Box, Frame
from aerial_runtime.pipeline import DetectOptions, Pipeline
from aerial_runtime.segment import Candidate, Segmenter

BLACK = np.zeros((48, 64, 3), np.uint8)


def levels(*patches):
    """A map of a 64x48 frame: patches (x, y, width, height in cells, level of 0..255), later ones on top."""
    probability = np.zeros((12, 16), np.uint8)
    for x, y, width, height, level in patches:
        probability[y : y + height, x : x + width] = level
    return probability


def segmenter(kit, probability):
    card = kit.segmenter_card(thresholds=Thresholds(mask=0.5))
    return FakeBackend(card, lambda frame: {"probability": probability[np.newaxis]})


def classifier(kit, sure_of, calls=None):
    """A classifier that knows crops by their boxes: sure_of: box -> confidence of `target`, 0.5 for any other.

    Frames hold their own coordinates, so that every crop tells where it was cut.
    """

    def answer(crops):
        if calls is not None:
            calls.append(len(crops))
        middles = crops[:, 4:12, 4:12].astype(float).mean(axis=(1, 2))
        wide = crops[:, :, -1, 1].astype(float).mean(axis=1) - crops[:, :, 0, 1].mean(axis=1)
        targets = []
        for (y, x, _), width in zip(middles, wide, strict=True):
            near = [c for box, c in sure_of.items()
                    if abs(box.x + box.width / 2 - x) < 2 and abs(box.y + box.height / 2 - y) < 2
                    and abs(max(box.width, box.height) - width) < 4]  # fmt: skip
            targets.append([near[0] if near else 0.5])
        return {"target": np.array(targets, np.float32), "kind": np.tile(np.float32([[1, 0, 0]]), (len(crops), 1))}

    return FakeBackend(kit.classifier_card(), answer)


def placed():
    """A frame whose blue is y and whose green is x."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([y, x, np.zeros_like(x)], axis=2).astype(np.uint8)


def fly(kit, probability, sure_of, calls=None, **options):
    pipeline = Pipeline(
        segmenter(kit, probability), classifier(kit, sure_of, calls), options=DetectOptions(conf=0.0, **options)
    )
    return [(target.box, round(target.confidence, 3)) for target in pipeline(Frame(placed(), "", 0, 0, 0)).targets]


LETTER, BOARD = Box(16, 16, 8, 8), Box(8, 8, 24, 24)


def test_a_board_whose_letter_alone_was_segmented_is_framed_whole(kit):
    faint_board = levels((2, 2, 6, 6, 20), (4, 4, 2, 2, 200))
    assert fly(kit, faint_board, {LETTER: 0.1, BOARD: 0.9}) == [(BOARD, 0.9)]
    assert fly(kit, faint_board, {LETTER: 0.6, BOARD: 0.4}) == [(LETTER, 0.6)]


def test_two_boards_that_run_into_one_are_framed_each(kit):
    joined = levels((1, 2, 9, 4, 150), (1, 2, 4, 4, 250), (6, 2, 4, 4, 250))
    whole, left, right = Box(4, 8, 36, 16), Box(4, 8, 16, 16), Box(24, 8, 16, 16)
    assert fly(kit, joined, {whole: 0.2, left: 0.9, right: 0.8}) == [(left, 0.9), (right, 0.8)]
    assert fly(kit, joined, {whole: 0.95, left: 0.9, right: 0.8}) == [(whole, 0.95)]


@pytest.mark.parametrize("confidence", [0.005, 0.99])
def test_what_is_clear_costs_no_second_look(kit, confidence):
    calls: list[int] = []
    faint_board = levels((2, 2, 6, 6, 20), (4, 4, 2, 2, 200))
    assert fly(kit, faint_board, {LETTER: confidence, BOARD: 0.9}, calls) == [(LETTER, confidence)]
    assert calls == [1]


def test_a_clear_neighbour_stays_though_a_wide_framing_touches_it(kit):
    beside = levels((2, 2, 10, 6, 20), (4, 4, 2, 2, 200), (10, 4, 2, 2, 200))
    clear, wide = Box(40, 16, 8, 8), Box(8, 8, 40, 24)
    assert fly(kit, beside, {LETTER: 0.3, clear: 0.99, wide: 0.9}) == [(LETTER, 0.3), (clear, 0.99)]


def test_candidates_of_the_mask_itself_never_drive_each_other_out(kit):
    corner = levels((1, 1, 8, 1, 200), (1, 1, 1, 6, 200), (4, 3, 3, 3, 200), (12, 8, 2, 2, 20))
    around, inside = Box(4, 4, 32, 24), Box(16, 12, 12, 12)
    assert fly(kit, corner, {around: 0.6, inside: 0.7}) == [(around, 0.6), (inside, 0.7)]


def test_other_framings_touch_a_doubtful_candidate_and_keep_to_the_limits(kit):
    probability = levels((2, 2, 6, 6, 20), (3, 3, 4, 4, 100), (4, 4, 2, 2, 200), (12, 8, 3, 3, 20))

    def framings(doubtful, **options):
        segment = Segmenter(segmenter(kit, probability), **options)
        found = segment(BLACK)
        assert [one.box for one in found.candidates] == [LETTER]
        return [one.box for one in segment.reframe(BLACK, found, [Candidate(box, 64) for box in doubtful])]

    assert framings([LETTER]) == [BOARD, Box(12, 12, 16, 16)]
    assert framings([Box(48, 32, 8, 8)]) == [Box(48, 32, 12, 12)]
    assert framings([]) == []
    assert framings([LETTER, Box(48, 32, 8, 8)], max_candidates=3) == [BOARD, Box(12, 12, 16, 16)]
    assert framings([LETTER], max_candidates=1) == []
    assert framings([LETTER], max_size_px=20) == [Box(12, 12, 16, 16)]


def test_probabilities_are_of_the_framing_that_stays(kit):
    classify = Classifier(classifier(kit, {LETTER: 0.1, BOARD: 0.9}), conf=0.0)
    (target,) = classify(placed(), [Candidate(LETTER, 64)], lambda doubtful: [Candidate(BOARD, 576)])
    assert (target.box, target.area_px) == (BOARD, 576)
    assert classify.probabilities["kind"].shape == (1, 3)

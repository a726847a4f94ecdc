"""What counts as found, missed, extra or none of these."""

from dataclasses import replace

import numpy as np
import pytest

from aerial_runtime.contract import Box
from aerial_train.evaluation.gather import FrameOutcome
from aerial_train.evaluation.objects import assign, find_objects, score_objects, score_sizes
from aerial_train.scenes.frames import LabelledTarget

STRIDE = 4


def label(x, y, width, height, truncated=False):
    return LabelledTarget(Box(x, y, width, height), {}, {}, None, truncated)


def frame(targets, blobs, complete=True, ignored=()):
    """240 x 160 px; blobs, ignored: (x, y, width, height) in cells; blobs are seen with 200 of 255."""
    planes = {name: np.zeros((40, 60), np.uint8) for name in ("probability", "coverage")}
    weight = np.ones((40, 60), np.uint8)
    for x, y, w, h in blobs:
        planes["probability"][y : y + h, x : x + w] = 200
    for target in targets:
        box = target.box
        planes["coverage"][box.y // 4 : (box.y + box.height) // 4, box.x // 4 : (box.x + box.width) // 4] = 255
    for x, y, w, h in ignored:
        weight[y : y + h, x : x + w] = 0
    return FrameOutcome(0, "f", 240, 160, planes["probability"], planes["coverage"], weight, tuple(targets), complete)


def score(*frames, threshold=0.5):
    return score_objects(find_objects(frames, threshold, STRIDE), frames)


BOARD = label(40, 40, 24, 24)
ON_BOARD = (10, 10, 6, 6)
ELSEWHERE = (40, 30, 5, 5)


def test_found_missed_and_extra():
    result = score(frame([BOARD, label(120, 40, 20, 20)], [ON_BOARD, ELSEWHERE]))
    assert (result.labels, result.found, result.extras) == (2, 1, 1)
    assert (result.recall, result.precision) == (0.5, 0.5)
    assert result.low < 0.5 < result.high


def test_the_threshold_decides():
    assert score(frame([BOARD], [ON_BOARD]), threshold=0.9).found == 0


def test_half_the_board_is_found_but_not_strictly():
    result = score(frame([BOARD], [(10, 10, 6, 2)]))
    assert (result.recall, result.strict_recall) == (1, 0)
    assert (result.precision, result.strict_precision) == (1, 0)


@pytest.mark.parametrize("spared", [label(160, 120, 20, 20, truncated=True), label(160, 120, 15, 15)])
def test_truncated_and_small_labels_count_neither_way(spared):
    result = score(frame([BOARD, spared], [ON_BOARD, ELSEWHERE]))
    assert (result.labels, result.extras, result.precision) == (1, 0, 1)
    assert score(frame([BOARD, spared], [ON_BOARD])).recall == 1


def test_pieces_of_a_truncated_board_are_no_extras():
    cut = label(160, 120, 40, 40, truncated=True)
    assert score(frame([BOARD, cut], [ON_BOARD, (40, 30, 10, 4), (40, 36, 10, 4)])).extras == 0


def test_a_second_piece_of_a_board_is_an_extra():
    assert score(frame([label(40, 40, 40, 40)], [(10, 10, 10, 4), (10, 16, 10, 4)])).extras == 1


def test_what_nobody_knows_is_no_extra():
    assert score(frame([BOARD], [ON_BOARD, ELSEWHERE], ignored=[ELSEWHERE])).extras == 0
    assert score(frame([BOARD], [ON_BOARD, ELSEWHERE], ignored=[(40, 30, 2, 5)])).extras == 1


def test_incomplete_frames_have_no_extras_and_no_precision():
    result = score(frame([BOARD], [ON_BOARD, ELSEWHERE], complete=False))
    assert (result.found, result.extras, result.complete_frames, result.precision) == (1, 0, 0, None)
    both = score(frame([BOARD], [ON_BOARD, ELSEWHERE], complete=False), frame([BOARD], [ON_BOARD, ELSEWHERE]))
    assert (both.found, both.precision) == (2, 0.5)


def test_the_certificate_counts_small_labels_too():
    frames = [frame([BOARD, label(160, 120, 10, 9), label(200, 8, 10, 9), label(8, 8, 9, 9, True)], [(40, 30, 3, 3)])]
    rows = {row.from_px: row for row in score_sizes(find_objects(frames, 0.5, STRIDE))}
    assert (rows[8].labels, rows[8].found, rows[8].upto_px) == (2, 1, 12)
    assert (rows[17].labels, rows[17].found) == (1, 0)
    assert rows[160].upto_px is None and rows[160].labels == 0 and (rows[160].low, rows[160].high) == (0, 1)


def test_each_label_takes_one_box():
    a, b = Box(0, 0, 10, 10), Box(2, 0, 10, 10)
    assert assign([a], [b, a], lambda *_: True) == {0: 1}
    assert assign([a, b], [a], lambda *_: True) == {0: 0}


def test_confidence_and_peak():
    plain = frame([BOARD], [ON_BOARD, ELSEWHERE])
    objects = find_objects([plain], 0.5, STRIDE)
    assert objects.extras[0].confidence == pytest.approx(200 / 255)
    assert objects.labels[0].peak == pytest.approx(200 / 255)
    dark = replace(plain, probability=np.zeros_like(plain.probability))
    assert find_objects([dark], 0.5, STRIDE).labels[0].peak == 0

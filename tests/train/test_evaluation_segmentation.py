"""Scores of cells, worked out by hand on maps of a few cells."""

import numpy as np
import pytest

from aerial_train.evaluation.gather import FrameOutcome
from aerial_train.evaluation.segmentation import (
    THRESHOLDS,
    cell_histograms,
    frame_errors,
    score_cells,
    score_segmenter,
)


def frame(probability, coverage, weight):
    planes = [np.array(plane, np.uint8)[np.newaxis] for plane in (probability, coverage, weight)]
    return FrameOutcome(0, "f", 4 * len(probability), 4, *planes, (), True)


#                levels of the map       share that is target     known
FRAME = frame([250, 250, 10, 200, 255], [255, 128, 255, 127, 0], [1, 1, 1, 1, 0])


def test_cells_at_a_threshold():
    score = score_cells(cell_histograms([FRAME]), 0.5)
    assert score.cells == 4  # the last is unknown
    assert (score.precision, score.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (score.dice, score.jaccard, score.accuracy) == (pytest.approx(4 / 6), 2 / 4, 2 / 4)
    assert score.background == score_cells(cell_histograms([FRAME]), 0.9).background == 1 / 4


def test_thresholds_cut_as_the_runtime_does():
    """A level of 10 is a target from 10 / 255 down."""
    counts = cell_histograms([FRAME])
    assert score_cells(counts, 10 / 255).recall == 1
    assert score_cells(counts, 10.5 / 255).recall == pytest.approx(2 / 3)
    assert score_cells(counts, 0.0).recall == 1


def test_frames_add_up():
    two = cell_histograms([FRAME, FRAME])
    assert (two == 2 * cell_histograms([FRAME])).all() and two.sum() == 8


def test_wrong_cells_of_a_frame():
    assert frame_errors(FRAME, 0.5) == 2
    assert frame_errors(FRAME, 0.9) == 1


def test_curves_have_every_threshold():
    score = score_segmenter([FRAME], 0.5, 4)
    assert [point.threshold for point in score.cell_curve] == list(THRESHOLDS)
    recalls = [point.recall for point in score.cell_curve]
    assert recalls == sorted(recalls, reverse=True)
    assert [point.threshold for point in score.object_curve] == list(THRESHOLDS) and score.frames == 1

"""Directions: sectors raw and forgiven, degrees, and what a constant answer would score."""

import math

import numpy as np
import pytest

from aerial_runtime.card import Head, Heading, LabelSpace
from aerial_runtime.classify import sector_of
from aerial_train.evaluation.orientation import heading_turns, score_orientation, sector_index, turn_between

SPACE = LabelSpace(
    "arrows",
    (Head("mark", ("dot", "bar", "arrow")),),
    Heading("direction", ("N", "E", "S", "W"), "mark", any_angle=("dot",), half_turn=("bar",)),
)
DOT, BAR, ARROW = 0, 1, 2


def vectors(*degrees, length=1.0):
    return np.array([(length * math.sin(math.radians(d)), -length * math.cos(math.radians(d))) for d in degrees])


def test_symmetric_letters_are_forgiven():
    labels = np.array([ARROW, ARROW, BAR, BAR, DOT, -1])
    turns = heading_turns(SPACE, vectors(10, 170, 190, 100, 90, 180), vectors(0, 0, 0, 0, 0, 0), labels)
    assert turns.right.tolist() == [True, False, False, False, False, False]
    assert turns.forgiven.tolist() == [True, False, True, False, True, False]
    np.testing.assert_allclose(turns.error_deg, [10, 170, 10, 80, math.nan, 180])


def test_scores():
    truth = vectors(0, 90, 180, 270)
    truth[3] = 0  # unknown
    score = score_orientation(SPACE, vectors(20, 90, 0, 0, length=0.5), truth, np.array([ARROW, ARROW, BAR, ARROW]))
    assert score.count == 3 and (score.accuracy, score.raw) == (1, pytest.approx(2 / 3))
    assert score.error_mean_deg == pytest.approx(20 / 3) and score.error_median_deg == pytest.approx(0)
    assert score.majority == pytest.approx(2 / 3)  # always N: the first, and the bar that points S
    assert score.constant_deg == pytest.approx(30)
    assert score.confusion == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_nothing_to_score():
    assert score_orientation(SPACE, vectors(1), np.zeros((1, 2)), np.array([ARROW])) is None


def test_sectors_are_those_of_the_runtime():
    degrees = np.linspace(-400, 400, 641)
    names = SPACE.heading.sectors
    assert [names[i] for i in sector_index(degrees, 4)] == [sector_of(d % 360, names) for d in degrees]


def test_turns_go_the_short_way():
    np.testing.assert_allclose(turn_between(np.array([350.0, 0, 90]), np.array([10.0, 180, 45])), [20, 180, 45])

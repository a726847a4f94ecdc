"""Attributes over all sightings of one target."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest

from aerial_runtime.card import Head, Heading, LabelSpace
from aerial_runtime.fuse import Belief

SPACE = LabelSpace(
    "letters",
    (Head("letter", ("A", "H", "O")), Head("color", ("red", "blue"))),
    Heading("orientation", ("N", "E", "S", "W"), "letter", ("O",), ("H",)),
)


def rows(letter, heading=(0.0, -0.9)):
    answers = {"letter": letter, "color": (0.5, 0.5), "heading": heading}
    return {name: np.array([row], np.float32) for name, row in answers.items()}


def fused(*sightings, abstain=None, cut=()):
    belief = Belief(SPACE, abstain or {})
    for number, sighting in enumerate(sightings):
        belief.add(sighting, 0, number in cut)
    return belief.attributes()


def test_probabilities_are_multiplied():
    letter = fused(rows((0.5, 0.4, 0.1)), rows((0.2, 0.6, 0.2)))["letter"]
    assert letter.label == "H"
    assert letter.confidence == pytest.approx(0.24 / (0.1 + 0.24 + 0.02), abs=1e-4)
    assert letter.agreement == 0.5


def test_withheld_labels_count_too():
    unsure = rows((0.45, 0.3, 0.25))
    assert fused(unsure, abstain={"letter": 0.6})["letter"].label is None
    assert fused(*[unsure] * 4, abstain={"letter": 0.6})["letter"].label == "A"


def test_one_sighting_that_is_sure_and_wrong_does_not_decide():
    letter = fused(*[rows((0.9, 0.05, 0.05))] * 4, rows((0.0, 1.0, 0.0)))["letter"]
    assert (letter.label, letter.agreement) == ("A", 0.8)


def test_a_sighting_at_the_edge_counts_less():
    whole, part = rows((0.7, 0.2, 0.1)), rows((0.1, 0.8, 0.1))
    assert fused(whole, part)["letter"].label == "H"
    assert fused(whole, part, cut={1})["letter"].label == "A"


def test_the_direction_follows_the_camera():
    belief = Belief(SPACE, {})
    belief.add(rows((0.9, 0.05, 0.05), heading=(0, -0.8)), 0, False)
    belief.turn(cmath.rect(1, math.radians(90)))  # the picture has turned clockwise: up is now to the right
    assert belief.attributes()["orientation"].label == "N"  # as in the frame that it was seen in
    belief.add(rows((0.9, 0.05, 0.05), heading=(0.8, 0)), 0, False)
    orientation = belief.attributes()["orientation"]
    assert (orientation.label, orientation.degrees, orientation.agreement) == ("E", 90.0, 1.0)
    assert orientation.confidence == pytest.approx(0.8, abs=1e-3)


def test_upside_down_is_the_same_only_for_letters_that_look_so():
    up, down = (0, -0.8), (0, 0.8)
    for letter, label, confidence in (((0.05, 0.9, 0.05), "N", 0.8), ((0.9, 0.05, 0.05), None, 0.0)):
        orientation = fused(rows(letter, heading=up), rows(letter, heading=down), abstain={"orientation": 0.1})[
            "orientation"
        ]
        assert orientation.label == label
        assert orientation.confidence == pytest.approx(confidence, abs=1e-3)


def test_nothing_read_is_nothing_said():
    assert fused({}) == {}

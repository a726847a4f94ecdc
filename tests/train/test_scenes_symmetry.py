"""How much of a direction symmetric letters on symmetric shapes leave."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_train.scenes.symmetry import EVERY_ANGLE, orientation_limit, rotation_order
from aerial_train.scenes.target import REFERENCE_STYLE

R32 = load_label_space("suas-r32")


def polygon(corners, squeeze=1.0):
    angles = np.arange(corners) * 2 * math.pi / corners
    return np.stack((np.cos(angles), np.sin(angles) * squeeze), axis=1).astype(np.float32)


@pytest.mark.parametrize("corners", range(3, 9))
def test_regular_polygons_come_round_after_as_many_turns_as_they_have_corners(corners):
    assert rotation_order((polygon(corners),), 0.98) == corners


def test_rings_ovals_and_wedges():
    ring = polygon(60), polygon(60) * np.float32(0.6)
    assert rotation_order(ring, 0.98) == EVERY_ANGLE
    assert rotation_order((polygon(60, squeeze=0.6),), 0.98) == 2
    assert rotation_order((polygon(60)[:20],), 0.9) == 1


def only(**classes):
    """R32's label space with other classes of some heads."""
    heads = tuple(msgspec.structs.replace(h, classes=classes.get(h.name, h.classes)) for h in R32.heads)
    heading = msgspec.structs.replace(R32.heading, any_angle=(), half_turn=())
    return msgspec.structs.replace(R32, heads=heads, heading=heading)


def test_a_letter_is_ambiguous_only_where_its_board_is_too():
    plain = replace(REFERENCE_STYLE, turned_letter=0.0)
    assert orientation_limit(only(letter=("F", "L")), plain) == 1.0
    assert orientation_limit(only(letter=("I", "H"), shape=("triangle", "star")), plain) == 1.0
    on_square = orientation_limit(only(letter=("I", "H"), shape=("square", "rectangle")), plain)
    assert 0.5 <= on_square < 0.65, "both come round after half a turn, but in few fonts"
    turned = orientation_limit(only(letter=("I", "H"), shape=("triangle", "star")), replace(plain, turned_letter=1.0))
    assert turned == on_square, "a letter turned against its board has nobody to lean on"


def test_the_protocols_limit():
    assert 0.955 < orientation_limit(R32, REFERENCE_STYLE) < 0.967

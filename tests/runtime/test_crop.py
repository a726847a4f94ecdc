"""The one framing that training and flight share."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerial_runtime.contract import Box
from aerial_runtime.crop import cut_crop, square_around

EDGES = st.integers(-60, 400)
SIDES = st.integers(1, 700)


@given(x=EDGES, y=EDGES, width=SIDES, height=SIDES, margin=st.floats(1, 3))
def test_the_square_holds_the_box_about_its_centre(x, y, width, height, margin):
    left, top, side = square_around(Box(x, y, width, height), margin)
    assert side >= max(width, height) * margin - 1e-6 and side <= max(2, max(width, height) * margin + 1)
    assert abs((left + side / 2) - (x + width / 2)) <= 0.5 and abs((top + side / 2) - (y + height / 2)) <= 0.5


@settings(deadline=None)
@given(x=st.integers(0, 90), y=st.integers(0, 70), width=st.integers(1, 300), height=st.integers(1, 300))
def test_any_box_that_touches_the_frame_gives_a_crop(x, y, width, height):
    crop = np.zeros((16, 16, 3), np.uint8)
    cut_crop(np.full((80, 100, 3), 200, np.uint8), Box(x, y, width, height), 1.3, crop)
    assert (crop == 200).all()  # what lies outside repeats the edge


@pytest.mark.parametrize("side", [20, 48, 150, 500, 900])
def test_a_board_of_any_size_fills_the_same_part_of_its_crop(side):
    image = np.zeros((1200, 1200, 3), np.uint8)
    x = y = (1200 - side) // 2
    cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), (255, 255, 255), -1)
    crop = np.empty((48, 48, 3), np.uint8)
    cut_crop(image, Box(x, y, side, side), 1.5, crop)
    bright = np.argwhere(crop[..., 0] > 127)
    assert (bright.max(axis=0) - bright.min(axis=0) + 1) / 48 == pytest.approx([1 / 1.5] * 2, abs=0.05)
    assert (bright.min(axis=0) + bright.max(axis=0) + 1) / 2 == pytest.approx([24, 24], abs=1.1)


def test_a_board_across_the_edge_stays_where_it_is():
    image = np.zeros((600, 600, 3), np.uint8)
    image[:, :300] = 255
    crop = np.empty((48, 48, 3), np.uint8)
    cut_crop(image, Box(0, 100, 400, 400), 1.5, crop)  # square from -100 to 500: bright up to 2/3
    assert (crop[:, :30, 0] > 127).all() and (crop[:, 34:, 0] < 127).all()

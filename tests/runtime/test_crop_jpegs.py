"""Crops for the ground: which, how large, and how many bytes a second."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from aerial_runtime.contract import Box, Target
from aerial_runtime.crop_jpegs import MAX_SIDE_PX, CropBudget

RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 255, (1080, 1920, 3), np.uint8)  # compresses badly: every crop is some kB


class Clock:
    """A monotonic clock that stands still between the steps of a test."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns


def target(confidence, x=500, y=500, side=40):
    return Target(Box(x, y, side, side), side * side, confidence, {})


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_a_crop_is_the_square_with_its_margin_as_the_camera_saw_it():
    image = np.zeros((200, 300, 3), np.uint8)
    image[40:60, 100:140] = (0, 0, 255)
    (jpeg,) = CropBudget(100_000, 1.5).jpegs(image, [Target(Box(100, 40, 40, 20), 800, 0.9, {})])
    crop = decoded(jpeg)
    assert crop.shape == (60, 60, 3)  # 1.5 times the longer side, centred: frame rows 20..80, columns 90..150
    assert crop[30, 30, 2] > 200 and crop[30, 15, 2] > 200
    assert crop[10, 30].max() < 60 and crop[30, 4].max() < 60


def test_large_crops_shrink_and_those_at_the_edge_are_whole():
    big, corner = CropBudget(1_000_000, 1.0).jpegs(NOISE, [target(0.9, 0, 0, 900), target(0.8, 1900, 1060, 30)])
    assert decoded(big).shape == (MAX_SIDE_PX, MAX_SIDE_PX, 3)
    assert decoded(corner).shape == (30, 30, 3)


def one_crop_bytes():
    return len(CropBudget(1_000_000, 1.0).jpegs(NOISE, [target(1.0)])[0])


def test_the_most_confident_go_first_and_places_are_kept():
    budget = CropBudget(int(2.5 * one_crop_bytes()), 1.0, mono_ns=Clock())
    jpegs = budget.jpegs(NOISE, [target(confidence) for confidence in (0.6, 0.9, 0.7, 0.8)])
    assert [len(jpeg) > 0 for jpeg in jpegs] == [False, True, False, True]


def test_the_budget_is_per_second_and_saves_no_more_than_one():
    clock = Clock()
    budget = CropBudget(2 * one_crop_bytes(), 1.0, mono_ns=clock)

    def sent():
        return sum(len(jpeg) > 0 for jpeg in budget.jpegs(NOISE, [target(0.9)] * 10))

    assert [sent(), sent()] == [2, 0]
    clock.now_ns += 500_000_000
    assert sent() == 1
    clock.now_ns += 100_000_000_000
    assert sent() == 2


@pytest.mark.parametrize("frames_per_s", [1, 7, 30])
def test_a_flight_keeps_within_its_bytes(frames_per_s):
    clock = Clock()
    rate = 20_000
    budget, total = CropBudget(rate, 1.3, mono_ns=clock), 0
    for _ in range(10 * frames_per_s):
        clock.now_ns += 1_000_000_000 // frames_per_s
        total += sum(map(len, budget.jpegs(NOISE, [target(0.9), target(0.8), target(0.7, side=80)])))
    assert 0.6 * 10 * rate < total <= 11 * rate


def test_a_crop_larger_than_the_whole_budget_does_not_bar_the_others():
    budget = CropBudget(2 * one_crop_bytes(), 1.0, mono_ns=Clock())
    jpegs = budget.jpegs(NOISE, [target(0.9, 0, 0, 600), target(0.5)])
    assert [len(jpeg) > 0 for jpeg in jpegs] == [False, True]


def test_no_smaller_crop_goes_instead_of_a_surer_one():
    """Else the crumbs of each frame would feed the small and doubtful, and the sure one would wait for ever."""
    clock = Clock()
    budget = CropBudget(int(1.5 * one_crop_bytes()), 1.0, mono_ns=clock)
    sure_then_small = [target(0.9), target(0.5, side=8)]
    assert [len(jpeg) > 0 for jpeg in budget.jpegs(NOISE, [target(0.9), *sure_then_small])] == [True, False, False]
    clock.now_ns += 500_000_000
    assert budget.jpegs(NOISE, sure_then_small)[0]


def test_no_targets_no_crops():
    assert CropBudget(1000, 1.0).jpegs(NOISE, []) == []

"""Map -> candidates, with maps made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerial_runtime.backends import open_backend
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import Thresholds
from aerial_runtime.contract import Box
from aerial_runtime.errors import ModelError
from aerial_runtime.segment import Segmenter


def segment(kit, probability, width, height, mask=0.5, **options):
    card = kit.segmenter_card(thresholds=Thresholds(mask=mask))
    backend = FakeBackend(card, lambda frame: {"probability": np.asarray(probability, np.uint8)[np.newaxis]})
    return Segmenter(backend, **options)(np.zeros((height, width, 3), np.uint8))


def test_nothing_is_no_candidate(kit):
    assert segment(kit, np.zeros((3, 4)), 16, 12).candidates == []


def test_box_and_area_are_in_pixels_of_the_frame(kit):
    probability = np.zeros((6, 8))
    probability[1:3, 2:5] = 255
    probability[2, 2] = 0
    (candidate,) = segment(kit, probability, 32, 24).candidates
    assert candidate.box == Box(8, 4, 12, 8)
    assert candidate.area_px == 5 * 16


def test_touching_at_a_corner_is_one_thing(kit):
    assert len(segment(kit, [[255, 0], [0, 255]], 8, 8).candidates) == 1


def test_a_single_cell_is_noise(kit):
    probability = np.zeros((4, 8))
    probability[0, 0] = 255
    probability[2, 4:6] = 255
    assert [c.box.x for c in segment(kit, probability, 32, 16).candidates] == [16]


@pytest.mark.parametrize(("mask", "level"), [(0.0, 1), (0.2, 51), (0.5, 128), (1.0, 255)])
def test_the_threshold_is_the_cards(kit, mask, level):
    assert len(segment(kit, np.full((2, 2), level), 8, 8, mask).candidates) == 1
    assert len(segment(kit, np.full((2, 2), level - 1), 8, 8, mask).candidates) == 0


def components_by_hand(probability):
    """Return (x, y, right, bottom, area) in cells of each group of touching cells, by flood filling."""
    left = {(int(row), int(column)) for row, column in np.argwhere(probability)}
    found = []
    while left:
        todo, group = [left.pop()], []
        while todo:
            row, column = todo.pop()
            group.append((row, column))
            near = {(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        rows, columns = zip(*group, strict=True)
        found.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1, len(group)))
    return found


@given(width=st.integers(1, 90), height=st.integers(1, 90), seed=st.integers(0, 999), share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_boxes_are_the_groups_of_cells_clipped_to_the_frame(kit, width, height, seed, share):
    rows, columns = -(-height // 4), -(-width // 4)
    probability = np.where(np.random.default_rng(seed).random((rows, columns)) < share, 255, 0)
    found = segment(kit, probability, width, height, max_candidates=10_000)
    expected = {
        (4 * x, 4 * y, min(4 * right, width), min(4 * bottom, height), 16 * cells)
        for x, y, right, bottom, cells in components_by_hand(probability)
        if cells >= 2
    }
    boxes = [(c.box.x, c.box.y, c.box.x + c.box.width, c.box.y + c.box.height, c.area_px) for c in found.candidates]
    assert set(boxes) == expected
    assert len(boxes) == len(expected)


def squares_of(*sides):
    """Return a map with squares of these sides in cells in a row, and the frame's size."""
    probability = np.zeros((20, 30 * len(sides)))
    for index, side in enumerate(sides):
        probability[:side, 30 * index : 30 * index + side] = 255
    return probability, 120 * len(sides), 80


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ({}, [8, 20, 40]),
        ({"min_size_px": 8, "max_size_px": 40}, [8, 20, 40]),
        ({"min_size_px": 9}, [20, 40]),
        ({"max_size_px": 39}, [8, 20]),
        ({"min_size_px": 21, "max_size_px": 39}, []),
    ],
)
def test_sizes_are_of_the_longer_side_and_inclusive(kit, sizes, kept):
    found = segment(kit, *squares_of(2, 5, 10), **sizes)
    assert [candidate.box.width for candidate in found.candidates] == kept
    tall = squares_of(2, 5, 10)[0]
    tall[:, 1:30] = 0  # the first becomes 1 x 2 cells: its longer side still counts
    assert len(segment(kit, tall, 360, 80, **sizes).candidates) == len(kept)


def test_a_size_is_of_the_box_as_clipped_to_the_frame(kit):
    probability = squares_of(10)[0]
    assert len(segment(kit, probability[:3, :10], 37, 10, min_size_px=37).candidates) == 1
    assert len(segment(kit, probability[:3, :10], 37, 10, min_size_px=38).candidates) == 0


def test_what_is_too_small_takes_no_place_of_the_strongest(kit):
    probability, width, height = squares_of(2, 5, 10)
    probability[probability > 0] = 200
    probability[:2, :2] = 255
    found = segment(kit, probability, width, height, max_candidates=1, min_size_px=12, max_size_px=30)
    assert [candidate.box.width for candidate in found.candidates] == [20]
    assert found.cut == 0


def test_a_mask_threshold_stands_before_the_cards(kit):
    probability = np.full((2, 2), 100)
    assert len(segment(kit, probability, 8, 8, mask=0.5).candidates) == 0
    assert len(segment(kit, probability, 8, 8, mask=0.5, mask_threshold=0.3).candidates) == 1
    assert len(segment(kit, probability, 8, 8, mask=0.0, mask_threshold=0.4).candidates) == 0


@pytest.mark.parametrize(("rows", "columns"), [(270, 480), (512, 512), (540, 960)])
def test_a_target_among_as_many_specks_as_a_map_can_hold(kit, rows, columns):
    """For the first 16-bit labels are enough, for the others they would not be."""
    probability = np.zeros((rows, columns))
    probability[::2, ::2] = 255
    probability[-1, 0] = 255  # below the last speck of its column
    (candidate,) = segment(kit, probability, 4 * columns, 4 * rows).candidates
    assert candidate.box == Box(0, 4 * (rows - 2), 4, 8)


def test_keeps_the_strongest_and_counts_the_rest(kit):
    probability = np.zeros((2, 30))
    for index, level in enumerate([200, 255, 140, 230, 180]):
        probability[:, 6 * index : 6 * index + 2] = level
    found = segment(kit, probability, 120, 8, max_candidates=2)
    assert [candidate.box.x for candidate in found.candidates] == [24, 72]
    assert found.cut == 3


def test_a_map_of_the_wrong_size_is_the_models_fault(kit, tmp_path):
    path = kit.build_segmenter(tmp_path / "shifted.onnx", kit.segmenter_card(), shift=1)
    reason = r"shifted\.onnx turned a 16x8 frame into a map"
    with open_backend(path) as backend, pytest.raises(ModelError, match=reason):
        Segmenter(backend)(np.zeros((8, 16, 3), np.uint8))


def test_a_classifier_is_no_segmenter(kit):
    backend = FakeBackend(kit.classifier_card(), lambda crops: {}, "cls.onnx")
    with pytest.raises(ModelError, match=r"cls\.onnx is a classifier; give it as --classifier"):
        Segmenter(backend)

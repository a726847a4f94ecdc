"""Painting a target: what it covers, and that a bent board is seen to be bent."""

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_train.scenes.painting import coverage, paint
from aerial_train.scenes.target import Style, at_pixels, sample_look, warp

SUAS = load_label_space("suas")


def test_paint_covers_the_outline_and_nothing_else():
    style = Style(shadow=0, grass=0, worn=0, texture=0, gloss=0, border=0, no_letter=1.0, pink=0)
    look = sample_look(np.random.default_rng(3), SUAS, style)
    homography = at_pixels(np.eye(3, dtype=np.float32), 20, 32, 32)
    picture = np.full((64, 64, 3), 77, np.uint8)
    painted = paint(np.random.default_rng(0), picture, look, homography)
    assert painted is not None
    truth = np.zeros((64, 64), np.uint8)
    height, width = painted.coverage.shape
    truth[painted.y : painted.y + height, painted.x : painted.x + width] = painted.coverage
    outline = warp(homography, look.outline)
    assert truth.sum() / 255 == pytest.approx(cv2.contourArea(outline), rel=0.03)
    assert (picture[truth == 0] == 77).all()
    assert np.abs(picture[truth == 255].astype(int) - look.shape_bgr.astype(int)).max() <= 1


@pytest.mark.parametrize("supersample", [2, 3])
@pytest.mark.parametrize(("length", "width"), [(30, 2), (30, 1), (20, 20)])
def test_a_stroke_has_the_ink_of_its_area(length, width, supersample):
    rng, ink = np.random.default_rng(0), []
    for _ in range(200):
        angle, middle = rng.uniform(0, 2 * np.pi), 24 + rng.uniform(-1, 1, 2)
        cos, sin = np.cos(angle), np.sin(angle)
        corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) * (length / 2, width / 2) @ ((cos, sin), (-sin, cos))
        ink.append(coverage(((corners + middle).astype(np.float32),), 0, 0, 48, 48, supersample).sum() / 255)
    assert np.mean(ink) == pytest.approx(length * width, rel=0.02)


def test_a_target_outside_the_picture_paints_nothing():
    look = sample_look(np.random.default_rng(3), SUAS, Style())
    picture = np.full((32, 32, 3), 50, np.uint8)
    assert paint(np.random.default_rng(0), picture, look, at_pixels(np.eye(3, dtype=np.float32), 5, 200, 200)) is None
    assert (picture == 50).all()


def test_a_folded_board_is_lit_unevenly():
    def spread(folds: float) -> float:
        style = Style(folds=folds, texture=0, gloss=0, worn=0, border=0, shadow=0, grass=0, no_letter=1.0)
        stds = []
        for seed in range(30):
            rng = np.random.default_rng(seed)
            look = sample_look(rng, SUAS, style)
            picture = np.full((64, 64, 3), 90, np.uint8)
            painted = paint(rng, picture, look, at_pixels(np.eye(3, dtype=np.float32), 24, 32, 32))
            height, width = painted.coverage.shape
            board = picture[painted.y : painted.y + height, painted.x : painted.x + width][painted.coverage == 255]
            stds.append(float(board.std(axis=0).max()))
        return float(np.median(stds))

    assert spread(0.0) < 1.0
    assert spread(1.0) > 4.0

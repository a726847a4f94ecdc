"""Camera motion from pictures and from targets, against motions that are known."""

from __future__ import annotations

import cmath
import math
import tracemalloc

import cv2
import numpy as np
import pytest

from aerial_runtime.motion import TURN_ERROR, ImageMotion, Motion, fitted, motion_of_targets

WIDTH, HEIGHT = 1920, 1080
POINTS = np.array([-700 - 300j, -250 + 310j, 90 - 220j, 400 + 60j, 610 - 350j, 350 + 350j])


def meadow(width=WIDTH, height=HEIGHT, seed=1):
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 12, (height // n, width // n)).astype(np.float32), (width, height))
        for n in (8, 20, 90)
    ]
    grey = (128 + sum(layers)).clip(0, 255).astype(np.uint8)
    return cv2.merge([grey, grey, grey])


def moved(image, turn, shift):
    height, width = image.shape[:2]
    origin = complex(width - 1, height - 1) / 2 * (1 - turn) + shift
    matrix = np.array([[turn.real, -turn.imag, origin.real], [turn.imag, turn.real, origin.imag]])
    return cv2.warpAffine(image, matrix, (width, height))


def measured(*images):
    motion = ImageMotion()
    for image in images:
        motion.look(image)
    return motion.measure()


@pytest.mark.parametrize(
    ("turn", "shift"),
    [
        (1 + 0j, 0j),
        (1 + 0j, 30 + 290j),
        (cmath.rect(1, math.radians(8)), -120 + 60j),
        (cmath.rect(1.1, math.radians(-50)), 20j),
        (cmath.rect(0.93, math.radians(180)), 100 + 0j),
    ],
)
def test_the_picture_tells_turn_scale_and_shift(turn, shift):
    image = meadow()
    motion = measured(image, moved(image, turn, shift))
    assert motion is not None and motion.is_known
    assert np.abs(motion(POINTS) - (turn * POINTS + shift)).max() < 10  # of 1920 px


def test_a_picture_that_shows_nothing_tells_nothing():
    black, image = np.zeros((HEIGHT, WIDTH, 3), np.uint8), meadow()
    assert measured(image) is None
    for pair in [(black, black), (image, black), (black, image), (image, meadow(seed=2)), (image, meadow(960, 540))]:
        assert measured(*pair) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 40), (41, 43), (90, 50)])
def test_small_pictures_are_no_trouble(size):
    image = np.random.default_rng(3).integers(0, 255, (*size, 3), np.uint8)
    motion = measured(image, image)
    assert motion is None or abs(motion.turn - 1) < 0.01


def test_one_unknown_frame_between_is_forgotten():
    image = meadow()
    motion = ImageMotion()
    for picture in (image, np.zeros_like(image), image):
        motion.look(picture)
    assert motion.measure() is None
    motion.look(image)
    found = motion.measure()
    assert found is not None and abs(found.shift) < 1


def test_ground_that_shows_little_after_ground_that_shows_much():
    """Corners are strong and many on the one; on the other the same threshold would find none."""
    stubble, lawn = meadow(seed=3), cv2.convertScaleAbs(meadow(seed=4), alpha=0.3, beta=90)
    motion = ImageMotion()
    for step in range(20):
        motion.look(moved(stubble, 1 + 0j, 8j * step))
        assert step == 0 or motion.measure() is not None
    motion.look(lawn)
    assert motion.measure() is None
    motion.look(moved(lawn, 1 + 0j, 40 + 8j))
    found = motion.measure()
    assert found is not None and abs(found.shift - (40 + 8j)) < 5


def all_alike(old, new):
    return np.ones((len(old), len(new)), bool)


def test_targets_tell_the_motion_though_some_are_missed_and_others_false():
    turn, shift = cmath.rect(1.02, 0.03), 40 + 280j
    new = np.append((turn * POINTS + shift)[[0, 2, 3, 4, 5]], [-50 + 20j, 500 - 100j])
    motion = motion_of_targets(POINTS, new, all_alike(POINTS, new), Motion(), 44.0)
    assert motion is not None
    assert np.abs(motion(POINTS) - (turn * POINTS + shift)).max() < 1


def test_few_targets_and_two_answers_are_unknown():
    three = POINTS[:3]
    assert motion_of_targets(three, three + 50, all_alike(three, three), Motion(), 44.0) is None
    row = np.arange(6) * 120 + 0j  # equal boards in a row: shifted by one it looks nearly the same
    assert motion_of_targets(row, row + 60, all_alike(row, row), Motion(), 44.0) is None
    apart = np.zeros((6, 6), bool)
    assert motion_of_targets(POINTS, POINTS, apart, Motion(), 44.0) is None


def test_a_crowd_that_looks_alike_costs_no_more_than_a_frame_may():
    rng = np.random.default_rng(0)
    crowd = rng.uniform(0, 3000, 400) + 1j * rng.uniform(0, 2000, 400)
    tracemalloc.start()
    try:
        motion = motion_of_targets(crowd, crowd + 3 + 2j, all_alike(crowd, crowd), Motion(), 4.0)
        assert tracemalloc.get_traced_memory()[1] < 50e6  # of all proposals at once it would be gigabytes
    finally:
        tracemalloc.stop()
    assert motion is not None and abs(motion.shift - (3 + 2j)) < 0.1  # nearest to the guess


def test_labels_tell_equal_rows_apart():
    row = np.arange(6) * 120 + 0j
    motion = motion_of_targets(row, row + 60, np.eye(6, dtype=bool), Motion(), 44.0)
    assert motion is not None and abs(motion.shift - 60) < 1e-6


def test_what_cannot_be_is_unknown():
    two = POINTS[:2]
    assert fitted(two[:1], two[:1]) is None
    assert fitted(np.zeros(2, complex), two) is None
    assert fitted(two, two * complex("nan")) is None
    assert fitted(two, 3 * two) is None
    fit = fitted(POINTS, 1j * POINTS + 5)
    assert fit is not None and abs(fit.turn - 1j) < 1e-9 and abs(fit.shift - 5) < 1e-9


def test_corners_that_lie_close_together_tell_less_of_a_rotation():
    rng = np.random.default_rng(3)
    ground = cv2.resize(rng.integers(0, 256, (90, 120, 3), np.uint8), (960, 720), interpolation=cv2.INTER_CUBIC)
    patch = np.full_like(ground, 90)
    patch[300:420, 420:540] = ground[300:420, 420:540]

    def turn_error(image_bgr: np.ndarray) -> float:
        camera = ImageMotion()
        for image in (image_bgr, np.roll(image_bgr, 8, axis=1)):
            camera.look(image)
        motion = camera.measure()
        assert motion is not None and motion.shift == pytest.approx(8, abs=2)
        return motion.turn_error

    assert turn_error(patch) > 1.5 * turn_error(ground) >= 1.5 * TURN_ERROR

"""The judge of a live camera: told pictures and times, it says what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from aerial_runtime.watch import BLACK, FROZEN, LOST, WRONG_SIZE, Watch, WatchOptions


def noisy(seed, width=320, height=240, level=100, spread=20):
    """A picture as a camera gives it: no two are the same."""
    noise = np.random.default_rng(seed).integers(0, spread, (height, width, 3))
    return (level + noise).astype(np.uint8)


def told(watch, pictures, start_s=0.0, step_s=0.5):
    """Show pictures at intervals; return the codes that stood after each."""
    codes = []
    for number, picture in enumerate(pictures):
        watch.frame(picture, start_s + number * step_s)
        codes.append(set(watch.problems))
    return codes


@pytest.fixture
def watch():
    return Watch(WatchOptions(frozen_s=2.0, black_s=1.0))


def test_a_camera_with_noise_is_well(watch):
    assert told(watch, [noisy(seed) for seed in range(20)]) == [set()] * 20
    assert not watch.is_suspect


def test_the_same_picture_for_long_is_frozen_until_another_comes(watch):
    codes = told(watch, [noisy(0)] * 6 + [noisy(1)] * 2)
    assert codes == [set()] * 4 + [{FROZEN}] * 2 + [set()] * 2


def test_a_change_outside_the_sampled_grid_is_not_seen_but_one_on_it_is(watch):
    off, on = noisy(0), noisy(0)
    off[1:16, 1:16] ^= 1
    on[16, 16] ^= 1
    assert told(watch, [noisy(0), noisy(0), off, off, off])[-1] == {FROZEN}
    assert told(watch, [on], start_s=10) == [set()]


def test_a_frozen_camera_stays_so_when_it_shows_the_same_picture_after_reopening(watch):
    told(watch, [noisy(0)] * 5)
    watch.lost("closed")
    assert set(watch.problems) == {LOST, FROZEN}
    assert told(watch, [noisy(0)], start_s=20) == [{FROZEN}]
    assert watch.is_suspect


def test_black_for_long_until_light_comes_and_never_frozen(watch):
    black = np.zeros((240, 320, 3), np.uint8)
    codes = told(watch, [black] * 8 + [noisy(0)])
    assert codes == [set()] * 2 + [{BLACK}] * 6 + [set()]


def test_a_covered_lens_has_noise_and_a_lamp_at_night_is_no_black(watch):
    covered = [noisy(seed, level=0, spread=16) for seed in range(4)]
    assert told(watch, covered)[-1] == {BLACK}
    night = [noisy(seed, level=0, spread=16) for seed in range(4)]
    for picture in night:
        picture[100:150, 100:150] = 200
    assert told(watch, night, start_s=10) == [set()] * 4


def test_black_is_not_suspect(watch):
    told(watch, [np.zeros((240, 320, 3), np.uint8)] * 5)
    assert BLACK in watch.problems
    assert not watch.is_suspect


def test_a_size_other_than_at_first_until_the_first_is_back(watch):
    codes = told(watch, [noisy(0), noisy(1, 160, 120), noisy(2, 160, 120), noisy(3)])
    assert codes == [set(), {WRONG_SIZE}, {WRONG_SIZE}, set()]
    told(watch, [noisy(4, 160, 120)])
    assert "160x120 pixels instead of 320x240" in watch.problems[WRONG_SIZE]
    assert watch.is_suspect


def test_a_frame_ends_a_loss(watch):
    watch.lost("there is no camera")
    assert watch.problems == {LOST: "there is no camera"}
    assert told(watch, [noisy(0)]) == [set()]


def test_zero_seconds_judge_nothing():
    watch = Watch(WatchOptions(frozen_s=0, black_s=0))
    assert told(watch, [noisy(0)] * 50 + [np.zeros((240, 320, 3), np.uint8)] * 50) == [set()] * 100


def test_a_picture_smaller_than_the_grid(watch):
    assert told(watch, [noisy(seed, 1, 1) for seed in (0, 1)]) == [set()] * 2


def test_the_sample_does_not_hold_the_frame(watch):
    picture = noisy(0)
    watch.frame(picture, 0.0)
    assert watch._sample is not None
    assert watch._sample.base is None

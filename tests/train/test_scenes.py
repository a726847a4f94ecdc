"""Frames and crops: truth that fits the picture, and the same samples for everybody."""

import math
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.errors import InputError, UsageError
from aerial_train.scenes.backgrounds import Backgrounds, terrain
from aerial_train.scenes.camera import NO_CAMERA, Camera, expose
from aerial_train.scenes.crops import CROP_RECIPES, CropRecipe, CropScenes, box_errors, largest_box_error
from aerial_train.scenes.frames import FRAME_RECIPES, FrameRecipe, FrameScenes, mask_to_cells
from aerial_train.scenes.target import REFERENCE_STYLE, sample_look, stands_out

SUAS = load_label_space("suas")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three plain pictures stand in for a folder of aerial photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        ground = terrain(np.random.default_rng(index), 300, 400)
        cv2.imwrite(str(folder / f"{index}.jpg"), ground)
    return Backgrounds(folder, terrain_share=0.0)


def test_samples_depend_on_seed_epoch_and_index_alone(photos):
    for scenes in (FrameScenes(SUAS, FrameRecipe(), photos), CropScenes(SUAS, CropRecipe(), photos)):
        copy = pickle.loads(pickle.dumps(scenes))  # what a worker process gets
        whole, parts = scenes.batch(3, range(6)), [copy.batch(3, range(4, 6)), copy.batch(3, range(4))]
        for field in ("images", "coverage") if isinstance(scenes, FrameScenes) else ("crops", "heading"):
            again = np.concatenate([getattr(parts[1], field), getattr(parts[0], field)])
            np.testing.assert_array_equal(getattr(whole, field), again)
        first = scenes.sample(3, 0).image_bgr
        for other in (scenes.sample(4, 0), scenes.sample(3, 1), scenes.with_seed(9).sample(3, 0)):
            assert other.image_bgr.shape != first.shape or (other.image_bgr != first).any()


def test_boxes_hold_their_masks(photos):
    recipe = FrameRecipe(height=200, width=300, targets=(1, 3), size_px=(20, 60), camera=NO_CAMERA)
    scenes, seen = FrameScenes(SUAS, recipe, photos), 0
    for index in range(30):
        sample = scenes.sample(0, index)
        left = sample.mask > 127
        for target in sample.targets:
            box = target.box
            part = left[box.y : box.y + box.height, box.x : box.x + box.width]
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            part[:] = False
            seen += 1
        assert not left.any(), "a target's mask reaches beyond its box"
    assert seen > 30


def test_untruncated_targets_have_the_size_asked_for(photos):
    recipe = FrameRecipe(height=300, width=300, targets=(1, 1), size_px=(50, 50), camera=NO_CAMERA, distractors=(0, 0))
    sizes = [
        t.size_px for i in range(40) for t in FrameScenes(SUAS, recipe, photos).sample(0, i).targets if not t.truncated
    ]
    assert len(sizes) > 20 and min(sizes) >= 48 and max(sizes) <= 51


def test_truncated_is_said_of_targets_that_the_edge_cuts(photos):
    recipe = FrameRecipe(height=64, width=64, targets=(1, 1), size_px=(30, 30))
    flags = []
    for index in range(60):
        for target in FrameScenes(SUAS, recipe, photos).sample(0, index).targets:
            box = target.box
            at_edge = box.x == 0 or box.y == 0 or box.x + box.width == 64 or box.y + box.height == 64
            assert at_edge or not target.truncated
            flags.append(target.truncated)
    assert any(flags) and not all(flags)


def test_dense_frames_follow_the_grid_protocol(photos):
    scenes = FrameScenes(SUAS, FRAME_RECIPES["r256"], photos)
    counts = [len(scenes.sample(0, index).targets) for index in range(40)]
    assert max(counts) > 20 and min(counts) >= 0
    largest = max(t.size_px for index in range(40) for t in scenes.sample(0, index).targets)
    assert largest <= 256


def test_cells_are_the_share_of_pixels_that_are_target(photos):
    sample = FrameScenes(SUAS, FrameRecipe(height=66, width=130, targets=(2, 2), size_px=(20, 40)), photos).sample(0, 1)
    cells, weight = mask_to_cells(sample, 4)
    assert cells.shape == weight.shape == (17, 33)
    assert cells.astype(float).sum() * 16 == pytest.approx(sample.mask.astype(float).sum(), rel=0.02)


def test_targets_too_small_to_learn_carry_no_weight(photos):
    recipe = FrameRecipe(height=64, width=64, targets=(1, 1), size_px=(8, 8), camera=NO_CAMERA)
    for index in range(20):
        sample = FrameScenes(SUAS, recipe, photos).sample(0, index)
        cells, weight = mask_to_cells(sample, 4)
        assert not cells[weight == 1].any()


def test_crops_are_framed_like_the_runtime_frames_them(photos):
    """The target's share of the crop is about 1 / margin, whatever its size in the frame; never cut off."""
    recipe = replace(CROP_RECIPES["flight"], targets=1.0, camera=NO_CAMERA, source_px=(40, 150))
    plain = replace(recipe, style=replace(REFERENCE_STYLE, perspective=0.0))
    white = Backgrounds(None)
    white.patch = lambda rng, height, width: np.full((height, width, 3), 128, np.uint8)  # type: ignore[method-assign]
    shares = []
    for index in range(60):
        image = CropScenes(SUAS, plain, white).sample(0, index).image_bgr.astype(int)
        drawn = np.argwhere(np.abs(image - 128).max(axis=2) > 24)
        if len(drawn):
            shares.append((drawn.max(axis=0) - drawn.min(axis=0) + 1).max() / recipe.size)
    assert 0.6 < np.median(shares) < 0.85 and max(shares) <= 0.97


def test_crops_that_hold_nothing_have_no_labels(photos):
    batch = CropScenes(SUAS, replace(CROP_RECIPES["flight"], targets=0.5), photos).batch(0, range(60))
    nothing = batch.is_target == 0
    assert 10 < nothing.sum() < 50
    assert all((labels[nothing] == -1).all() for labels in batch.labels.values())
    assert not batch.heading[nothing].any()
    lengths = np.hypot(*batch.heading[~nothing].T)
    assert ((np.abs(lengths - 1) < 1e-5) | (lengths == 0)).all() and (lengths > 0).mean() > 0.8


def test_r32_keeps_the_protocol(photos):
    recipe = CROP_RECIPES["r32"]
    batch = CropScenes(SUAS, recipe, photos).batch(0, range(50))
    assert batch.crops.shape == (50, 32, 32, 3) and batch.is_target.all()
    angles = [math.atan2(x, -y) for x, y in batch.heading]
    assert np.std(angles) > 1  # any rotation
    assert recipe.camera is NO_CAMERA and recipe.style is REFERENCE_STYLE


def test_no_camera_is_known_after_pickling(photos):
    scenes = CropScenes(SUAS, CROP_RECIPES["r32"], photos)
    copy = pickle.loads(pickle.dumps(scenes))
    np.testing.assert_array_equal(scenes.sample(0, 0).image_bgr, copy.sample(0, 0).image_bgr)


def test_terrain_differs_and_repeats():
    pictures = [terrain(np.random.default_rng(seed), 90, 120) for seed in (0, 1, 0)]
    assert pictures[0].shape == (90, 120, 3) and pictures[0].dtype == np.uint8
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0] != pictures[1]).mean() > 0.5


def test_camera_keeps_shape_and_changes_pixels():
    picture = terrain(np.random.default_rng(0), 64, 64)
    for seed in range(25):
        out = expose(np.random.default_rng(seed), picture.copy(), Camera())
        assert out.shape == picture.shape and out.dtype == np.uint8
    assert (expose(np.random.default_rng(0), picture.copy(), NO_CAMERA) == picture).all()


def test_a_fringe_moves_red_and_blue_apart_and_leaves_green():
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 20:] = 200
    seen = [expose(np.random.default_rng(seed), picture.copy(), replace(NO_CAMERA, fringe=1.0)) for seed in range(9)]
    assert all((image[..., 1] == picture[..., 1]).all() for image in seen)
    shifts = [float(image[10, :, 0].sum()) - float(image[10, :, 2].sum()) for image in seen]
    assert max(shifts) > 50 and min(shifts) < -50


def test_bad_backgrounds_and_sizes_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Backgrounds(tmp_path / "none")
    with pytest.raises(InputError, match="holds no pictures"):
        Backgrounds(tmp_path)
    (tmp_path / "broken.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        Backgrounds(tmp_path, terrain_share=0.0).patch(np.random.default_rng(0), 8, 8)
    with pytest.raises(UsageError, match="sizes"):
        FrameScenes(SUAS, FrameRecipe(size_px=(50, 20)), Backgrounds(None))
    with pytest.raises(UsageError, match="margin"):
        CropScenes(SUAS, CropRecipe(margin=0.5), Backgrounds(None))


def test_the_exposure_is_metered_on_the_picture_or_on_what_is_told():
    camera = replace(NO_CAMERA, exposure=2.0, metered=(0.2, 0.6))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 120, (40, 40, 3)).astype(np.uint8)
    means = [expose(np.random.default_rng(seed), noise.copy(), camera).mean() / 255 for seed in range(40)]
    assert 0.19 < min(means) < 0.25 and 0.5 < max(means) < 0.61
    dark_ground = np.full(3, 25, np.float32)  # then a bright board in a crop may be as bright as it likes
    bright = [expose(np.random.default_rng(seed), noise.copy(), camera, dark_ground).mean() / 255 for seed in range(40)]
    assert max(bright) > 0.7


def test_boards_can_be_told_from_their_ground(photos):
    hard = replace(FRAME_RECIPES["flight"].style, min_ground_contrast=150.0, shadow=0.0, grass=0.0)
    recipe = FrameRecipe(targets=(1, 1), size_px=(60, 90), distractors=(0, 0), style=hard, camera=NO_CAMERA)
    apart = []
    for wanted in (0.0, 150.0):
        style = replace(hard, min_ground_contrast=wanted, no_letter=1.0, border=0.0, gloss=0.0, folds=0.0, texture=0.0)
        scenes = FrameScenes(SUAS, replace(recipe, style=style), photos)
        samples = [scenes.sample(0, index) for index in range(40)]
        apart.append([
            np.abs(s.image_bgr[s.mask == 255].mean(axis=0) - s.image_bgr[s.mask == 0].mean(axis=0)).sum()
            for s in samples if s.targets
        ])  # fmt: skip
    assert min(apart[0]) < 50 and min(apart[1]) > 90  # told apart from the ground beneath, measured all around
    look = sample_look(np.random.default_rng(0), SUAS, replace(hard, min_ground_contrast=30.0))
    assert not stands_out(look, look.shape_bgr + np.float32(9)) and stands_out(look, look.shape_bgr + np.float32(11))


def test_boxes_are_a_little_off_and_some_edges_by_much():
    rng, size = np.random.default_rng(0), 50.0
    errors = np.array([box_errors(rng, 4, size) for _ in range(5000)])
    usual = (errors > -0.6 * 4 - 0.03 * size) & (errors < 0.75 * 4 + 0.04 * size)
    assert 0.03 < 1 - usual.mean() < 0.08
    assert errors[~usual].min() < -0.3 * size and errors[~usual].max() > 0.3 * size
    assert np.abs(errors).max() <= largest_box_error(4, size)
    assert abs(errors.mean()) < 0.02 * size


def test_what_is_too_bright_is_cut_off_or_flattened():
    """Two lights of one white board, too bright for the sensor: flattened they differ, cut off they do not."""
    picture = np.full((8, 16, 3), 230, np.uint8)
    picture[:, 8:] = 250
    plain = replace(NO_CAMERA, metered=(0.99, 1.0))  # brighter by a tenth
    flattened, cut_off = (
        expose(np.random.default_rng(0), picture.copy(), replace(plain, clip=clip)) for clip in (0, 1)
    )
    assert (cut_off[:, 8:] == 255).all() and cut_off[0, 0, 0] < 255
    assert (flattened < 255).all() and (flattened[:, 8:] > flattened[0, 0, 0]).all()

"""Crops of real photos: cut by the runtime's rule, ground without targets, pictures that are crops."""

import json

import cv2
import numpy as np
import pytest

from aerial_runtime.contract import Box
from aerial_runtime.crop import cut_crop
from aerial_runtime.errors import InputError


def test_crops_are_cut_by_the_runtimes_rule(boxes, photo_kit):
    crops = photo_kit.crops(boxes)
    wanted = np.empty((32, 32, 3), np.uint8)
    seen = {}
    for index in range(crops.count):
        sample = crops.sample(0, index)
        seen[sample.name] = sample
        if sample.is_target:
            image = photo_kit.picture({"a_1": 0, "a_2": 1, "b_1": 2, "b_2": 3}[sample.name[:3]])
            cut_crop(image, Box(50, 40, 30, 20), 1.3, wanted)
            np.testing.assert_array_equal(sample.image_bgr, wanted)
            np.testing.assert_allclose(sample.heading, (1, 0), atol=1e-6)
            assert sample.source_px == 30 and sample.labels["letter"] == 0
        else:
            assert not (sample.image_bgr == (0, 0, 200)).all(axis=2).any()
            assert set(sample.labels.values()) == {-1} and not sample.heading.any()
    assert len(seen) == crops.count == 8 and sum(sample.is_target for sample in seen.values()) == 4


def test_ground_without_target_is_cut_clear_of_every_label(tmp_path, photo_kit):
    marks = [{"x": x, "y": y, "w": 8, "h": 8} for x in range(10, 190, 60) for y in (20, 80)]
    folder = photo_kit.label_list(tmp_path / "s", [{"image": f"{f}_1.png", "targets": marks} for f in "abcdefgh"])
    for path in folder.glob("*.png"):
        image = np.full((120, 200, 3), 90, np.uint8)
        for mark in marks:
            image[mark["y"] : mark["y"] + 8, mark["x"] : mark["x"] + 8] = 255
        cv2.imwrite(str(path), image)
    crops = photo_kit.crops(folder, margin=3.0)
    samples = [crops.sample(0, index) for index in range(crops.count)]
    nothing = [sample for sample in samples if not sample.is_target]
    assert len(nothing) == 16 and all((sample.image_bgr == 90).all() for sample in nothing)


def test_what_is_ignored_or_tiny_is_not_cut_out_nor_called_ground(tmp_path, photo_kit):
    targets = [
        {"x": 50, "y": 40, "w": 30, "h": 20, "ignored": True},
        {"x": 5, "y": 5, "w": 7, "h": 7},
        {"x": 100, "y": 40, "w": 30, "h": 20, "degrees": 30},
    ]
    folder = photo_kit.label_list(tmp_path / "s", [{"image": "a_1.png", "targets": targets, "complete": False}])
    crops = photo_kit.crops(folder)
    assert crops.count == 1
    np.testing.assert_allclose(crops.sample(0, 0).heading, (0.5, -(0.75**0.5)), atol=1e-6)
    rows = [{"image": "a_1.png", "targets": targets[:2], "complete": False}]
    with pytest.raises(InputError, match="no target of 8 px or more"):
        photo_kit.crops(photo_kit.label_list(tmp_path / "t", rows))


def test_training_crops_are_a_little_off_and_never_mirrored(boxes, photo_kit):
    for path in boxes.glob("*.png"):
        image = cv2.imread(str(path))
        image[42:50, 52:60] = (0, 250, 0)  # in the upper left of the target
        cv2.imwrite(str(path), image)
    crops, places = photo_kit.crops(boxes, split="train"), []
    for epoch in range(6):
        for index in range(crops.count):
            sample = crops.sample(epoch, index)
            np.testing.assert_array_equal(sample.image_bgr, crops.sample(epoch, index).image_bgr)
            if sample.is_target:
                green = sample.image_bgr[..., 1].astype(int) - sample.image_bgr[..., 2]
                places.append(np.argwhere(green > 100).mean(axis=0))
    rows, columns = np.transpose(places)
    assert rows.max() < 16 and columns.max() < 16
    assert np.ptp(rows) > 1 and np.ptp(columns) > 1


def test_pictures_that_are_crops_are_taken_whole(tmp_path, photo_kit):
    folder = tmp_path / "crops"
    folder.mkdir()
    cv2.imwrite(str(folder / "a_1.png"), photo_kit.picture(0, 90, 90))
    (folder / "labels.json").write_text(json.dumps([{"image": "a_1.png", **photo_kit.star}]))
    crops = photo_kit.crops(folder)
    assert crops.count == 1
    sample = crops.sample(0, 0)
    whole = cv2.resize(photo_kit.picture(0, 90, 90), (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(sample.image_bgr.astype(int) - whole).mean() < 6
    assert sample.source_px == pytest.approx(90 / 1.3, abs=1) and sample.is_target
    with pytest.raises(InputError, match="a segmenter learns from frames"):
        photo_kit.whole(folder)

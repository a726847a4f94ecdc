"""Frames of real photos: whole or in windows, with masks made of their labels, and what is unknown left out."""

import json

import cv2
import numpy as np
import pytest

from aerial_runtime.contract import Box
from aerial_runtime.errors import InputError


def test_whole_pictures_come_in_the_order_of_the_labels(boxes, photo_kit):
    frames = photo_kit.whole(boxes)
    assert frames.count == 4
    assert [frames.sample(0, index).name for index in range(4)] == ["a_1.png", "a_2.png", "b_1.png", "b_2.png"]
    sample = frames.sample(0, 1)
    np.testing.assert_array_equal(sample.image_bgr, photo_kit.picture(1))
    (target,) = sample.targets
    assert (target.box, target.degrees, target.truncated) == (Box(50, 40, 30, 20), 90, False)
    assert target.attributes == {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": None}


def test_of_a_box_the_middle_is_target_and_the_rest_is_unknown(boxes, photo_kit):
    sample = photo_kit.whole(boxes).sample(0, 0)
    sure, unknown = sample.mask > 127, sample.ignore > 0
    assert sure[50, 65] and not unknown[50, 65]
    assert unknown[41, 51] and not sure[41, 51]
    assert 0.08 < sure[40:60, 50:80].mean() < 0.2
    outside = np.ones_like(sure)
    outside[40:60, 50:80] = False
    assert not sure[outside].any() and not unknown[outside].any()
    batch = photo_kit.whole(boxes).batch(0, [0])
    assert batch.weight[0, 10, 13] == 0 and batch.weight[0, 0, 0] == 1 and batch.coverage[0].max() == 255


def test_polygons_are_filled_and_ignored_objects_left_out(tmp_path, photo_kit):
    triangle = [50, 60, 80, 60, 65, 40]
    path = photo_kit.coco_of(tmp_path / "c", [
        {"bbox": [50, 40, 30, 20], "segmentation": [triangle]},
        {"bbox": [100, 40, 30, 20], "segmentation": [[100, 40, 130, 40, 130, 60]], "ignore": 1},
        {"bbox": [0, 40, 20, 20], "attributes": {"truncated": True}},
    ])  # fmt: skip
    sample = photo_kit.whole(path).sample(0, 0)
    assert (sample.mask > 127).sum() == pytest.approx(300, abs=12)
    assert sample.mask[58, 65] == 255 and sample.mask[42, 52] == 0
    unknown = sample.ignore > 0
    assert unknown[40:60, 100:130].all() and unknown[40:60, :20].all() and unknown.sum() == 30 * 20 + 20 * 20
    assert [target.truncated for target in sample.targets] == [False, True, True]


def test_drawn_masks_go_before_boxes_and_polygons(tmp_path, photo_kit):
    path = photo_kit.coco_of(tmp_path / "c", [
        {"bbox": [50, 40, 30, 20], "segmentation": [photo_kit.polygon]},
        {"bbox": [0, 40, 20, 20], "attributes": {"truncated": True}},
    ])  # fmt: skip
    mask = np.zeros((120, 200), np.uint8)
    mask[45:55, 60:70] = 200
    (tmp_path / "c" / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "masks" / "a_1.png"), mask)
    whole = photo_kit.whole(path).sample(0, 0)
    np.testing.assert_array_equal(whole.mask, mask)
    assert whole.ignore is None
    frames = photo_kit.windows(path)
    for index in range(20):
        sample = frames.sample(0, index)
        red = (sample.image_bgr == (0, 0, 200)).all(axis=2)
        assert red[sample.mask > 0].all() and (sample.mask > 0).sum() <= 100


def test_masks_of_another_size_than_their_picture_are_refused(tmp_path, photo_kit):
    path = photo_kit.coco_of(tmp_path / "c", [{"bbox": [50, 40, 30, 20]}])
    (tmp_path / "c" / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "masks" / "a_1.png"), np.zeros((60, 100), np.uint8))
    with pytest.raises(InputError, match=r"a_1\.png is 100x60, its picture 200x120"):
        photo_kit.windows(path).sample(0, 0)


def test_where_labels_are_missing_only_their_surroundings_count(tmp_path, photo_kit):
    annotation = {"bbox": [50, 40, 30, 20], "segmentation": [photo_kit.polygon]}
    path = photo_kit.coco_of(tmp_path / "c", [annotation], complete=False)
    sample = photo_kit.whole(path).sample(0, 0)
    assert not sample.complete
    assert (sample.ignore[25:75, 35:95] == 0).all() and (sample.ignore == 0).sum() == 50 * 60


def test_windows_are_functions_of_seed_epoch_and_index(boxes, photo_kit):
    frames = photo_kit.windows(boxes)
    again = photo_kit.windows(boxes)
    other = photo_kit.windows(boxes, seed=1)
    batch = frames.batch(3, range(12))
    assert batch.images.shape == (12, 48, 64, 3) and batch.coverage.shape == (12, 12, 16)
    np.testing.assert_array_equal(batch.images[4:], again.batch(3, range(4, 12)).images)
    assert (batch.images != frames.batch(4, range(12)).images).any()
    assert (batch.images != other.batch(3, range(12)).images).any()
    names = [frames.sample(3, index).name for index in range(12)]
    assert all(sorted(names[k : k + 4]) == ["a_1.png", "a_2.png", "b_1.png", "b_2.png"] for k in (0, 4, 8))
    assert names[:4] != names[4:8] or names[4:8] != names[8:]


def test_windows_show_targets_where_their_labels_say(boxes, photo_kit):
    frames, seen = photo_kit.windows(boxes), 0
    for index in range(60):
        sample = frames.sample(0, index)
        red = (sample.image_bgr == (0, 0, 200)).all(axis=2)
        if not sample.targets:
            assert not red.any() and not sample.mask.any()
            continue
        box = sample.targets[0].box
        seen += 1
        assert red[box.y : box.y + box.height, box.x : box.x + box.width].all() and red.sum() == box.area_px
        assert sample.targets[0].truncated == (box.area_px < 0.9 * 600)
    assert seen > 36


def test_windows_of_small_photos_do_not_mirror_and_ignore_what_is_outside(tmp_path, photo_kit):
    folder = photo_kit.label_list(tmp_path / "s", [{"image": "a_1.png", "targets": []}], (40, 30))
    sample = photo_kit.windows(folder).sample(0, 0)
    assert sample.image_bgr.shape == (48, 64, 3)
    assert (sample.ignore == 0).sum() == 40 * 30
    rows, columns = np.nonzero(sample.ignore == 0)
    x, y = columns.min(), rows.min()
    inside = sample.image_bgr[y : y + 30, x : x + 40]
    np.testing.assert_array_equal(inside, photo_kit.picture(0, 40, 30))
    assert (sample.image_bgr[y : y + 30, :x] == inside[:, :1]).all()


def test_training_windows_of_photos_differ_in_light(boxes, photo_kit):
    train = photo_kit.windows(boxes, split="train")
    plain = photo_kit.windows(boxes, split="val")
    assert train.count == plain.count == 2
    assert {train.sample(0, k).name[0] for k in range(2)} != {plain.sample(0, k).name[0] for k in range(2)}
    reds = [(train.sample(e, 0).image_bgr == (0, 0, 200)).all(axis=2).any() for e in range(8)]
    assert not all(reds)
    assert any((plain.sample(e, 0).image_bgr == (0, 0, 200)).all(axis=2).any() for e in range(8))


def test_pictures_of_another_size_than_their_labels_are_refused(boxes, photo_kit):
    cv2.imwrite(str(boxes / "a_1.png"), photo_kit.picture(0, 120, 200))
    rows = json.loads((boxes / "labels.json").read_text())
    (boxes / "labels.json").write_text(json.dumps([row | {"width": 200, "height": 120} for row in rows]))
    with pytest.raises(InputError, match=r"a_1\.png is 120x200, its labels were made for 200x120"):
        photo_kit.whole(boxes).sample(0, 0)


@pytest.mark.parametrize(("box", "named"), [((300, 40, 30, 20), "x=300"), ((50, 40, 0, 20), "0x20")])
def test_boxes_that_cannot_be_are_refused_before_anything_is_read(tmp_path, box, named, photo_kit):
    target = dict(zip("xywh", box, strict=True))
    folder = photo_kit.label_list(tmp_path / "s", [{"image": "a_1.png", "targets": [target]}])
    with pytest.raises(InputError, match=named):
        photo_kit.whole(folder)

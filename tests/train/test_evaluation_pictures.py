"""Pictures of reports: what is drawn where."""

import base64

import cv2
import numpy as np

from aerial_runtime.contract import Box
from aerial_train.evaluation.gather import FrameOutcome
from aerial_train.evaluation.pictures import CROP_PX, FRAME_PX, TILE_PX, crop_picture, frame_pictures, target_tiles


def decoded(uri):
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)


def frame(width, height, stride=4):
    shape = -(-height // stride), -(-width // stride)
    probability = np.zeros(shape, np.uint8)
    probability[:5, :5] = 255
    weight = np.ones(shape, np.uint8)
    weight[-3:] = 0
    return FrameOutcome(0, "f", width, height, probability, probability, weight, (), True)


def test_crops_are_enlarged():
    picture = decoded(crop_picture(np.full((16, 16, 3), (10, 200, 30), np.uint8)))
    assert picture.shape == (CROP_PX, CROP_PX, 3) and abs(int(picture[50, 50, 1]) - 200) < 5


def test_frames_shrink_and_carry_boxes():
    image = np.full((601, 802, 3), 60, np.uint8)
    plain, labelled, seen = map(decoded, frame_pictures(image, frame(802, 601), [Box(200, 200, 80, 80)], [], 4))
    assert plain.shape == labelled.shape == seen.shape and max(plain.shape) == FRAME_PX
    changed = np.abs(labelled.astype(int) - plain).sum(axis=2) > 60
    ys, xs = np.nonzero(changed)
    scale = FRAME_PX / 802
    assert abs(xs.min() - 200 * scale) < 5 and abs(ys.max() - 280 * scale) < 5
    assert seen[2, 2].sum() > 500 > 40 > seen[60, 200].sum()  # the map: a bright corner on black ...
    assert 60 < seen[-1, 200].sum() < 400  # ... and grey where nobody knows


def test_tiles_at_the_edge_are_filled_with_black():
    image = np.full((100, 120, 3), 200, np.uint8)
    tile, heat = map(decoded, target_tiles(image, frame(120, 100), Box(0, 0, 20, 20), 4))
    assert tile.shape == heat.shape == (TILE_PX, TILE_PX, 3)
    assert tile[5, 5].sum() < 30 and tile[100, 100].sum() > 550
    assert heat[TILE_PX // 2, TILE_PX // 2].sum() > 500
    right_edge = round(40 / 60 * TILE_PX) + 2  # of the box, which ends at 40 of the 60 px that are shown
    assert heat[TILE_PX // 2, right_edge - 1 : right_edge + 2, 1].max() > 100

"""What is kept of a set: outputs beside truths, each sample once and in order."""

import numpy as np
import pytest

from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.contract import Box
from aerial_runtime.errors import InputError
from aerial_train.evaluation.gather import CROPS_AT_ONCE, EPOCH, gather_crops, gather_frames
from aerial_train.scenes.crops import CropSample
from aerial_train.scenes.frames import FrameSample, LabelledTarget


class Crops:
    """Crop i is of the level i % 200; every fourth is no target."""

    def __init__(self, space):
        self.label_space, self.count, self.asked = space, None, []

    def sample(self, epoch, index):
        self.asked.append((epoch, index))
        image = np.full((16, 16, 3), index % 200, np.uint8)
        real = index % 4 != 3
        return CropSample(image, real, {"kind": index % 3}, np.array([0, -1], np.float32), 10.0 + index, f"c{index}")


class Frames:
    count = 2

    def __init__(self, space):
        self.label_space = space

    def sample(self, epoch, index):
        size = (20, 33, 3) if index else (12, 12, 3)
        mask = np.zeros(size[:2], np.uint8)
        mask[:8, :8] = 255
        ignore = np.zeros_like(mask)
        ignore[0, 9] = 255
        target = LabelledTarget(Box(0, 0, 8, 8), {}, {}, None, False)
        return FrameSample(np.full(size, 50 + index, np.uint8), mask, (target,), f"f{index}", ignore, index == 0)


def test_crops(kit):
    count = CROPS_AT_ONCE + 5

    def answer(images):
        level = images[:, 0, 0, 0].astype(np.float32)
        one = np.stack((level, 255 - level, 0 * level), axis=1) / 255
        return {"kind": one, "target": level[:, None] / 255}

    data = Crops(kit.tiny)
    found = gather_crops(FakeBackend(kit.classifier_card(), answer), data, count)
    assert data.asked == [(EPOCH, index) for index in range(count)]
    np.testing.assert_allclose(found.target, (np.arange(count) % 200).astype(np.float32) / 255)
    assert found.probabilities["kind"].shape == (count, 3)
    assert found.names[-1] == f"c{count - 1}" and found.source_px[-1] == 10 + count - 1
    real = np.arange(count) % 4 != 3
    assert (found.is_target == real).all()
    assert (found.labels["kind"] == np.where(real, np.arange(count) % 3, -1)).all()
    assert (found.true_heading[~real] == 0).all() and (found.true_heading[real] == (0, -1)).all()
    assert found.heading.shape == (count, 2) and not found.heading.any()  # a label space without heading


def test_crops_are_seen_as_flights_see_them(kit):
    asked = []

    def answer(images):
        asked.append(len(images))
        return {"kind": np.full((len(images), 3), 1 / 3, np.float32), "target": np.ones((len(images), 1), np.float32)}

    gather_crops(FakeBackend(kit.classifier_card(views=3), answer), Crops(kit.tiny), 5)
    assert asked == [5, 10]  # the crops, then two turns of each


def test_an_engine_may_reuse_its_buffers(kit):
    buffer = np.zeros((64, 64), np.uint8)

    def answer(images):
        rows, columns = -(-images.shape[1] // 4), -(-images.shape[2] // 4)
        buffer[:] = images[0, 0, 0, 0]
        return {"probability": buffer[np.newaxis, :rows, :columns]}

    frames = list(gather_frames(FakeBackend(kit.segmenter_card(), answer), Frames(kit.tiny), 2))
    assert [int(frame.probability.max()) for frame in frames] == [50, 51]
    assert [frame.probability.shape for frame in frames] == [(3, 3), (5, 9)]
    first = frames[0]
    assert (first.name, first.width, first.height, first.complete) == ("f0", 12, 12, True)
    assert first.weight[0, 2] == 0 and first.weight.sum() <= 8 and frames[1].complete is False
    assert first.coverage[0, 0] == 255 and first.coverage[2, 2] == 0


def test_a_map_of_the_wrong_size(kit):
    backend = FakeBackend(kit.segmenter_card(), lambda images: {"probability": np.zeros((1, 2, 2), np.uint8)})
    with pytest.raises(InputError, match=r"map of \[2, 2\] from f0, which has \[3, 3\] cells"):
        list(gather_frames(backend, Frames(kit.tiny), 1))

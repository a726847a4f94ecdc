"""Stand-ins for the scene generator: what is to be learnt is plain to see, and drawn in microseconds.

And folders of labelled photos, in every format that is read.
"""

from __future__ import annotations

import json
import math
import resource
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from aerial_runtime.card import Head, Heading, LabelSpace, load_label_space
from aerial_train.data import open_crops, open_frames

ARROWS = LabelSpace(
    "arrows",
    (Head("kind", ("red", "blue")), Head("mark", ("dot", "bar", "arrow"))),
    Heading("direction", ("N", "E", "S", "W"), "mark", ("dot",), ("bar",)),
)
PADS = LabelSpace("pads", (Head("kind", ("red", "green", "blue")),))
ANY = {"space": load_label_space("suas"), "recipe": "flight", "backgrounds": None, "seed": 0}
STAR = {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": None, "orientation": "E"}


@dataclass(frozen=True)
class Frames:
    images: np.ndarray
    coverage: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Crops:
    crops: np.ndarray
    is_target: np.ndarray
    labels: dict[str, np.ndarray]
    heading: np.ndarray


class SquareFrames:
    """Dark noise with one bright square, aligned to cells of 4 pixels."""

    def __init__(self, label_space=ARROWS, seed=0, side=32, interrupt_at=None):
        self.label_space, self.seed, self.side, self.interrupt_at = label_space, seed, side, interrupt_at

    def batch(self, epoch, indices):
        if self.interrupt_at == (epoch, indices[0]):
            raise KeyboardInterrupt
        samples = [self._sample(np.random.default_rng((self.seed, epoch + 1, index))) for index in indices]
        images, coverage = (np.stack(parts) for parts in zip(*samples, strict=True))
        return Frames(images, coverage, np.ones_like(coverage))

    def _sample(self, rng):
        image = rng.integers(0, 100, (self.side, self.side, 3), dtype=np.uint8)
        coverage = np.zeros((self.side // 4, self.side // 4), np.uint8)
        x, y = rng.integers(0, self.side // 4 - 2, 2)
        image[4 * y : 4 * y + 12, 4 * x : 4 * x + 12] += np.uint8(130)
        coverage[y : y + 3, x : x + 3] = 255
        return image, coverage


class ColourCrops:
    """Coloured crops, bright on the side of the heading; grey ones are no targets."""

    def __init__(self, label_space=ARROWS, seed=0, size=16):
        self.label_space, self.seed, self.size = label_space, seed, size

    def batch(self, epoch, indices):
        samples = [self._sample(np.random.default_rng((self.seed, epoch + 1, index))) for index in indices]
        images, real, kinds, marks, headings = (np.stack(parts) for parts in zip(*samples, strict=True))
        labels = {"kind": kinds, "mark": marks} if self.label_space is ARROWS else {"kind": kinds}
        return Crops(images, real.astype(np.uint8), labels, headings.astype(np.float32))

    def _sample(self, rng):
        size = self.size
        image = rng.integers(0, 40, (size, size, 3), dtype=np.uint8)
        if rng.random() < 0.25:
            return image, 0, np.int64(-1), np.int64(-1), np.zeros(2)
        kinds = len(self.label_space.heads[0].classes)
        kind = rng.integers(kinds)
        turn = rng.uniform(0, 2 * math.pi)
        heading = np.array([math.sin(turn), -math.cos(turn)])
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        ramp = (x * heading[0] + y * heading[1]) / size * 60 + 120
        image[..., 2 - 2 * kind // (kinds - 1)] = ramp  # BGR: the first kind is red, the last blue
        return image, 1, np.int64(kind), np.int64(2), heading


class PhotoKit:
    """Makers of labelled photos, and what opens them."""

    star = STAR
    polygon = (50, 40, 80, 40, 80, 60, 50, 60)

    @staticmethod
    def picture(seed=0, width=200, height=120):
        """Noise, with a red rectangle at x=50..80, y=40..60."""
        image = np.random.default_rng(seed).integers(60, 120, (height, width, 3), np.uint8)
        image[40:60, 50:80] = (0, 0, 200)
        return image

    @staticmethod
    def label_list(folder, rows, size=(200, 120)):
        """Write a label list and its pictures; return the folder."""
        folder.mkdir(exist_ok=True)
        for k, row in enumerate(rows):
            cv2.imwrite(str(folder / row["image"]), PhotoKit.picture(k, *size))
        (folder / "labels.json").write_text(json.dumps(rows))
        return folder

    @staticmethod
    def coco_of(folder, annotations, categories=({"id": 7, "name": "target"},), **image):
        """Write one photo and its labels as COCO JSON; return the file."""
        folder.mkdir(exist_ok=True)
        (folder / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "images" / "a_1.png"), PhotoKit.picture())
        rows = [{"id": 3, "file_name": "a_1.png", "width": 200, "height": 120, **image}]
        annotations = [
            {"id": k, "image_id": 3, "category_id": 7, "iscrowd": 0, **row} for k, row in enumerate(annotations, 1)
        ]
        path = folder / "instances.json"
        path.write_text(json.dumps({"images": rows, "categories": list(categories), "annotations": annotations}))
        return path

    @staticmethod
    def yolo_of(folder, lines, names="[star, target]"):
        """Write a YOLO export of two photos, with labels for the first; return the folder."""
        for part in ("images/train", "labels/train"):
            (folder / part).mkdir(parents=True)
        (folder / "data.yaml").write_text(f"train: images/train\nnc: 2\nnames: {names}\n")
        for name in ("a_1", "b_1"):
            cv2.imwrite(str(folder / "images/train" / f"{name}.png"), PhotoKit.picture())
        (folder / "labels/train/a_1.txt").write_text(lines)
        return folder

    @staticmethod
    def whole(folder, split="all", **options):
        """Open whole pictures."""
        return open_frames(str(folder), split=split, **{**ANY, "size": None, "stride": 4, **options})

    @staticmethod
    def windows(folder, split="all", **options):
        """Open windows of 64x48."""
        return open_frames(str(folder), split=split, **{**ANY, "size": (64, 48), "stride": 4, **options})

    @staticmethod
    def crops(folder, split="all", **options):
        """Open crops of 32x32."""
        return open_crops(str(folder), split=split, **{**ANY, "crop_size": 32, "margin": 1.3, **options})


@pytest.fixture
def square_frames():
    return SquareFrames


@pytest.fixture
def colour_crops():
    return ColourCrops


@pytest.fixture
def arrows():
    return ARROWS


@pytest.fixture
def pads():
    return PADS


@pytest.fixture
def photo_kit():
    return PhotoKit


@pytest.fixture
def boxes(tmp_path):
    """Four photos of two flights, each with one labelled box."""
    target = {"x": 50, "y": 40, "w": 30, "h": 20, **STAR}
    return PhotoKit.label_list(
        tmp_path / "boxes", [{"image": f"{f}_{k}.png", "targets": [target]} for f in "ab" for k in (1, 2)]
    )


@pytest.fixture
def size_limit():
    """Return a context in which no file can grow beyond so many bytes: writing fails as on a full disk."""

    @contextmanager
    def limited(most):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited

"""Stand-ins for the scene generator: what is to be learnt is plain to see, and drawn in microseconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from aerial_runtime.card import Head, Heading, LabelSpace

ARROWS = LabelSpace(
    "arrows",
    (Head("kind", ("red", "blue")), Head("mark", ("dot", "bar", "arrow"))),
    Heading("direction", ("N", "E", "S", "W"), "mark", ("dot",), ("bar",)),
)
PADS = LabelSpace("pads", (Head("kind", ("red", "green", "blue")),))


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

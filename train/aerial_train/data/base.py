"""The interface of all data, and the order in which finite data comes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_train.scenes.crops import CropBatch, CropSample
from aerial_train.scenes.frames import FrameBatch, FrameSample

Split = Literal["train", "val", "all"]
Rng = np.random.Generator
Rows = npt.NDArray[np.int64]

HELD_OUT_SEED_OFFSET: Final = 1_000_003  # live scenes: the held-out set is drawn from the seed plus this
ORDER_SALT, SAMPLE_SALT, MIXTURE_SALT = 1, 2, 3  # the three uses of (seed, epoch, index) shall not go in step


class FrameData(Protocol):
    """Labelled frames: sample `index` of `epoch` is a pure function of (seed, epoch, index). Picklable."""

    @property
    def label_space(self) -> LabelSpace:
        """The class tables of the labels."""

    @property
    def count(self) -> int | None:
        """Frames there are; a higher index begins again, in another order. None: endless."""

    def sample(self, epoch: int, index: int) -> FrameSample:
        """Return one frame with its truth. Raises InputError for a file that cannot be read."""

    def batch(self, epoch: int, indices: Sequence[int]) -> FrameBatch:
        """Return frames of one size with what the segmenter learns. Raises UsageError where sizes differ."""

    def preload(self) -> None:
        """Read now what worker processes shall share once they are forked."""


class CropData(Protocol):
    """Labelled crops: sample `index` of `epoch` is a pure function of (seed, epoch, index). Picklable."""

    @property
    def label_space(self) -> LabelSpace:
        """The class tables of the labels."""

    @property
    def count(self) -> int | None:
        """Crops there are; a higher index begins again, in another order. None: endless."""

    def sample(self, epoch: int, index: int) -> CropSample:
        """Return one crop with its truth. Raises InputError for a file that cannot be read."""

    def batch(self, epoch: int, indices: Sequence[int]) -> CropBatch:
        """Return crops with what the classifier learns."""

    def preload(self) -> None:
        """Read now what worker processes shall share once they are forked."""


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, turn: int, count: int) -> Rows:
    return np.random.default_rng((seed, epoch + 1, turn, ORDER_SALT)).permutation(count)


def shuffled(seed: int, epoch: int, indices: Sequence[int], count: int) -> Rows:
    """Return which of `count` places the samples `indices` of an epoch are: int64 [len(indices)].

    Each `count` indices take every place once, in an order of their own.
    """
    places = [_order(seed, epoch, index // count, count)[index % count] for index in indices]
    return np.array(places, np.int64)


def sample_rng(seed: int, epoch: int, index: int) -> Rng:
    """Return the generator of one sample's own chances (its window, jitter, light)."""
    return np.random.default_rng((seed, epoch + 1, index, SAMPLE_SALT))

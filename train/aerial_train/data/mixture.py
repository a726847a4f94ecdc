"""Data of several sources by weight: which one gives sample i of epoch e is a function of (seed, e, i) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aerial_train.data.base import MIXTURE_SALT, CropData, FrameData, Rows
from aerial_train.scenes.crops import CropBatch, CropSample
from aerial_train.scenes.frames import FrameBatch, FrameSample


def chosen_parts(weights: Sequence[float], seed: int, epoch: int, indices: Sequence[int]) -> Rows:
    """Return which part gives each sample, int64 [len(indices)]."""
    edges = np.cumsum(np.array(weights) / sum(weights))
    throws = [np.random.default_rng((seed, epoch + 1, index, MIXTURE_SALT)).random() for index in indices]
    return np.asarray(np.minimum(np.searchsorted(edges, throws, side="right"), len(weights) - 1), np.int64)


class FrameMixture:
    """Frames of several sources; endless."""

    count: int | None = None

    def __init__(self, parts: Sequence[tuple[FrameData, float]], seed: int) -> None:
        self.parts = [part for part, _ in parts]
        self.weights, self.seed = [weight for _, weight in parts], seed
        self.label_space = self.parts[0].label_space

    def sample(self, epoch: int, index: int) -> FrameSample:
        """Return one frame of the part whose turn it is."""
        part = int(chosen_parts(self.weights, self.seed, epoch, [index])[0])
        return self.parts[part].sample(epoch, index)

    def batch(self, epoch: int, indices: Sequence[int]) -> FrameBatch:
        """Return frames with their training truth."""
        chosen = chosen_parts(self.weights, self.seed, epoch, indices)
        batches = [(rows, self.parts[k].batch(epoch, [indices[r] for r in rows])) for k, rows in _turns(chosen)]
        images, coverage, weight = (
            _interleaved([(rows, getattr(batch, name)) for rows, batch in batches])
            for name in ("images", "coverage", "weight")
        )
        return FrameBatch(images, coverage, weight)

    def preload(self) -> None:
        """Preload every part."""
        for part in self.parts:
            part.preload()


class CropMixture:
    """Crops of several sources; endless."""

    count: int | None = None

    def __init__(self, parts: Sequence[tuple[CropData, float]], seed: int) -> None:
        self.parts = [part for part, _ in parts]
        self.weights, self.seed = [weight for _, weight in parts], seed
        self.label_space = self.parts[0].label_space

    def sample(self, epoch: int, index: int) -> CropSample:
        """Return one crop of the part whose turn it is."""
        part = int(chosen_parts(self.weights, self.seed, epoch, [index])[0])
        return self.parts[part].sample(epoch, index)

    def batch(self, epoch: int, indices: Sequence[int]) -> CropBatch:
        """Return crops with their training truth."""
        chosen = chosen_parts(self.weights, self.seed, epoch, indices)
        batches = [(rows, self.parts[k].batch(epoch, [indices[r] for r in rows])) for k, rows in _turns(chosen)]
        crops, is_target, heading = (
            _interleaved([(rows, getattr(batch, name)) for rows, batch in batches])
            for name in ("crops", "is_target", "heading")
        )
        heads = [head.name for head in self.label_space.heads]
        labels = {name: _interleaved([(rows, batch.labels[name]) for rows, batch in batches]) for name in heads}
        return CropBatch(crops, is_target, labels, heading)

    def preload(self) -> None:
        """Preload every part."""
        for part in self.parts:
            part.preload()


def _turns(chosen: Rows) -> list[tuple[int, Rows]]:
    """Return (part, places in the batch) of the parts that have any."""
    return [(int(part), np.flatnonzero(chosen == part)) for part in np.unique(chosen)]


def _interleaved(pieces: Sequence[tuple[Rows, Any]]) -> Any:
    """Put the rows of several arrays where they belong in one."""
    first = pieces[0][1]
    whole = np.empty((sum(len(rows) for rows, _ in pieces), *first.shape[1:]), first.dtype)
    for rows, values in pieces:
        whole[rows] = values
    return whole

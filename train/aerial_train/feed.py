"""Scenes to training batches: whole batches made by worker processes, the same ones however many workers there are."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from aerial_runtime.card import LabelSpace

HELD_OUT_EPOCH = -1

Batch = dict[str, Any]  # field name -> Tensor, or head name -> Tensor


class Scenes(Protocol):
    """A source of labelled samples: sample i of epoch e is a function of (its seed, e, i) alone. Picklable."""

    label_space: LabelSpace

    def batch(self, epoch: int, indices: Sequence[int]) -> Any:
        """Return a dataclass of NumPy arrays (and of dicts of arrays), the first axis of each being the sample."""


class _LiveBatches(Dataset[Batch]):
    """Batch number `step` of an epoch, addressed by (epoch, step): workers need no state, so they can stay alive."""

    def __init__(self, scenes: Scenes, batch_size: int) -> None:
        self.scenes, self.batch_size = scenes, batch_size

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, step = key
        return as_tensors(self.scenes.batch(epoch, range(step * self.batch_size, (step + 1) * self.batch_size)))


class _EpochSteps(Sampler[tuple[int, int]]):
    """The keys of one epoch. Lightning calls `set_epoch`, after a resume too."""

    def __init__(self, steps: int) -> None:
        self.steps, self.epoch = steps, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, step) for step in range(self.steps))


class _Kept(Dataset[Batch]):
    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def live_loader(scenes: Scenes, batch_size: int, steps: int, workers: int) -> DataLoader[Batch]:
    """Return a loader of `steps` fresh batches an epoch, rendered by `workers` processes (0: in this one)."""
    return DataLoader(
        _LiveBatches(scenes, batch_size),
        batch_size=None,
        sampler=_EpochSteps(steps),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
    )


def held_out_loader(scenes: Scenes, batch_size: int, samples: int) -> DataLoader[Batch]:
    """Return a loader of one fixed set, rendered now and kept in memory; give it scenes of another seed."""
    starts = range(0, samples, batch_size)
    batches = [scenes.batch(HELD_OUT_EPOCH, range(start, min(start + batch_size, samples))) for start in starts]
    return DataLoader(_Kept([as_tensors(batch) for batch in batches]), batch_size=None)


def as_tensors(batch: Any) -> Batch:
    """Return the arrays of a dataclass as tensors, by field name; dicts of arrays stay dicts."""
    return {field.name: _tensor(getattr(batch, field.name)) for field in fields(batch)}


def _tensor(value: Any) -> Tensor | dict[str, Tensor]:
    if isinstance(value, dict):
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in value.items()}
    return torch.from_numpy(np.ascontiguousarray(value))


def _start_worker(_worker: int) -> None:
    """A worker leaves the threads to the training, and Ctrl-C to the parent, which stops it in order."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

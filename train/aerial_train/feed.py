"""Labelled data to training batches: whole batches made by worker processes, the same ones however many there are.

A batch is shared by all devices that train together: device r of n takes the r-th part of each. So a run on two
devices sees, step by step, what the same run sees on one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from aerial_runtime.errors import UsageError
from aerial_train.options import FitOptions

HELD_OUT_EPOCH = -1
WORKER_NICENESS = 10

Batch = dict[str, Any]  # field name -> Tensor, or head name -> Tensor


class TrainingData(Protocol):
    """Labelled samples: sample i of epoch e is a function of (its seed, e, i) alone. Picklable."""

    def batch(self, epoch: int, indices: Sequence[int]) -> Any:
        """Return a dataclass of NumPy arrays (and of dicts of arrays), the first axis of each being the sample."""


class _Batches(Dataset[Batch]):
    """Samples addressed by (epoch, first, count): workers need no state, so they can stay alive."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitem__(self, key: tuple[int, int, int]) -> Batch:
        epoch, first, count = key
        return as_tensors(self.data.batch(epoch, range(first, first + count)))


class EpochSteps(Sampler[tuple[int, int, int]]):
    """The keys of one epoch's batches, of this process's share of each. Lightning calls `set_epoch`, also resumed.

    done: steps of the first epoch that an interrupted run had already taken.
    """

    def __init__(self, steps: int, batch: int, rank: int = 0, world_size: int = 1, done: int = 0) -> None:
        self.steps, self.batch, self.rank, self.world_size = steps, batch, rank, world_size
        self.epoch, self.done, self._is_first = 0, done, True

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        share = self.batch // self.world_size
        first = self.done if self._is_first else 0
        self._is_first = False
        return ((self.epoch, step * self.batch + self.rank * share, share) for step in range(first, self.steps))


class _Kept(Dataset[Batch]):
    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


class Feed(pl.LightningDataModule):
    """What a run learns from and is scored on. The held-out set is made once and kept in memory.

    Raises UsageError where it has fewer pictures than there are processes to score it.
    """

    def __init__(self, train: TrainingData, held_out: TrainingData, options: FitOptions) -> None:
        super().__init__()
        self.train_data, self.held_out_data, self.options = train, held_out, options
        self.held_out = min(options.held_out, getattr(held_out, "count", None) or options.held_out)
        if self.held_out < options.world_size:
            raise UsageError(
                f"{self.held_out} held-out pictures cannot be shared by {options.world_size} processes; "
                "hold out more, or train on fewer --devices and --nodes"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this process's loader; a run that was interrupted within an epoch goes on after its last step."""
        options, trainer = self.options, self.trainer
        assert trainer is not None
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready % options.steps_per_epoch
        steps = EpochSteps(options.steps_per_epoch, options.batch, trainer.global_rank, trainer.world_size, done)
        return train_loader(self.train_data, steps, options.worker_processes)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return this process's share of the held-out set."""
        assert self.trainer is not None
        return held_out_loader(
            self.held_out_data,
            self.options.batch // self.trainer.world_size,
            self.held_out,
            self.trainer.global_rank,
            self.trainer.world_size,
        )


def train_loader(data: TrainingData, steps: EpochSteps, workers: int) -> DataLoader[Batch]:
    """Return a loader of batches that `workers` processes make (0: this one)."""
    return DataLoader(
        _Batches(data),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )


def held_out_loader(
    data: TrainingData, batch_size: int, samples: int, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Return a loader of one fixed set, made now and kept in memory; of several processes each has every n-th batch,
    and at least one: the scores are gathered from all."""
    batch_size = min(batch_size, samples // world_size)
    starts = range(0, samples, batch_size)[rank::world_size]
    batches = [data.batch(HELD_OUT_EPOCH, range(start, min(start + batch_size, samples))) for start in starts]
    return DataLoader(_Kept([as_tensors(batch) for batch in batches]), batch_size=None)


def as_tensors(batch: Any) -> Batch:
    """Return the arrays of a dataclass as tensors, by field name; dicts of arrays stay dicts."""
    return {field.name: _tensor(getattr(batch, field.name)) for field in fields(batch)}


def _tensor(value: Any) -> Tensor | dict[str, Tensor]:
    if isinstance(value, dict):
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in value.items()}
    return torch.from_numpy(np.ascontiguousarray(value))


def _start_worker(_worker: int) -> None:
    """A worker leaves the threads to the training, and Ctrl-C to the parent, which stops it in order.

    It takes what the training leaves of the cores: a training thread that must wait for its core makes all others wait
    at the end of each layer. With as many workers as cores live crops then come 1.4 times as fast.
    """
    os.nice(WORKER_NICENESS)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

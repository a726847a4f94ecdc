"""Single steps of a task without a trainer: what the checks before a training and the benchmarks take."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch

from aerial_train.device import precision_of, uses_gpu
from aerial_train.feed import Batch, as_tensors
from aerial_train.optimizers import make_optimizer
from aerial_train.options import FitOptions
from aerial_train.run_options import options_from
from aerial_train.task import Task
from aerial_train.tasks import OPTIONS


def bench_options(args: argparse.Namespace) -> FitOptions:
    """Return what the command line says, for one process: it takes the batch of all, and steps as they would together.

    Raises UsageError, InputError.
    """
    return replace(options_from(args, OPTIONS[args.task], is_new_run=False), devices=1, nodes=1)


class Bench:
    """A task on the device and in the precision of its training, with its optimiser and without its schedule."""

    def __init__(self, task: Task) -> None:
        self.device = torch.device("cuda" if uses_gpu(task.options) else "cpu")
        self.task = task.to(self.device)
        self.optimizer = make_optimizer(task.network, task.criterion, task.options)
        self.precision = precision_of(task.options)
        # As Lightning: gradients in float16 are too small for it, unless the loss is large.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "16-mixed")

    def take(self, batch: Any) -> Batch:
        """Return a batch of arrays as tensors on the device."""
        moved: Batch = self.task.transfer_batch_to_device(as_tensors(batch), self.device, 0)
        return moved

    def step(self, *batches: Batch) -> float:
        """Learn from a batch, or from as many as --accumulate makes a step of; return their mean loss before."""
        self.task.train()
        self.optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            with self._arithmetic():
                loss = self.task.loss(batch) / len(batches)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self._scaler.unscale_(self.optimizer)
        self.task.on_before_optimizer_step(self.optimizer)  # what --freeze names does not learn here either
        if self.task.options.clip:
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.task.options.clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return total

    def score(self, batch: Batch) -> float:
        """Return the score `best_by` of a batch."""
        self.task.eval()
        self.task.forget_scores()
        with torch.no_grad(), self._arithmetic():
            self.task.look(batch)
        return self.task.held_out_scores()[self.task.best_by]

    def _arithmetic(self) -> torch.autocast:
        """The precision of the training."""
        narrow = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        return torch.autocast(self.device.type, narrow, enabled=self.precision != "32-true")

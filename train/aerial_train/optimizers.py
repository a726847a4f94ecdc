"""Optimisers and learning-rate schedules, and which weights they move.

A network's stages run from its input to its outputs; with `--lr-decay` each stage nearer the input learns more slowly,
with `--freeze` some do not learn at all (`transfer.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau

from aerial_train.muon import Muon
from aerial_train.options import FitOptions

ONE_CYCLE_START: Final = 1 / 25  # of the highest rate, as in Smith and Topin 2018
ONE_CYCLE_END: Final = ONE_CYCLE_START * 1e-4
COSINE_END: Final = 1e-3


def make_optimizer(network: nn.Module, criterion: nn.Module, options: FitOptions) -> Optimizer:
    """Return the optimiser of network and loss; norms, biases and the loss's own weights do not decay."""
    lr = options.lr
    groups = parameter_groups(network, lr, options.lr_decay)
    learned = list(criterion.parameters())
    if learned:
        groups.append({"params": learned, "lr": lr, "weight_decay": 0.0})
    decay = options.weight_decay
    if options.optimizer == "sgd":
        nesterov = options.momentum > 0
        return torch.optim.SGD(groups, lr, momentum=options.momentum, weight_decay=decay, nesterov=nesterov)
    if options.optimizer == "muon":
        return Muon(groups, lr, weight_decay=decay)
    return torch.optim.AdamW(groups, lr, weight_decay=decay)


def parameter_groups(network: nn.Module, lr: float, lr_decay: float) -> list[dict[str, Any]]:
    """Return two groups a learning rate, with and without decay; the last stage learns at `lr`, those before slower."""
    stages = network_stages(network) if lr_decay != 1 else [("all", network)]
    groups: list[dict[str, Any]] = []
    for depth, (_, stage) in enumerate(reversed(stages)):
        rate = lr * lr_decay**depth
        groups.append({"params": [p for p in stage.parameters() if p.ndim > 1], "lr": rate})
        groups.append({"params": [p for p in stage.parameters() if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def network_stages(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return (name, part) from the input to the outputs: lists of levels or blocks are taken one by one."""
    stages: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        parts = list(child.named_children()) if name in ("encoder", "decoder", "trunk") else []
        stages += [(f"{name}.{number}", part) for number, part in parts] or [(name, child)]
    return [(name, stage) for name, stage in stages if any(True for _ in stage.parameters())]


def make_scheduler(optimizer: Optimizer, options: FitOptions, total_steps: int) -> LRScheduler:
    """Return the schedule that moves with every step: one factor for all groups.

    Before `plateau` the warm-up must be one that multiplies what is there (LinearLR) rather than one that sets the
    rate (LambdaLR), for what a plateau has lowered is to stay.
    """
    warm_up = round(options.warm_up * total_steps)
    if options.schedule == "plateau":
        return LinearLR(optimizer, 1 / (warm_up + 1), total_iters=warm_up)
    return LambdaLR(optimizer, lr_factor(options, total_steps, warm_up))


def make_plateau(optimizer: Optimizer, options: FitOptions) -> ReduceLROnPlateau | None:
    """Return what lowers the rates after epochs without a better score, where the schedule is `plateau`."""
    if options.schedule != "plateau":
        return None
    return ReduceLROnPlateau(optimizer, "max", factor=options.step_factor, patience=options.patience)


def lr_factor(options: FitOptions, total_steps: int, warm_up: int) -> Callable[[int], float]:
    """Return step -> factor of the learning rate, for every schedule but `plateau`.

    The warm-up is linear, that of one-cycle a half cosine; after it: `one-cycle` and `cosine` fall to almost nothing in
    a half cosine, `step` multiplies by `step_factor` at each of the shares `step_at` of all steps, `constant` stays.
    """
    one_cycle = options.schedule == "one-cycle"
    top = max(0, warm_up - 1) if one_cycle else warm_up  # step of the highest rate

    def half_cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    def factor(step: int) -> float:
        if step < warm_up:
            if one_cycle:
                return half_cosine(ONE_CYCLE_START, 1.0, step / max(1, warm_up - 1))
            return (step + 1) / (warm_up + 1)
        if options.schedule == "step":
            return float(options.step_factor ** sum(step >= at * total_steps for at in options.step_at))
        if options.schedule == "constant":
            return 1.0
        share = (step - top) / max(1, total_steps - 1 - top)
        return half_cosine(1.0, ONE_CYCLE_END if one_cycle else COSINE_END, share)

    return factor

"""`aerial-train average`: the mean of several networks' weights (model soups, Wortsman et al. 2022).

Runs that go on from the same weights with other seeds err differently. As long as they have not gone far from each
other, the network in their middle errs less than any of them, and costs what one does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import torch
from torch import Tensor

from aerial_runtime.card import ModelCard
from aerial_runtime.errors import ModelError, UsageError
from aerial_train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SAME: Final = ("kind", "label_space", "crop_margin", "crop_size", "stride")  # of the cards
MEASURED: Final = ("evaluated", "measured")  # of a card's training: what came after it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train average`."""
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.pt", help="checkpoints that have one origin")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt", help="checkpoint to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is there")


def run(args: argparse.Namespace) -> int:
    """Write the mean; return the exit code. Raises UsageError, ModelError, ResourceError."""
    if len(args.models) < 2:
        raise UsageError("one checkpoint is its own mean; give two or more")
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"the checkpoint {args.out} exists; give --overwrite, or another --out")
    mean = average([load_checkpoint(path) for path in args.models], [str(path) for path in args.models], args.out.stem)
    save_checkpoint(args.out, mean.network, mean.card)
    print(f"{args.out}: the mean of {len(args.models)} networks, with the temperatures and thresholds of the first; "
          "its scores are to be measured (aerial-train evaluate --write)")  # fmt: skip
    return 0


def average(parts: Sequence[Checkpoint], names: Sequence[str], name: str) -> Checkpoint:
    """Return the mean of the parts, its card named `name`. names: of the parts, for errors. Raises ModelError.

    The statistics of norms are averaged as the weights are, counters are the first's. The first's network is taken for
    the mean.
    """
    first = parts[0]
    for part, where in zip(parts[1:], names[1:], strict=True):
        _check_alike(first, part, names[0], where)
    states = [part.network.state_dict() for part in parts]
    first.network.load_state_dict({key: _mean([state[key] for state in states]) for key in states[0]})
    return Checkpoint(first.network, _card(first.card, [part.card for part in parts], name))


def _mean(tensors: list[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.double() for tensor in tensors]).mean(dim=0).to(tensors[0].dtype)


def _card(card: ModelCard, parts: list[ModelCard], name: str) -> ModelCard:
    """Return the first card without what was measured, which is no longer true, and with where the parts come from."""
    facts = [{key: value for key, value in part.training.items() if key not in MEASURED} for part in parts]
    origin = [
        {"name": part.name, "weights_sha256": part.weights_sha256, "training": fact}
        for part, fact in zip(parts, facts, strict=True)
    ]
    return msgspec.structs.replace(card, name=name, scores={}, training={**facts[0], "mean_of": origin})


def _check_alike(first: Checkpoint, other: Checkpoint, first_name: str, name: str) -> None:
    """Raise ModelError naming in what two checkpoints differ that would have to be the same."""
    wrong = [field for field in SAME if getattr(first.card, field) != getattr(other.card, field)]
    if not wrong and first.network.config != other.network.config:
        wrong = ["network"]
    if wrong:
        raise ModelError(
            f"{first_name} and {name} differ in their {wrong[0].replace('_', ' ')}; only networks of one make have a "
            "mean"
        )

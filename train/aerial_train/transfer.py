"""Starting from weights that another training has found: take them over, hold parts of them still."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from aerial_runtime.card import LabelSpace, ModelCard
from aerial_runtime.errors import ModelError, UsageError
from aerial_train.checkpoint import Checkpoint, load_checkpoint
from aerial_train.choices import nearest
from aerial_train.optimizers import network_stages
from aerial_train.options import FitOptions

SIDE_HEADS: Final = "side_heads."  # of a nest with deep supervision


def open_start(options: FitOptions, space: LabelSpace, kind: str) -> Checkpoint | None:
    """Return the checkpoint of --init, None without one.

    Raises ModelError for a file that is none or of the other kind, UsageError where label space or margin are not
    those of the run.
    """
    if not options.init:
        return None
    start = load_checkpoint(Path(options.init), "segmenter" if kind == "segmenter" else "classifier")
    theirs = start.card
    if theirs.label_space != space and not options.new_heads and kind == "classifier":
        raise UsageError(
            f"{options.init} was trained for the label space {theirs.label_space.name!r} and this run is for "
            f"{space.name!r}: {_difference(theirs, space)}; give its label space, or --new-heads to take the trunk"
        )
    if theirs.crop_margin != options.margin:
        raise UsageError(
            f"{options.init} was trained with --margin {theirs.crop_margin:g}, this run has {options.margin:g}"
        )
    return start


def take_weights(network: nn.Module, start: Checkpoint, options: FitOptions) -> None:
    """Copy the weights of a checkpoint; with --new-heads all but those of the last stage.

    Into a network with more filters they go so that it computes what the narrower one did, see `grown`. Raises
    ModelError where the networks differ otherwise.
    """
    weights = dict(start.network.state_dict())
    if options.new_heads:
        last = network_stages(network)[-1][0]
        fresh = network.state_dict()
        weights |= {name: value for name, value in fresh.items() if name.startswith(f"{last}.")}
    if not any(name.startswith(SIDE_HEADS) for name in network.state_dict()):  # they answer in training alone
        weights = {name: value for name, value in weights.items() if not name.startswith(SIDE_HEADS)}
    if getattr(start.network.config, "skip", "add") == "add":  # of joined features the old would not stand first
        weights |= grown(network, weights)
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(
            f"the network of {options.init} is not that of this run ({reason}); leave the network's options out, "
            "and it is taken from there"
        ) from error


def grown(network: nn.Module, narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network, those that are wider than in `narrow`, so that it computes what that one does.

    The old weights stand first. What is new is as it was, at random, but for its say in what was there before: none,
    until training gives it one (after Chen et al. 2016, Net2Net, whose new units are copies of old ones). Empty where
    one of the old weights does not fit into the new.
    """
    turned = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.ConvTranspose2d)}
    wide = {}
    for name, fresh in network.state_dict().items():
        old = narrow.get(name)
        if old is None or old.dim() != fresh.dim() or any(a > b for a, b in zip(old.shape, fresh.shape, strict=True)):
            return {}
        if old.shape != fresh.shape:
            value = fresh.clone()
            if old.dim() > 1:
                out, into = (1, 0) if name in turned else (0, 1)
                new = fresh.shape[into] - old.shape[into]
                value.narrow(out, 0, old.shape[out]).narrow(into, old.shape[into], new).zero_()
            value[tuple(slice(length) for length in old.shape)] = old
            wide[name] = value
    return wide


def frozen_parts(network: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """Return the parts of a network that --freeze names. Raises UsageError for one that there is not."""
    parts = dict(network.named_children()) | dict(network_stages(network))
    for name in names:
        if name not in parts:
            raise UsageError(f"--freeze cannot find {name!r} in this network; {nearest(name, parts)}")
    if names and set(network.parameters()) <= {p for name in names for p in parts[name].parameters()}:
        raise UsageError("--freeze names the whole network, so nothing would learn; leave a part out")
    return [parts[name] for name in names]


def keep_norms(part: nn.Module) -> None:
    """Let batch norms use the statistics they have, and not gather new ones."""
    for module in part.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def _difference(card: ModelCard, space: LabelSpace) -> str:
    theirs = {head.name: len(head.classes) for head in card.label_space.heads}
    ours = {head.name: len(head.classes) for head in space.heads}
    return f"its heads are {theirs}, the run's {ours}" if theirs != ours else "their classes differ"

"""What a segmenter minimises: sums of losses that a line of text names, such as `dice+0.5*focal(2)`.

Targets are soft: a cell's coverage is the share of it that is target. So the losses of regions are written with
minimum and differences instead of products: unlike those they are zero exactly where map and coverage agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerial_train.choices import nearest

EPSILON: Final = 1e-6
NUMBER: Final = r"\d+(?:\.\d+)?|\.\d+"
TERM: Final = re.compile(rf"(?:({NUMBER})\*)?([a-z]+)(?:\(((?:{NUMBER})(?:,(?:{NUMBER}))*)\))?")
# (logits, coverage, weight, per_image) -> [1], or [N] where every image is to be counted by itself
Loss = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


@dataclass(frozen=True)
class _Term:
    factor: float
    loss: Loss


class MaskLoss(nn.Module):
    """A weighted sum of losses."""

    def __init__(self, terms: Sequence[_Term], *, per_image: bool) -> None:
        super().__init__()
        self.terms, self.per_image = tuple(terms), per_image

    def forward(self, logits: Tensor | Sequence[Tensor], coverage: Tensor, weight: Tensor) -> Tensor:
        """Return the loss, a scalar.

        logits, coverage (0..1, the share of a cell that is target), weight (0..1, 0 = no loss there): [N, 1, h, w].
        Several logits, as a network with deep supervision gives in training: the mean over them.
        """
        columns = [logits] if isinstance(logits, Tensor) else logits
        return torch.stack([self._one(column.float(), coverage, weight) for column in columns]).mean()

    def _one(self, logits: Tensor, coverage: Tensor, weight: Tensor) -> Tensor:
        parts = [term.factor * term.loss(logits, coverage, weight, self.per_image).mean() for term in self.terms]
        return torch.stack(parts).sum()


def mask_loss(text: str, per_image: bool = False) -> MaskLoss:
    """Return the loss that a text names: terms joined by `+`, each with a factor in front if need be.

    jaccard, dice, tversky(FALSE,MISSED), bce, focal(GAMMA). per_image: the mean of every image's own loss, so that
    processes with a part of the batch each have, on average, the loss of the whole batch; else a loss of a region is
    of the whole batch, since most frames hold no target at all, and one without any asks for nothing but less.
    Raises ValueError for a text that cannot be read.
    """
    return MaskLoss([_term(part.replace(" ", ""), text) for part in text.split("+")], per_image=per_image)


def tversky_loss(
    logits: Tensor, coverage: Tensor, weight: Tensor, per_image: bool, *, false: float, missed: float
) -> Tensor:
    """Return 1 - both / (both + false * too much + missed * too little) over the weighted cells, 0..1: [1] or [N].

    Salehi et al. 2017, "Tversky loss function for image segmentation using 3D fully convolutional deep networks".
    false = missed = 1 is the Jaccard loss, 1/2 the Dice loss. both = sum min(p, t), too much = sum max(p - t, 0): for
    soft targets 1 - sum min / sum max of Wang et al. 2023, "Jaccard Metric Losses", and its Dice likewise of Wang et
    al. 2023, "Dice Semimetric Losses".
    """
    probability = torch.sigmoid(logits)
    both = _sums(torch.minimum(probability, coverage) * weight, per_image)
    too_much = _sums(F.relu(probability - coverage) * weight, per_image)
    too_little = _sums(F.relu(coverage - probability) * weight, per_image)
    return 1.0 - (both + EPSILON) / (both + false * too_much + missed * too_little + EPSILON)


def focal_loss(logits: Tensor, coverage: Tensor, weight: Tensor, per_image: bool, *, gamma: float) -> Tensor:
    """Return the weighted cells' mean of |p - t|^gamma times the cross-entropy: [1] or [N].

    For targets of 0 and 1 the focal loss of Lin et al. 2017, "Focal Loss for Dense Object Detection", without its
    class weight; for those between the quality focal loss of Li et al. 2020, "Generalized Focal Loss".
    gamma = 0 is the plain cross-entropy.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, coverage, weight, reduction="none")
    if gamma:
        # Under a power below 1 the slope at an error of 0 is infinite.
        entropy = entropy * (torch.sigmoid(logits) - coverage).abs().clamp(min=EPSILON) ** gamma
    return _sums(entropy, per_image) / _sums(weight, per_image).clamp(min=1.0)


def _sums(values: Tensor, per_image: bool) -> Tensor:
    """Return the sum of [N, 1, h, w] as [1], or every image's as [N]."""
    return values.flatten(1 if per_image else 0).sum(dim=-1).reshape(-1)


@dataclass(frozen=True)
class _Kind:
    form: str  # how a term of it looks
    numbers: int
    make: Callable[..., Loss]


KINDS: Final = {
    "jaccard": _Kind("jaccard", 0, lambda: partial(tversky_loss, false=1.0, missed=1.0)),
    "dice": _Kind("dice", 0, lambda: partial(tversky_loss, false=0.5, missed=0.5)),
    "tversky": _Kind("tversky(0.3,0.7)", 2, lambda false, missed: partial(tversky_loss, false=false, missed=missed)),
    "bce": _Kind("bce", 0, lambda: partial(focal_loss, gamma=0.0)),
    "focal": _Kind("focal(2)", 1, lambda gamma: partial(focal_loss, gamma=gamma)),
}


def _term(part: str, text: str) -> _Term:
    found = TERM.fullmatch(part)
    if found is None or found[2] not in KINDS:
        name = re.sub("[^a-z]", "", part.lower())
        raise ValueError(f"the loss {text!r} has the term {part!r}; {nearest(name, (k.form for k in KINDS.values()))}")
    factor, kind = float(found[1] or 1.0), KINDS[found[2]]
    numbers = [float(number) for number in found[3].split(",")] if found[3] else []
    if len(numbers) != kind.numbers or factor == 0 or (len(numbers) > 1 and not any(numbers)):
        raise ValueError(f"the loss {text!r} has the term {part!r}; it must look like {kind.form!r} or 0.5*{kind.form}")
    return _Term(factor, kind.make(*numbers))

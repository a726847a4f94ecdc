"""The classifier: one residual trunk, one linear head per question of the label space.

- Crops go in as the runtime cuts them, [N, S, S, 3] BGR 0..255.
- A 5x5 stem of stride 2 (64 px crops at the price of 32 px ones), four levels of two residual blocks.
- Beside the label space's heads: `target` (is this a target at all) and `heading` (the unit vector of letter-up).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerial_runtime.card import LabelSpace
from aerial_train.choices import check_choices
from aerial_train.layers import ACTIVATIONS, Activation, ConvNorm, conv_norm, planes_from_images

TARGET = "target"
HEADING = "heading"


@dataclass(frozen=True)
class ClassifierConfig:
    """What a classifier is made of. Raises ValueError for what cannot be built."""

    filters: tuple[int, ...] = (16, 48, 96, 160)  # per level, the finest first
    blocks: int = 2  # residual blocks per level
    stem_kernel: int = 5
    stem_stride: int = 2
    activation: Activation = "relu"
    dropout: float = 0.0  # share of the features dropped before the heads

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_choices(self)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and under 1, is {self.dropout}; the nearest is 0 or 0.5")
        if min((self.blocks, self.stem_stride, *self.filters, len(self.filters))) < 1:
            raise ValueError("blocks, stem stride and filters must be at least 1, with at least one level")
        if self.stem_kernel % 2 == 0 or self.stem_kernel < self.stem_stride:
            raise ValueError(f"the stem's kernel must be odd and at least its stride, is {self.stem_kernel}")


class Classifier(nn.Module):
    """Crops [N, S, S, 3], 0..255 -> {head name: logits [N, K]}, `target`: logit [N, 1], `heading`: [N, 2]."""

    def __init__(self, config: ClassifierConfig, label_space: LabelSpace) -> None:
        super().__init__()
        self.config = config
        self.widths = {head.name: len(head.classes) for head in label_space.heads} | {TARGET: 1}
        if label_space.heading is not None:
            self.widths[HEADING] = 2
        kernel, first = config.stem_kernel, config.filters[0]
        self.stem = conv_norm(3, first, kernel, config.stem_stride, activation=config.activation)
        self.trunk = nn.Sequential(*_blocks(config))
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.Linear(config.filters[-1], sum(self.widths.values()))  # all heads in one multiplication

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """Return the raw outputs of crops [N, S, S, 3] 0..255, see the class."""
        return self.from_planes(planes_from_images(crops))

    def from_planes(self, planes: Tensor) -> dict[str, Tensor]:
        """Return the same from what the stem reads: planes [N, 3, S, S] 0..1."""
        x = self.trunk(self.stem(planes))  # [N, F, s, s]
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)  # [N, F]
        parts = torch.split(self.heads(self.dropout(pooled)), list(self.widths.values()), dim=1)
        outputs = dict(zip(self.widths, parts, strict=True))
        if HEADING in outputs:
            outputs[HEADING] = into_unit_disc(outputs[HEADING])
        return outputs


def classifier_receptive_field(config: ClassifierConfig) -> int:
    """Return the side in pixels of the square that one cell of the last level sees; the heads read their average."""
    cells = 1
    for level in reversed(range(len(config.filters))):
        cells += 2 * (2 * config.blocks - 1)  # two 3x3 convolutions a block; the first of all may take steps of 2
        cells = 2 * (cells - 1) + 3 if level else cells + 2
    return config.stem_stride * (cells - 1) + config.stem_kernel


def into_unit_disc(vectors: Tensor) -> Tensor:
    """Return vectors [N, 2], those longer than 1 cut to length 1: the length is the heading's confidence."""
    squared = (vectors * vectors).sum(dim=1, keepdim=True)  # [N, 1]
    return vectors / squared.clamp(min=1.0).sqrt()


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016): [N, C, h, w] -> [N, D, h/stride, w/stride]."""

    def __init__(self, in_channels: int, width: int, stride: int, activation: Activation) -> None:
        super().__init__()
        last = ConvNorm(nn.Conv2d(width, width, 3, padding=1, bias=False), None)
        self.convs = nn.Sequential(conv_norm(in_channels, width, 3, stride, activation=activation), last)
        self.activation = ACTIVATIONS[activation]()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != width:
            self.shortcut = ConvNorm(nn.Conv2d(in_channels, width, 1, stride, bias=False), None)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, D, h/stride, w/stride]."""
        result: Tensor = self.activation(self.convs(x) + self.shortcut(x))
        return result


def _blocks(config: ClassifierConfig) -> list[_Block]:
    blocks, source = [], config.filters[0]
    for level, width in enumerate(config.filters):
        for index in range(config.blocks):
            blocks.append(_Block(source, width, 2 if level and not index else 1, config.activation))
            source = width
    return blocks

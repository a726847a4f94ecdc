"""The segmenter: a UNet whose first strided convolution does what other designs do at full resolution.

- Images go in as the camera gives them, [N, H, W, 3] BGR 0..255, of any size; logits come out at `output_stride`.
- A stem of strided convolutions (output stride 4 instead of 1 is 12-44x faster). A mask finer than the stem's cells
  comes of several logits a cell.
- One 1x1 convolution + nearest upsampling and skips by addition in the default; the textbook's transposed
  convolutions and concatenation are options.
- The features, not the image, are padded to what the levels need; the output is cropped to ceil(H/s) x ceil(W/s).
- Convolutions are padded each, or (`padding="valid"`) only the features are, once, by all that the convolutions lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerial_train.layers import ConvNorm, conv_norm, planes_from_images
from aerial_train.unet_config import PRESETS, UNetConfig, receptive_field

__all__ = ["PRESETS", "UNet", "UNetConfig", "UpLevel", "cut", "mask_head", "receptive_field"]

PRIOR: Final = 0.01  # share of target cells assumed before training: the first steps then need not unlearn a grey mask


class UNet(nn.Module):
    """Images [N, H, W, in_channels], 0..255 -> logits [N, out_channels, ceil(H/s), ceil(W/s)]."""

    architecture: ClassVar = "unet"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        if config.architecture != self.architecture:
            raise ValueError(f"{type(self).__name__} cannot be a {config.architecture}; make_unet chooses by itself")
        self.config = config
        filters = config.filters
        self.stem = _stem(config)
        self.dropout = nn.Dropout2d(config.dropout)
        self.encoder = nn.ModuleList(
            _level(source, width, config.encoder_convs(level), config, strided=level > 0 and config.down == "stride")
            for level, (source, width) in enumerate(zip((filters[0], *filters), filters, strict=False))
        )
        self.decoder = nn.ModuleList(UpLevel(config, level, column) for level, column in self.nodes())
        self.head = mask_head(config)

    def nodes(self) -> list[tuple[int, int]]:
        """Return (level, column) of the decoder's parts in the order in which they are computed."""
        config = self.config
        return [(config.output_level + config.columns - column, column) for column in range(1, config.columns + 1)]

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Return logits [N, out_channels, ceil(H/s), ceil(W/s)] of images [N, H, W, in_channels] 0..255."""
        return self.from_planes(planes_from_images(images))

    def from_planes(self, planes: Tensor) -> Tensor:
        """Return the same logits from what the stem's first convolution reads: planes [N, in_channels, H, W] 0..1."""
        pyramid, size = self.way_down(planes)
        x = pyramid[-1]
        for up, (level, _) in zip(self.decoder, self.nodes(), strict=True):
            x = up(x, [pyramid[level]])  # [N, F_l, h' / 2^l, w' / 2^l]
        return self.mask(self.head, x, size)

    def mask(self, head: nn.Module, x: Tensor, size: tuple[int, int], start: int = 0) -> Tensor:
        """Return a head's logits [N, out_channels, height, width] of the output level's features, from a cell on."""
        return cut(head(x), size, start * self.config.subpixels)

    def way_down(self, planes: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Return the encoder's features of each level, [N, F_l, h' / 2^l, w' / 2^l], and the output's size in cells."""
        config, stride = self.config, self.config.output_stride
        _, channels, rows, columns = planes.shape
        columns = columns * channels // config.in_channels  # an exported graph reads rows of bytes, [N, 1, H, 3W]
        output_size = (rows + stride - 1) // stride, (columns + stride - 1) // stride
        x = self.stem(planes)  # [N, F0, h, w] with h = ceil(H / stem stride)
        height, width = x.shape[-2:]
        coarsest = 1 << (len(config.filters) - 1)
        margin, surplus = config.margin, config.surplus
        # Written without negative numbers: ONNX rounds them the other way than Python.
        beside, below = ((coarsest + surplus - size % coarsest) % coarsest for size in (width, height))
        x = F.pad(x, (margin, margin + beside, margin, margin + below))  # [N, F0, h', w']
        pyramid: list[Tensor] = []
        for level, convs in enumerate(self.encoder):
            x = convs(self.dropout(self._halved(x)) if level else x)
            pyramid.append(x)
        return pyramid, output_size

    def _halved(self, x: Tensor) -> Tensor:
        """Return [N, C, h / 2, w / 2], or x where the next convolution takes steps of 2."""
        if self.config.down == "stride":
            return x
        return F.max_pool2d(x, 2) if self.config.down == "max" else F.avg_pool2d(x, 2)


def mask_head(config: UNetConfig) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return the convolution that makes logits of the output level's features; at first it sees hardly any target."""
    width, fine = config.filters[config.output_level], config.subpixels
    # The transposed convolution is a 1x1 convolution to fine x fine logits a cell, laid out as a map.
    head = (nn.ConvTranspose2d if fine > 1 else nn.Conv2d)(width, config.out_channels, fine, fine)
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
    return head


def cut(x: Tensor, size: tuple[int, int], start: int = 0) -> Tensor:
    """Return x [N, C, h, w] from cell (start, start) on, of the size (height, width)."""
    return x[..., start : start + size[0], start : start + size[1]]


class _PatchStem(nn.Sequential):
    """One convolution of kernel = stride; the image's end is padded with black to a whole number of patches."""

    def __init__(self, config: UNetConfig) -> None:
        stride = config.stem_stride
        conv = nn.Conv2d(config.in_channels, config.filters[0], stride, stride, bias=False)
        # Always stride - 1, whatever the size: the convolution's own rounding down then makes it ceil(size / stride).
        super().__init__(nn.ZeroPad2d((0, stride - 1, 0, stride - 1)), ConvNorm(conv, config.activation))


def _stem(config: UNetConfig) -> nn.Module:
    if config.stem == "none":
        return conv_norm(config.in_channels, config.filters[0], config.kernel, activation=config.activation)
    if config.stem.startswith("patch"):
        return _PatchStem(config)
    steps = config.stem_stride.bit_length() - 1
    widths = [config.in_channels] + [max(1, config.filters[0] >> (steps - 1 - step)) for step in range(steps)]
    return nn.Sequential(*(conv_norm(a, b, stride=2, activation=config.activation) for a, b in pairwise(widths)))


def _level(in_channels: int, width: int, convs: int, config: UNetConfig, *, strided: bool = False) -> nn.Sequential:
    """Return convolutions that take single steps, after one that takes steps of 2 where `strided`."""
    return nn.Sequential(
        *(
            conv_norm(
                width if index else in_channels,
                width,
                config.kernel,
                2 if strided and not index else 1,
                padded=config.padding == "zero",
                activation=config.activation,
            )
            for index in range(convs + strided)
        )
    )


class UpLevel(nn.Module):
    """Node (level, column): features from below [N, C, h, w] and skips [N, D, ...] -> [N, D, 2h - lost, 2w - lost]."""

    def __init__(self, config: UNetConfig, level: int, column: int) -> None:
        super().__init__()
        coarse, width = config.filters[level + 1], config.filters[level]
        activation = config.activation if config.up_activation else None
        if config.up == "transpose":
            self.up: nn.Module = ConvNorm(nn.ConvTranspose2d(coarse, width, 2, 2, bias=False), activation)
        else:
            narrow = ConvNorm(nn.Conv2d(coarse, width, 1, bias=False), activation)
            self.up = nn.Sequential(narrow, nn.Upsample(scale_factor=2, mode="nearest"))
        self.concat = config.skip == "concat"
        skips = column if config.architecture == "unetpp" else 1  # a UNet's only skip is the encoder's
        self.crops = [config.crop(level, column) - config.lost(level, before) for before in range(skips)]
        self.convs = _level((skips + 1) * width if self.concat else width, width, config.convs, config)

    def forward(self, coarse: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the merged features; skips are cropped around the middle to the size of what comes up."""
        x = self.up(coarse)  # [N, D, 2h, 2w]
        size = x.shape[-2:]
        fitting = [cut(s, size, crop) if crop else s for s, crop in zip(skips, self.crops, strict=True)]
        merged = torch.cat((*fitting, x), dim=1) if self.concat else sum(fitting, x)
        result: Tensor = self.convs(merged)
        return result

"""The segmenter: a UNet whose first strided convolution does what other designs do at full resolution.

- Images go in as the camera gives them, [N, H, W, 3] BGR 0..255, of any size; logits come out at `output_stride`.
- A stem of strided convolutions (output stride 4 instead of 1 is 12-44x faster).
- One 1x1 convolution + nearest upsampling and skips by addition in the default; the textbook's transposed
  convolutions and concatenation are options.
- The features, not the image, are padded to what the levels need; the output is cropped to ceil(H/s) x ceil(W/s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerial_train.layers import ConvNorm, conv3x3, planes_from_images

STEM_STRIDES: Final = {"none": 1, "patch2": 2, "patch4": 4, "patch8": 8, "conv2": 2, "conv4": 4, "conv8": 8}
PRIOR = 0.01  # share of target cells assumed before training: the first steps then need not unlearn a grey mask


@dataclass(frozen=True)
class UNetConfig:
    """What a UNet is made of. Raises ValueError for what cannot be built."""

    in_channels: int = 3
    out_channels: int = 1
    filters: tuple[int, ...] = (16, 32, 64, 128)  # per level, the finest first; the length is the depth
    convs: int = 1  # 3x3 convolutions per level
    skip: Literal["concat", "add"] = "add"
    up: Literal["transpose", "nearest"] = "nearest"  # nearest: 1x1 convolution, then nearest upsampling
    stem: Literal["none", "patch2", "patch4", "patch8", "conv2", "conv4", "conv8"] = "conv4"
    # patchS: one S x S convolution of stride S; convS: log2(S) stacked 3x3 convolutions of stride 2
    output_stride: int = 0  # pixels per output cell; 0: the stem's

    def __post_init__(self) -> None:
        """Check the numbers; a stride of 0 becomes the stem's."""
        if self.stem not in STEM_STRIDES:
            raise ValueError(f"stem {self.stem!r} is none of {', '.join(STEM_STRIDES)}")
        if self.skip not in ("concat", "add") or self.up not in ("transpose", "nearest"):
            raise ValueError(f"skip is concat or add, up is transpose or nearest; got {self.skip!r} and {self.up!r}")
        if min((self.in_channels, self.out_channels, self.convs, *self.filters, len(self.filters))) < 1:
            raise ValueError("channels, convolutions per level and filters must be at least 1, with at least one level")
        if self.output_stride == 0:
            object.__setattr__(self, "output_stride", self.stem_stride)
        strides = [self.stem_stride << level for level in range(len(self.filters))]
        if self.output_stride not in strides:
            raise ValueError(f"output stride {self.output_stride} is none of this network's levels, {strides}")

    @property
    def stem_stride(self) -> int:
        """Pixels per cell after the stem."""
        return STEM_STRIDES[self.stem]

    @property
    def output_level(self) -> int:
        """Level at which the decoder stops; 0 is the finest."""
        return (self.output_stride // self.stem_stride).bit_length() - 1

    def encoder_convs(self, level: int) -> int:
        """Return the convolutions of an encoder level, beside those of the stem.

        A stem of stacked convolutions counts as the first of two or more; without one the first convolution itself
        stands where the stem would.
        """
        if level or self.stem.startswith("patch"):
            return self.convs
        return self.convs - 1 if self.stem == "none" else max(1, self.convs - 1)


PRESETS: Final[dict[str, UNetConfig]] = {
    "default": UNetConfig(),
    "quality": UNetConfig(convs=2),
    "fast": UNetConfig(filters=(8, 16, 32, 64), stem="patch4"),
    "textbook": UNetConfig(filters=(16, 32, 64, 128, 256), convs=2, skip="concat", up="transpose", stem="none"),
}


class UNet(nn.Module):
    """Images [N, H, W, in_channels], 0..255 -> logits [N, out_channels, ceil(H/s), ceil(W/s)]."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        filters = config.filters
        self.stem = _stem(config)
        self.encoder = nn.ModuleList(
            _level(source, width, config.encoder_convs(level))
            for level, (source, width) in enumerate(zip((filters[0], *filters), filters, strict=False))
        )
        self.decoder = nn.ModuleList(
            _UpLevel(filters[level + 1], filters[level], config)
            for level in reversed(range(config.output_level, len(filters) - 1))
        )
        self.head = nn.Conv2d(filters[config.output_level], config.out_channels, 1)
        nn.init.constant_(self.head.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, out_channels, ceil(H/s), ceil(W/s)] of images [N, H, W, in_channels] 0..255."""
        return self.from_planes(planes_from_images(images))

    def from_planes(self, planes: Tensor) -> Tensor:
        """Return the same logits from what the stem's first convolution reads: planes [N, in_channels, H, W] 0..1."""
        x = self.stem(planes)  # [N, F0, h, w] with h = ceil(H / stem stride)
        height, width = x.shape[-2:]
        coarsest = 1 << (len(self.config.filters) - 1)
        # Written without negative numbers: ONNX rounds them the other way than Python.
        beside, below = ((coarsest - size % coarsest) % coarsest for size in (width, height))
        x = F.pad(x, (0, beside, 0, below))  # [N, F0, h', w']
        skips: list[Tensor] = []
        for level, convs in enumerate(self.encoder):
            x = convs(F.max_pool2d(x, 2) if level else x)  # [N, F_l, h' / 2^l, w' / 2^l]
            skips.append(x)
        for up, skip in zip(self.decoder, reversed(skips[:-1]), strict=False):
            x = up(x, skip)  # [N, F_l, h' / 2^l, w' / 2^l]
        cells = 1 << self.config.output_level
        logits: Tensor = self.head(x)
        rows, columns = (height + cells - 1) // cells, (width + cells - 1) // cells
        return logits[..., :rows, :columns]  # [N, out, ceil(H/s), ceil(W/s)]


class _PatchStem(nn.Sequential):
    """One convolution of kernel = stride; the image's end is padded with black to a whole number of patches."""

    def __init__(self, config: UNetConfig) -> None:
        stride = config.stem_stride
        conv = nn.Conv2d(config.in_channels, config.filters[0], stride, stride, bias=False)
        # Always stride - 1, whatever the size: the convolution's own rounding down then makes it ceil(size / stride).
        super().__init__(nn.ZeroPad2d((0, stride - 1, 0, stride - 1)), ConvNorm(conv))


def _stem(config: UNetConfig) -> nn.Module:
    if config.stem == "none":
        return conv3x3(config.in_channels, config.filters[0])
    if config.stem.startswith("patch"):
        return _PatchStem(config)
    steps = config.stem_stride.bit_length() - 1
    widths = [config.in_channels] + [max(1, config.filters[0] >> (steps - 1 - step)) for step in range(steps)]
    return nn.Sequential(*(conv3x3(a, b, stride=2) for a, b in pairwise(widths)))


def _level(in_channels: int, width: int, convs: int) -> nn.Sequential:
    return nn.Sequential(*(conv3x3(width if index else in_channels, width) for index in range(convs)))


class _UpLevel(nn.Module):
    """Coarse features [N, C, h, w] and skip [N, D, 2h, 2w] -> [N, D, 2h, 2w]."""

    def __init__(self, coarse: int, width: int, config: UNetConfig) -> None:
        super().__init__()
        if config.up == "transpose":
            self.up: nn.Module = ConvNorm(nn.ConvTranspose2d(coarse, width, 2, 2, bias=False), relu=False)
        else:
            narrow = ConvNorm(nn.Conv2d(coarse, width, 1, bias=False), relu=False)
            self.up = nn.Sequential(narrow, nn.Upsample(scale_factor=2, mode="nearest"))
        self.concat = config.skip == "concat"
        self.convs = _level(2 * width if self.concat else width, width, config.convs)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return [N, D, 2h, 2w]."""
        x = self.up(coarse)  # [N, D, 2h, 2w]
        merged = torch.cat((skip, x), dim=1) if self.concat else skip + x
        result: Tensor = self.convs(merged)
        return result


def receptive_field(config: UNetConfig) -> int:
    """Return the side in pixels of the square that one output cell sees.

    Counted backwards from one cell that lies well on the coarser grids; a cell that straddles them sees a few
    pixels more. Each 3x3 convolution adds 2 cells, upsampling halves (rounding up), pooling doubles.
    """
    cells = 1
    for _ in range(config.output_level, len(config.filters) - 1):
        cells = math.ceil((cells + 2 * config.convs) / 2)
    for level in reversed(range(len(config.filters))):
        cells += 2 * config.encoder_convs(level)
        cells *= 2 if level else 1
    if config.stem.startswith("patch"):
        return cells * config.stem_stride
    if config.stem == "none":
        return cells + 2
    for _ in range(config.stem_stride.bit_length() - 1):
        cells = 2 * (cells - 1) + 3
    return cells


def unet_config(preset: str, changes: dict[str, Any]) -> UNetConfig:
    """Return a preset with fields replaced. Raises ValueError for an unknown preset or impossible numbers."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **changes)

"""UNet++: a UNet whose skips are themselves decoded, so that every depth of network answers within one.

Zhou et al. 2018, "UNet++: A Nested U-Net Architecture for Medical Image Segmentation". Node (level, column) merges all
columns before it of its level with node (level + 1, column - 1) from below; column 0 is the encoder, and column c of
the output's level is the answer of a UNet that is c levels deep. Stem, strides, padding and cropping are the UNet's.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from aerial_train.layers import planes_from_images
from aerial_train.unet import UNet, UNetConfig, mask_head


class UNetPP(UNet):
    """Images [N, H, W, in_channels], 0..255 -> logits [N, out_channels, ceil(H/s), ceil(W/s)].

    With deep supervision, in training, a list of such logits, of the shallowest column first. In flight the last
    column answers alone, not the mean of all: the same weights then serve with and without supervision, the graph
    holds no head that only training needs, and the shallow columns, which see less, do not blur the deepest.
    """

    architecture: ClassVar = "unetpp"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        supervised = config.columns - 1 if config.deep_supervision else 0
        self.side_heads = nn.ModuleList(mask_head(config) for _ in range(supervised))

    def nodes(self) -> list[tuple[int, int]]:
        """Return (level, column) of the decoder's parts in the order in which they are computed."""
        config = self.config
        levels = range(config.output_level, config.output_level + config.columns)
        return [
            (level, column)
            for column in range(1, config.columns + 1)
            for level in levels[: config.columns + 1 - column]
        ]

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Return logits of images [N, H, W, in_channels] 0..255, in supervised training those of every column."""
        planes = planes_from_images(images)
        if not (self.training and self.config.deep_supervision):
            return self.from_planes(planes)
        config = self.config
        columns, size = self.output_columns(planes)
        deepest = config.lost(config.output_level, config.columns)
        heads = [*self.side_heads, self.head]
        starts = [deepest - config.lost(config.output_level, column) for column in range(1, config.columns + 1)]
        return [self.mask(head, x, size, start) for head, x, start in zip(heads, columns, starts, strict=True)]

    def from_planes(self, planes: Tensor) -> Tensor:
        """Return the last column's logits from what the stem reads: planes [N, in_channels, H, W] 0..1."""
        columns, size = self.output_columns(planes)
        return self.mask(self.head, columns[-1], size)

    def output_columns(self, planes: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Return the features of the output level's columns from the first on, and the output's size in cells."""
        pyramid, size = self.way_down(planes)
        nest = [[features] for features in pyramid]  # by level: all columns so far
        for up, (level, column) in zip(self.decoder, self.nodes(), strict=True):
            nest[level].append(up(nest[level + 1][column - 1], nest[level]))
        return nest[self.config.output_level][1:], size


def make_unet(config: UNetConfig) -> UNet:
    """Return the untrained network that a configuration describes."""
    return UNetPP(config) if config.architecture == "unetpp" else UNet(config)

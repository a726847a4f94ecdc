"""What a UNet is made of, and the arithmetic that follows from it: sizes, margins and the receptive field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from aerial_train.choices import check_choices
from aerial_train.layers import Activation

STEM_STRIDES: Final = {"none": 1, "patch2": 2, "patch4": 4, "patch8": 8, "conv2": 2, "conv4": 4, "conv8": 8}


@dataclass(frozen=True)
class UNetConfig:
    """What a UNet is made of. Raises ValueError for what cannot be built."""

    in_channels: int = 3
    out_channels: int = 1
    filters: tuple[int, ...] = (16, 32, 64, 128)  # per level, the finest first; the length is the depth
    convs: int = 1  # convolutions per level
    skip: Literal["concat", "add"] = "add"
    up: Literal["transpose", "nearest"] = "nearest"  # nearest: 1x1 convolution, then nearest upsampling
    stem: Literal["none", "patch2", "patch4", "patch8", "conv2", "conv4", "conv8"] = "conv4"
    # patchS: one S x S convolution of stride S; convS: log2(S) stacked 3x3 convolutions of stride 2
    output_stride: int = 0  # pixels per output cell; 0: the stem's; under the stem's: each cell answers for several
    padding: Literal["zero", "valid"] = "zero"  # valid: true convolutions, skips are cropped to what these leave
    down: Literal["max", "average", "stride"] = "max"  # stride: a level's first convolution takes steps of 2
    kernel: int = 3  # of the levels' convolutions, and of the first one where there is no stem
    activation: Activation = "relu"
    up_activation: bool = False  # also behind the convolution that goes up
    dropout: float = 0.0  # share of whole channels dropped before each coarser level (Tompson et al. 2015)
    architecture: Literal["unet", "unetpp"] = "unet"
    deep_supervision: bool = False  # unetpp: in training every column of the nest answers

    def __post_init__(self) -> None:
        """Check the numbers; a stride of 0 becomes the stem's."""
        check_choices(self)
        if min((self.in_channels, self.out_channels, self.convs, *self.filters, len(self.filters))) < 1:
            raise ValueError("channels, convolutions per level and filters must be at least 1, with at least one level")
        if self.kernel < 3 or self.kernel % 2 == 0:
            near = max(3, self.kernel | 1)
            raise ValueError(f"kernel must be odd and at least 3, is {self.kernel}; the nearest is {near}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and under 1, is {self.dropout}; the nearest is 0 or 0.5")
        if self.output_stride == 0:
            object.__setattr__(self, "output_stride", self.stem_stride)
        coarsest = self.stem_stride << (len(self.filters) - 1)
        strides = [1 << power for power in range(coarsest.bit_length())]
        if self.output_stride not in strides:
            near = min(strides, key=lambda stride: abs(stride - self.output_stride))
            raise ValueError(
                f"output stride {self.output_stride} is none that this network can have, {strides}; the nearest is"
                f" {near}"
            )
        if self.architecture == "unetpp" and self.columns == 0:
            raise ValueError("a unetpp needs a level coarser than its output's; the nearest architecture is 'unet'")
        if self.deep_supervision and self.architecture != "unetpp":
            raise ValueError("only a nest has columns to supervise; the nearest architecture is 'unetpp'")

    @property
    def stem_stride(self) -> int:
        """Pixels per cell after the stem."""
        return STEM_STRIDES[self.stem]

    @property
    def output_level(self) -> int:
        """Level at which the decoder stops; 0 is the finest."""
        return max(1, self.output_stride // self.stem_stride).bit_length() - 1

    @property
    def subpixels(self) -> int:
        """Output cells along each side of a cell of the output's level."""
        return max(1, self.stem_stride // self.output_stride)

    @property
    def columns(self) -> int:
        """Steps from the coarsest level up to the output's: the depth of the decoder."""
        return len(self.filters) - 1 - self.output_level

    @property
    def lost_by_conv(self) -> int:
        """Cells that a convolution takes off each side."""
        return self.kernel // 2 if self.padding == "valid" else 0

    @property
    def lost_on_way_down(self) -> int:
        """Cells that the step to the next coarser level takes off each side, before it halves."""
        return self.lost_by_conv if self.down == "stride" else 0

    def encoder_convs(self, level: int) -> int:
        """Return the convolutions of an encoder level that take single steps, beside those of the stem.

        A stem of stacked convolutions counts as the first of two or more; without one the first convolution itself
        stands where the stem would.
        """
        if level:
            return self.convs - 1 if self.down == "stride" else self.convs
        if self.stem.startswith("patch"):
            return self.convs
        return self.convs - 1 if self.stem == "none" else max(1, self.convs - 1)

    def crop(self, level: int, column: int) -> int:
        """Return the cells to cut off each side of a level's encoder features to fit what comes up from below.

        Node (level, column) of a decoder merges the columns before it with node (level + 1, column - 1) from below;
        column 0 is the encoder, a UNet has on each level only the last column that there can be.
        """
        below = self.encoder_convs(level + 1) * self.lost_by_conv + self.lost(level + 1, column - 1)
        return self.lost_on_way_down + 2 * below

    def lost(self, level: int, column: int) -> int:
        """Return the cells by which node (level, column) is shorter, each side, than the level's encoder features."""
        return self.crop(level, column) + self.convs * self.lost_by_conv if column else 0

    @property
    def margin(self) -> int:
        """Cells of level 0 to pad on each side for all that the convolutions take off."""
        level = self.output_level
        cells = self.encoder_convs(level) * self.lost_by_conv + self.lost(level, self.columns)
        for finer in reversed(range(level)):
            cells = self.encoder_convs(finer) * self.lost_by_conv + self.lost_on_way_down + 2 * cells
        return cells

    @property
    def surplus(self) -> int:
        """Cells of level 0 over whole cells of the coarsest level that make every level of even size."""
        return ((2 * self.convs * self.lost_by_conv) << self.output_level) % (1 << (len(self.filters) - 1))


PRESETS: Final[dict[str, UNetConfig]] = {
    "default": UNetConfig(),
    "quality": UNetConfig(convs=2),
    "fast": UNetConfig(filters=(8, 16, 32, 64), stem="patch4"),
    "textbook": UNetConfig(filters=(16, 32, 64, 128, 256), convs=2, skip="concat", up="transpose", stem="none"),
}


def receptive_field(config: UNetConfig) -> int:
    """Return the side in pixels of the square that one output cell sees.

    Counted backwards from one cell that lies well on the coarser grids; a cell that straddles them sees a few
    pixels more. Each convolution adds kernel - 1 cells, upsampling halves (rounding up), pooling doubles, a step of 2
    in a convolution does both. The nest's longest way is that of the UNet.
    """
    wider = config.kernel - 1
    cells = 1
    for _ in range(config.columns):
        cells = math.ceil((cells + wider * config.convs) / 2)
    for level in reversed(range(len(config.filters))):
        cells += wider * config.encoder_convs(level)
        if level:
            cells = 2 * (cells - 1) + config.kernel if config.down == "stride" else 2 * cells
    if config.stem.startswith("patch"):
        return cells * config.stem_stride
    if config.stem == "none":
        return cells + wider
    for _ in range(config.stem_stride.bit_length() - 1):
        cells = 2 * (cells - 1) + 3
    return cells

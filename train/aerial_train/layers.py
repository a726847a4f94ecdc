"""The few layers that both networks are made of, and how they become plain convolutions for export."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FULL_SCALE = 255.0  # of a uint8 image; there is no mean subtraction, so that zero padding means black everywhere

Activation = Literal["relu", "silu", "mish", "leaky_relu"]
ACTIVATIONS: Final[dict[Activation, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "leaky_relu": nn.LeakyReLU,
}


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, usually, an activation; `fold_norms` makes one convolution of it."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: Activation | None = "relu") -> None:
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(conv.out_channels)]
        super().__init__(*layers, *([ACTIVATIONS[activation](inplace=True)] if activation else []))


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    padded: bool = True,
    activation: Activation = "relu",
) -> ConvNorm:
    """Return a convolution with norm and activation: [N, C, h, w] -> [N, D, ceil(h/stride), ceil(w/stride)].

    kernel: odd. padded: with zeros all around; without, h and w lose kernel - 1 cells first.
    """
    padding = kernel // 2 if padded else 0
    return ConvNorm(nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False), activation)


def planes_from_images(images: Tensor) -> Tensor:
    """Return float planes 0..1 [N, C, H, W] of images [N, H, W, C] with values 0..255 (uint8 or float).

    The result is a view in channels_last order of the converted images: nothing is transposed in memory.
    """
    dtype = torch.get_default_dtype() if images.dtype == torch.uint8 else images.dtype
    return images.permute(0, 3, 1, 2).to(dtype) / FULL_SCALE  # [N, C, H, W]


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm of a network in evaluation mode into the convolution before it, in place.

    w' = w * gamma / sqrt(var + eps), b' = beta - mean * gamma / sqrt(var + eps): the same function of the input.
    """
    for module in network.modules():
        if isinstance(module, ConvNorm) and isinstance(module[1], nn.BatchNorm2d):
            conv, norm = module[0], module[1]
            module[0] = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))  # type: ignore[type-var]
            module[1] = nn.Identity()

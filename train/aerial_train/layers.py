"""The few layers that both networks are made of, and how they become plain convolutions for export."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FULL_SCALE = 255.0  # of a uint8 image; there is no mean subtraction, so that zero padding means black everywhere


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, usually, ReLU; `fold_norms` makes one convolution of it."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, *, relu: bool = True) -> None:
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(conv.out_channels)]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> ConvNorm:
    """Return a 3x3 convolution with norm and ReLU: [N, C, h, w] -> [N, D, ceil(h/stride), ceil(w/stride)]."""
    return ConvNorm(nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False))


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

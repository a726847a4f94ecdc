"""What a network costs, before it is trained: parameters and multiply-accumulates, without running it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aerial_train.unet import UNet, receptive_field


@dataclass(frozen=True)
class NetworkSummary:
    """parameters: trained numbers. macs: multiply-accumulates of one forward pass of the given images.

    receptive_field_px: side of the square one output cell sees; None where the whole image is seen.
    """

    parameters: int
    macs: int
    receptive_field_px: int | None

    def __str__(self) -> str:
        """One line for the log."""
        seen = "" if self.receptive_field_px is None else f", receptive field {self.receptive_field_px} px"
        macs = f"{self.macs / 1e9:.2f} GMAC" if self.macs >= 1e8 else f"{self.macs / 1e6:.1f} MMAC"
        return f"{self.parameters / 1e3:.0f} k parameters, {macs}{seen}"


def summarise(network: nn.Module, image_shape: tuple[int, int, int, int]) -> NetworkSummary:
    """Return what a network costs for images of shape [N, H, W, C]; nothing is computed (torch's meta device)."""
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.ConvTranspose2d):
            macs += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            macs += output.numel() * module.weight[0].numel()

    twin = copy.deepcopy(network).to("meta").eval()
    for module in twin.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        twin(torch.empty(image_shape, dtype=torch.uint8, device="meta"))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    seen = receptive_field(network.config) if isinstance(network, UNet) else None
    return NetworkSummary(parameters, macs, seen)

"""What a network costs, before it is trained: parameters, multiply-accumulates, what it sees, memory, measured time."""

from __future__ import annotations

import copy
import statistics
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aerial_train.classifier import Classifier, classifier_receptive_field
from aerial_train.unet import UNet, receptive_field

Shape = tuple[int, int, int, int]

WARM_UPS: Final = 2
RUNS: Final = 5


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
        return f"{self.parameters / 1e3:.0f} k parameters, {_macs(self.macs)}{seen}"


def describe(network: nn.Module, image_shape: Shape, *, measured: bool = False) -> str:
    """Return some lines for a reader: what a network costs for images of shape [N, H, W, C].

    Memory is an estimate: the tensors that live at once, at most, in float32, without the workspace of the device's
    library; see `live_bytes`. measured: also run it, on the device where it is.
    """
    summary = summarise(network, image_shape)
    count, height, width, _ = image_shape
    images = f"{count} x {width}x{height} px"
    if isinstance(network, Classifier):
        field = classifier_receptive_field(network.config)
        seen = f"{field} px a cell, all of which are averaged"
    else:
        seen = "unknown" if summary.receptive_field_px is None else f"{summary.receptive_field_px} px"
    flight, training = live_bytes(network, image_shape), live_bytes(network, image_shape, training=True)
    rows = [
        ("parameters", f"{summary.parameters / 1e3:.0f} k"),
        ("multiply-adds", f"{_macs(summary.macs)} for {images}"),
        ("receptive field", seen),
        ("memory (estimate)", f"{_megabytes(flight)} in flight, {_megabytes(training)} in a training step"),
    ]
    if measured:
        device = next(network.parameters()).device
        rows.append(("measured", f"{milliseconds(network, image_shape):.1f} ms on {device}, median of {RUNS}"))
    return "\n".join(f"  {name:<18} {value}" for name, value in rows)


def summarise(network: nn.Module, image_shape: Shape) -> NetworkSummary:
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


def live_bytes(network: nn.Module, image_shape: Shape, *, training: bool = False) -> int:
    """Return the most bytes of tensors, weights and images aside, that live at once; nothing is computed.

    Of a forward pass in flight, or, training, of a forward and backward pass with the gradients of all weights; an
    optimiser's own memory comes on top.
    """
    twin = copy.deepcopy(network).to("meta").train(training)
    images = torch.empty(image_shape, dtype=torch.uint8, device="meta")
    live = _LiveBytes([*twin.parameters(), *twin.buffers(), images])
    with torch.set_grad_enabled(training), live:
        outputs = tree_leaves(twin(images))
        if training:
            torch.autograd.backward([output.sum() for output in outputs])
    return live.most


def milliseconds(network: nn.Module, image_shape: Shape) -> float:
    """Return how long a forward pass in flight takes: the median of some, after others, where the network is."""
    twin = copy.deepcopy(network).eval()
    device = next(twin.parameters()).device
    images = torch.randint(0, 256, image_shape, dtype=torch.uint8, device=device)
    times = []
    for _ in range(WARM_UPS + RUNS):
        started_ns = time.monotonic_ns()
        with torch.no_grad():
            twin(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((time.monotonic_ns() - started_ns) / 1e6)
    return statistics.median(times[WARM_UPS:])


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators make, beside those of given tensors, until they are freed."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._freed, storage.nbytes())

    def _freed(self, size: int) -> None:
        self.now -= size


def _macs(macs: int) -> str:
    return f"{macs / 1e9:.2f} GMAC" if macs >= 1e8 else f"{macs / 1e6:.1f} MMAC"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"

"""Muon: momentum whose step is made orthogonal (Jordan 2024, "Muon: an optimizer for hidden layers").

A convolution's gradient, seen as a matrix [outputs, inputs x kernel], is mostly a few directions that many samples
share; an orthogonal step gives the rare directions the same length. The classifier began to read letters after about
half the crops that AdamW needed (LOG.md). torch.optim.Muon takes matrices alone, not the kernels of convolutions, and
nothing beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

NEWTON_SCHULZ: Final = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: singular values end within 0.7..1.2
NEWTON_SCHULZ_STEPS: Final = 5
RMS_OF_ADAMW: Final = 0.2  # usual root mean square of its steps, in learning rates
MOMENTUM: Final = 0.95
ADAM_BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


class Muon(Optimizer):
    """Muon for the kernels of convolutions, Adam for whatever else; both with decoupled weight decay.

    One learning rate serves both: an orthogonal step is scaled to the root mean square that AdamW's steps usually have
    (Liu et al. 2025, "Muon is scalable for LLM training").
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float) -> None:
        super().__init__(list(groups), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every weight that has a gradient; return what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    change_of = self._of_kernel if weight.ndim == 4 else self._of_other
                    change = change_of(weight, weight.grad)
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=group["lr"])
        return loss

    def _of_kernel(self, weight: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        nesterov = torch.lerp(gradient, momentum, MOMENTUM)
        matrix = nesterov.reshape(len(weight), -1)
        scale = RMS_OF_ADAMW * math.sqrt(max(matrix.shape))
        step: Tensor = orthogonal(matrix).view_as(weight) * scale
        return step

    def _of_other(self, weight: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state.update(steps=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["steps"] += 1
        first, second = ADAM_BETAS
        mean: Tensor = state["mean"].lerp_(gradient, 1 - first)
        square: Tensor = state["square"].lerp_(gradient.square(), 1 - second)
        root = (square / (1 - second ** state["steps"])).sqrt_().add_(EPSILON)
        return mean.div(1 - first ** state["steps"]).div_(root)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return the matrix [M, N] with all singular values near 1: U V^T of U S V^T, by Newton-Schulz iterations.

    Each iteration multiplies from the left by a polynomial in x x^T, and all of these commute: so the iterations run on
    that small square alone, and the long side is multiplied twice in all instead of twice in each of them.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + EPSILON)  # no singular value above 1
    square = x @ x.T
    product = torch.eye(len(square), dtype=x.dtype, device=x.device)
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = torch.addmm(b * square, square, square, alpha=c)
        factor.diagonal().add_(a)
        product, square = factor @ product, factor @ square @ factor
    result: Tensor = product @ x
    return result if wide is matrix else result.T

"""Time of Muon's orthogonal steps for the shipped classifier: on the small square alone, and as they are published.

python tests/bench/bench_muon.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from aerial_train.checkpoint import load_checkpoint
from aerial_train.muon import EPSILON, NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, orthogonal

CLASSIFIER = Path(__file__).parents[2] / "train" / "references" / "classifier.pt"
ROUNDS = 20


def as_published(matrix: Tensor) -> Tensor:
    """Return the same as `orthogonal`, with the whole matrix in every iteration."""
    a, b, c = NEWTON_SCHULZ
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + EPSILON)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def milliseconds(function: Callable[[Tensor], Tensor], matrices: list[Tensor]) -> float:
    """Time one step of all matrices."""
    start_s = time.perf_counter()
    for matrix in matrices:
        function(matrix)
    return (time.perf_counter() - start_s) * 1e3


def main() -> None:
    """Time both in turns, so that a busy machine is busy for both."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    weights = load_checkpoint(CLASSIFIER).network.parameters()
    matrices = [torch.randn_like(weight).reshape(len(weight), -1) for weight in weights if weight.ndim == 4]
    pairs = [(milliseconds(orthogonal, matrices), milliseconds(as_published, matrices)) for _ in range(ROUNDS)]
    ours, published = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in pairs)
    print(f"{len(matrices)} kernels, one thread, median of {ROUNDS} pairs: {ours:.1f} ms a step; "
          f"as published {published:.1f} ms, {ratio:.2f} times as long")  # fmt: skip


if __name__ == "__main__":
    main()

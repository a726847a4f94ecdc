"""Does a model file compute what PyTorch computed? Free of torch: the answers come along as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.backends import Backend
from aerial_runtime.contract import U8
from aerial_runtime.errors import CheckError

MASK_LEVELS: Final = 2  # grey levels of 255 by which a mask may differ ...
MASK_SHARE: Final = 0.999  # ... on this share of its cells, in every frame
HEAD_ERROR: Final = 1e-3  # by which a probability, or the heading, may differ

ODD_SIZES: Final = ((333, 517), (37, 41), (1, 1), (64, 96), (2, 129))  # height, width


@dataclass(frozen=True)
class Golden:
    """An input and the right answer: output name -> array."""

    name: str
    images: U8
    answer: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class OutputReport:
    """The worst that was seen of one output. agreement: lowest share of a mask's cells, or of labels, that agree."""

    output: str
    max_error: float
    agreement: float

    def __str__(self) -> str:
        """One line of the report."""
        return f"{self.output:>14}  largest error {self.max_error:.2g}  agreement {100 * self.agreement:.2f} %"


@dataclass(frozen=True)
class ParityReport:
    """What was compared and the worst of every output."""

    inputs: int
    outputs: tuple[OutputReport, ...]

    def __str__(self) -> str:
        """Some lines for a reader."""
        return "\n".join([f"agrees with PyTorch on {self.inputs} inputs", *map(str, self.outputs)])


def check_parity(backend: Backend, goldens: Sequence[Golden]) -> ParityReport:
    """Compare a model file with the right answers. Raises CheckError at the first output outside the limits."""
    worst: dict[str, OutputReport] = {}
    for golden in goldens:
        outputs = backend.infer(np.ascontiguousarray(golden.images))
        for name, answer in golden.answer.items():
            seen = compare(name, outputs[name], answer)
            _judge(golden, seen, answer.dtype == np.uint8)
            before = worst.get(name, seen)
            worst[name] = OutputReport(
                name, max(before.max_error, seen.max_error), min(before.agreement, seen.agreement)
            )
    return ParityReport(len(goldens), tuple(worst.values()))


def compare(name: str, seen: npt.NDArray[Any], answer: npt.NDArray[Any]) -> OutputReport:
    """Return how one output differs: a mask by cells within the limit, a head by its labels."""
    if seen.shape != answer.shape or seen.dtype != answer.dtype:
        shapes = f"{seen.dtype} {list(seen.shape)}, PyTorch's is {answer.dtype} {list(answer.shape)}"
        raise CheckError(f"the exported model's {name} is {shapes}; no file was kept")
    error = np.abs(seen.astype(np.float64) - answer.astype(np.float64))
    if answer.dtype == np.uint8:
        agree = error <= MASK_LEVELS
    elif name == "target":  # [N, 1]
        agree = (seen >= 0.5) == (answer >= 0.5)
    elif name == "heading":  # [N, 2], no labels
        agree = error <= HEAD_ERROR
    else:  # [N, K]
        agree = seen.argmax(axis=1) == answer.argmax(axis=1)
    return OutputReport(name, float(error.max()), float(agree.mean()))


def probe_frames() -> list[tuple[str, U8]]:
    """Return named frames [1, H, W, 3] that scenes do not cover: noise, black, white, odd sizes down to 1x1."""
    rng = np.random.default_rng(0)
    frames = [(f"noise {w}x{h}", rng.integers(0, 256, (1, h, w, 3), dtype=np.uint8)) for h, w in ODD_SIZES]
    return [*frames, *((f"all {v}", np.full((1, 90, 130, 3), v, np.uint8)) for v in (0, 255))]


def probe_crops(size: int) -> list[tuple[str, U8]]:
    """Return named batches of crops [N, S, S, 3]: noise, black and white, one crop and sixteen."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (17, size, size, 3), dtype=np.uint8)
    plain = np.stack([np.full((size, size, 3), value, np.uint8) for value in (0, 255)])
    return [("one crop of noise", noise[:1]), ("16 crops of noise", noise[1:]), ("black and white", plain)]


def _judge(golden: Golden, seen: OutputReport, is_mask: bool) -> None:
    least = MASK_SHARE if is_mask else 1.0
    if seen.agreement < least or (not is_mask and seen.max_error > HEAD_ERROR):
        raise CheckError(
            f"the exported model disagrees with PyTorch in {seen.output} of the input {golden.name!r} "
            f"(largest error {seen.max_error:.3g}, agreement {100 * seen.agreement:.2f} %); no file was kept"
        )

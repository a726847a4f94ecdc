"""`aerial-export --benchmark`: how long each file takes here, per frame and per crop. Free of torch and onnx."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from aerial_export.devices import devices_for
from aerial_export.parity_report import table
from aerial_runtime.backends import Backend, open_backend
from aerial_runtime.bundle import MODELS, Bundle
from aerial_runtime.bundle import SUFFIX as BUNDLE_SUFFIX
from aerial_runtime.contract import U8
from aerial_runtime.errors import ResourceError

Progress = Callable[[str], None]

WARM_UP: Final = 3
COLUMNS: Final = ("file", "precision", "provider", "input", "median ms", "p95 ms", "median ms a crop")


@dataclass
class _Case:
    """One file on one provider with one input; times in ms."""

    backend: Backend
    images: U8
    times_ms: list[float] = field(default_factory=list)

    def run(self) -> None:
        start_ns = time.monotonic_ns()
        self.backend.infer(self.images)
        self.times_ms.append((time.monotonic_ns() - start_ns) / 1e6)

    def row(self) -> tuple[str, ...]:
        card, (count, height, width, _) = self.backend.card, self.images.shape
        median = statistics.median(self.times_ms)
        is_frame = card.kind == "segmenter"
        what = f"{width}x{height}" if is_frame else f"{count} x {width} px"
        p95 = float(np.percentile(self.times_ms, 95))
        a_crop = "" if is_frame else f"{median / count:.3f}"
        return self.backend.name, card.precision, self.backend.provider, what, f"{median:.2f}", f"{p95:.2f}", a_crop


def benchmark(
    paths: Sequence[Path],
    device: str | None,
    frame_sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    rounds: int,
    progress: Progress,
) -> str:
    """Return a table of the times of every file on a device; None: on every one there is.

    frame_sizes: (width, height) for segmenters; batches: crops a call for classifiers; rounds: of each. The cases
    take turns, so that whatever else the machine does hits them all. Raises InputError, ModelError or ResourceError.
    """
    with ExitStack() as stack:
        cases: list[_Case] = []
        for path in _unpacked(paths, stack):
            for backend in _backends(path, device, stack, progress):
                cases += [_Case(backend, images) for images in _inputs(backend, frame_sizes, batches)]
        for _ in range(WARM_UP):
            for case in cases:
                case.run()
        for case in cases:
            case.times_ms.clear()
        for number in range(rounds):
            for case in cases:
                case.run()
            if number == 0:
                progress(f"{rounds} rounds of {sum(case.times_ms[0] for case in cases) / 1e3:.1f} s")
        return table([COLUMNS, *(case.row() for case in cases)])


def _backends(path: Path, device: str | None, stack: ExitStack, progress: Progress) -> Iterator[Backend]:
    """Open a file on a device, or on every one that can run it; of what cannot, say why."""
    if device is not None:
        yield stack.enter_context(open_backend(path, device))
        return
    plainest, *others = devices_for(path)
    yield stack.enter_context(open_backend(path, plainest))
    for name in others:
        try:
            yield stack.enter_context(open_backend(path, name))
        except ResourceError as error:
            progress(f"{path.name} is not measured on {name}: {error}")


def _unpacked(paths: Sequence[Path], stack: ExitStack) -> Iterator[Path]:
    """Give model files, for a bundle those inside."""
    for path in paths:
        if path.suffix == BUNDLE_SUFFIX:
            folder = stack.enter_context(Bundle(path).unpacked())
            yield from (folder / name for name in MODELS)
        else:
            yield path


def _inputs(backend: Backend, frame_sizes: Sequence[tuple[int, int]], batches: Sequence[int]) -> list[U8]:
    rng = np.random.default_rng(0)
    size = backend.card.crop_size or 0
    _, height, width, _ = backend.card.inputs[0].shape
    if isinstance(height, int) and isinstance(width, int) and backend.card.kind == "segmenter":
        frame_sizes = [(width, height)]  # an engine takes no other
    shapes = (
        [(1, height, width, 3) for width, height in frame_sizes]
        if backend.card.kind == "segmenter"
        else [(count, size, size, 3) for count in batches]
    )
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]

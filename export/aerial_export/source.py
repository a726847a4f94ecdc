"""What is exported: an FP32 graph, and somebody who knows the right answers. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto

from aerial_export.goldens import Answer
from aerial_export.onnx_file import read_model
from aerial_runtime.backends import open_backend
from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8
from aerial_runtime.errors import UsageError


@dataclass(frozen=True)
class Source:
    """A model to export.

    model: FP32, with `card` inside. data: the model as a file's bytes. reference: who answers, for readers. answer:
    images -> output name -> array. proven: whether the FP32 file is itself the reference.
    """

    model: ModelProto
    card: ModelCard
    data: bytes
    reference: str
    answer: Callable[[U8], Answer]
    proven: bool


def open_onnx(path: Path) -> Source:
    """Return the source of an FP32 ONNX file, whose answers by ONNX Runtime on the CPU count as right.

    Raises ModelError for the file, UsageError for one that is not FP32.
    """
    data, model, card = read_model(path)
    require_fp32(path, card)
    backend = open_backend(path, "cpu")

    def answer(images: U8) -> Answer:
        outputs = backend.infer(np.ascontiguousarray(images))
        return {name: values.copy() for name, values in outputs.items()}

    return Source(model, card, data, f"its FP32 file by ONNX Runtime {onnxruntime.__version__}", answer, proven=True)


def require_fp32(path: Path, card: ModelCard) -> None:
    """Raise UsageError where a file is of less than full precision."""
    if card.precision != "fp32":
        raise UsageError(f"{path} is {card.precision} already; give the FP32 file that it was made from")

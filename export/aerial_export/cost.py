"""What a graph costs: parameters, and multiply-accumulates for inputs of a given size. Free of torch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime
from onnx import ModelProto, shape_inference

from aerial_runtime.backends.ort import engine_errors
from aerial_runtime.errors import ModelError

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def parameters(model: ModelProto) -> int:
    """Return how many trained numbers a graph holds: weights and biases of its products."""
    read = {name for node in model.graph.node if node.op_type in PRODUCTS for name in node.input[1:]}
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.name in read)


def macs(model: ModelProto, sizes: Mapping[str, int]) -> int:
    """Return the multiply-accumulates of one call. sizes: name of an open axis -> its length. Raises ModelError."""
    fixed = _fixed(model, sizes)
    shapes = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim]
        for info in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in fixed.graph.initializer}
    total = 0
    for node in fixed.graph.node:
        if node.op_type in PRODUCTS:
            source, weight = (shapes[name] for name in node.input[:2])
            # A weight of a transposed convolution meets each input cell, all others each output cell.
            is_spread = node.op_type == "ConvTranspose"
            cells = math.prod(source) if is_spread else math.prod(shapes[node.output[0]])
            per_cell = math.prod(weight[1:]) if "Conv" in node.op_type else source[-1]
            total += cells * per_cell
    return total


def _fixed(model: ModelProto, sizes: Mapping[str, int]) -> ModelProto:
    """Return the model for inputs of one size: what depends on the size alone is computed, every shape is known.

    ONNX Runtime does it: ONNX's own shape inference does not follow sizes through arithmetic. Raises ModelError.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for axis, length in sizes.items():
        options.add_free_dimension_override_by_name(axis, length)
    errors: tuple[type[Exception], ...] = (OSError, *engine_errors())
    try:
        with tempfile.TemporaryDirectory() as folder:
            options.optimized_model_filepath = str(Path(folder) / "fixed.onnx")
            onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
            fixed = onnx.load(options.optimized_model_filepath)
    except errors as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"ONNX Runtime does not take the model, or finds no room for a copy in {tempfile.gettempdir()} ({reason}); "
            "export it again, or free space there"
        ) from error
    return shape_inference.infer_shapes(fixed, data_prop=True)

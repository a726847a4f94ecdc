"""FP32 graph -> FP16 inside, uint8 and float32 at the edges. Free of torch.

The convolutions and what lies between them compute in half precision. FP32 stay what follows the last convolution:
pooled features, softmax, the map, for there a rounding would cost labels; and the first convolution, the roundings of
whose weights alone did more harm than all others, for bytes are large and alike from pixel to pixel. Both parts are
small. Weights and activations are rounded; nothing is calibrated.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from aerial_runtime.errors import CheckError

CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
LARGEST: Final = float(np.finfo(np.float16).max)


def to_fp16(model: ModelProto) -> ModelProto:
    """Return the model with FP16 convolutions. Raises CheckError for weights that FP16 cannot hold."""
    half = copy.deepcopy(model)
    graph = half.graph
    types = _types(half)
    inside = _half_values(graph, types)
    nodes: list[NodeProto] = []
    done: set[str] = set()
    for node in graph.node:
        is_half = not inside.isdisjoint(node.output)
        for position, name in enumerate(node.input):
            is_scale = node.op_type == "Resize" and position in (1, 2)  # float32 by ONNX's rule, whatever is resized
            if types.get(name) != TensorProto.FLOAT or is_scale or (name in inside) == is_half:
                continue
            node.input[position] = f"{name}_{'fp16' if is_half else 'fp32'}"
            if node.input[position] not in done:
                is_kernel = node.op_type == "Conv" and position == 1
                nodes += _converted(graph, name, node.input[position], is_half, is_kernel)
                done.add(node.input[position])
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and is_half:
                attribute.i = TensorProto.FLOAT16
        nodes.append(node)
    replace_nodes(graph, nodes)
    return half


def rounded(half: ModelProto) -> ModelProto:
    """Return an FP32 model that rounds every value where the FP16 model `half` holds one in half precision.

    ONNX Runtime has no FP16 kernels for CPUs: it computes in FP32 and drops the roundings between. So the FP16 file
    itself agrees better on a CPU than on tensor cores, which round each result; this model rounds as they do.
    """
    twin = copy.deepcopy(half)
    graph = twin.graph
    types = _types(half)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for position, name in enumerate(node.output):
            if types.get(name) == TensorProto.FLOAT16:
                node.output[position] = f"{name}_exact"
                nodes.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    replace_nodes(graph, nodes)
    return twin


def _types(model: ModelProto) -> dict[str, int]:
    """Return the element type of every value and constant."""
    graph = shape_inference.infer_shapes(model).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _half_values(graph: GraphProto, types: dict[str, int]) -> set[str]:
    """Return the float values behind the first convolution that flow into another one, or come out of one.

    Sizes, which flow from the input by Shape alone, are not among them: FP16 cannot count beyond 2048.
    """
    pixels = {info.name for info in graph.input}  # before that convolution
    first: set[str] = set()  # of it
    images: set[str] = set()  # behind it
    for node in graph.node:
        if node.op_type == "Shape":
            continue
        if not images.union(first).isdisjoint(node.input):
            images.update(node.output)
        elif not pixels.isdisjoint(node.input):
            (first if node.op_type in CONVOLUTIONS else pixels).update(node.output)
    wanted: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in CONVOLUTIONS:
            wanted.update(node.output)
        if wanted.intersection(node.output):
            wanted.update(node.input)
    return {name for name in images & wanted if types.get(name) == TensorProto.FLOAT}


def _converted(graph: GraphProto, name: str, result: str, to_half: bool, is_kernel: bool) -> list[NodeProto]:
    """Make `result` from a value, by a Cast node, or from a constant, by rounding it here and now."""
    constant = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if constant is None:
        wanted = TensorProto.FLOAT16 if to_half else TensorProto.FLOAT
        return [helper.make_node("Cast", [name], [result], to=wanted)]
    values = numpy_helper.to_array(constant)
    if np.abs(values).max(initial=0) > LARGEST:
        raise CheckError(
            f"the constant {name} reaches {np.abs(values).max():.3g}, FP16 ends at {LARGEST:.0f}; "
            "train with weight decay, or fly the FP32 file"
        )
    halves = _with_same_sums(values) if is_kernel else values.astype(np.float16)
    graph.initializer.append(numpy_helper.from_array(halves, result))
    return []


def _with_same_sums(weights: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float16]:
    """Round the kernels of a convolution, [out, in, H, W], so that the sum of each stays nearly what it was.

    What a kernel sees behind a ReLU is positive and alike from pixel to pixel: roundings that go one way add up. Some
    weights go to the other of their two neighbours instead, one at a time, as long as that brings the sum nearer.
    """
    exact = weights.reshape(len(weights), -1).astype(np.float64)
    nearest = exact.astype(np.float16)
    other = np.nextafter(nearest, np.where(nearest > exact, -np.inf, np.inf).astype(np.float16))
    step = other.astype(np.float64) - nearest
    off, moved, rows = (nearest - exact).sum(axis=1), np.zeros(exact.shape, bool), np.arange(len(exact))
    while True:
        left = np.where(moved, np.inf, np.abs(off[:, None] + step))
        best = left.argmin(axis=1)
        nearer = left[rows, best] < np.abs(off)
        if not nearer.any():
            return np.where(moved, other, nearest).reshape(weights.shape)
        moved[rows[nearer], best[nearer]] = True
        off[nearer] += step[rows[nearer], best[nearer]]


def replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Put `nodes` into the graph and drop the constants that nobody reads any more."""
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]

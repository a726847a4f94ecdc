"""FP32 graph -> FP16 inside, uint8 and float32 at the edges. Free of torch.

The convolutions and what lies between them compute in half precision; what follows the last convolution stays FP32:
pooled features, the heads' product, softmax, the map. That part is small, and there a rounding would cost labels.
Weights and activations are rounded to the nearest; nothing is calibrated.
"""

from __future__ import annotations

import copy
from typing import Final

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from aerial_runtime.errors import CheckError

CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
MOVES: Final = ("Reshape", "Pad")  # between the bytes and the first convolution; they leave values as they are
LARGEST: Final = float(np.finfo(np.float16).max)
# The first convolution reads bytes, 1/255 folded into its weights: many of them would be subnormal in FP16. A power of
# two moves between input and weights without any rounding.
INPUT_SCALE: Final = 2.0**-8


def to_fp16(model: ModelProto) -> ModelProto:
    """Return the model with FP16 convolutions. Raises CheckError for weights that FP16 cannot hold."""
    half = copy.deepcopy(model)
    graph = half.graph
    _scale_input(graph)
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
                nodes += _converted(graph, name, node.input[position], is_half)
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
    """Return the float values that the input flows into and that flow into a convolution, or come out of one.

    Sizes, which flow from the input by Shape alone, are not among them: FP16 cannot count beyond 2048.
    """
    images = {info.name for info in graph.input}
    for node in graph.node:
        if node.op_type != "Shape" and images.intersection(node.input):
            images.update(node.output)
    wanted: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in CONVOLUTIONS:
            wanted.update(node.output)
        if wanted.intersection(node.output):
            wanted.update(node.input)
    return {name for name in images & wanted if types.get(name) == TensorProto.FLOAT}


def _converted(graph: GraphProto, name: str, result: str, to_half: bool) -> list[NodeProto]:
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
    graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), result))
    return []


def replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Put `nodes` into the graph and drop the constants that nobody reads any more."""
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]


def _scale_input(graph: GraphProto) -> None:
    """Scale the cast input by INPUT_SCALE and the first convolution's weights by its inverse, in place.

    A graph in which anything but a convolution reads the bytes stays as it is.
    """
    cast = next(node for node in graph.node if node.op_type == "Cast" and node.input[0] == graph.input[0].name)
    values, readers = {cast.output[0]}, []
    for node in graph.node:
        if not values.intersection(node.input):
            continue
        if node.op_type in MOVES:
            values.update(node.output)
        else:
            readers.append(node)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    if any(node.op_type not in CONVOLUTIONS or node.input[1] not in weights for node in readers):
        return
    for name in {node.input[1] for node in readers}:
        scaled = numpy_helper.to_array(weights[name]) / np.float32(INPUT_SCALE)
        weights[name].CopyFrom(numpy_helper.from_array(scaled, name))
    scale = numpy_helper.from_array(np.asarray(INPUT_SCALE, np.float32), "input_scale")
    graph.initializer.append(scale)
    scaled_name, cast.output[0] = cast.output[0], f"{cast.output[0]}_unscaled"
    place = list(graph.node).index(cast) + 1
    graph.node.insert(place, helper.make_node("Mul", [cast.output[0], scale.name], [scaled_name]))

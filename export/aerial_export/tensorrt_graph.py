"""An ONNX graph as TensorRT takes it: of one frame size, and with bytes at its edges alone. Free of torch.

TensorRT knows uint8 only as what a network is given and what it returns: whatever reads an input, or makes an output,
of bytes must be a Cast. So our graphs' question for the frame's size and their last squeeze have to go.
"""

from __future__ import annotations

import copy
from typing import Final

import msgspec
import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from aerial_export.fp16 import replace_nodes
from aerial_runtime.card import ModelCard, TensorSpec

RESHAPES: Final = ("Squeeze", "Unsqueeze", "Reshape")


def fixed_card(card: ModelCard, frame_size: tuple[int, int]) -> ModelCard:
    """Return a segmenter's card with the shapes of one frame size: width, height in pixels."""
    width, height = frame_size
    stride = card.stride or 1
    frame, (probability,) = card.inputs[0], card.outputs
    rows, columns = -(-height // stride), -(-width // stride)
    return msgspec.structs.replace(
        card,
        inputs=(TensorSpec(frame.name, frame.dtype, (1, height, width, 3)),),
        outputs=(TensorSpec(probability.name, probability.dtype, (1, rows, columns)),),
    )


def for_tensorrt(model: ModelProto, card: ModelCard) -> ModelProto:
    """Return the same function in the form that TensorRT takes. card: with the shapes that the result shall have."""
    twin = copy.deepcopy(model)
    graph = twin.graph
    for infos, specs in ((graph.input, card.inputs), (graph.output, card.outputs)):
        types = [info.type.tensor_type.elem_type for info in infos]
        del infos[:]
        for spec, elem_type in zip(specs, types, strict=True):
            infos.append(helper.make_tensor_value_info(spec.name, elem_type, list(spec.shape)))
    shape = card.inputs[0].shape
    if all(isinstance(axis, int) for axis in shape):
        _fold_sizes(twin, np.zeros(tuple(map(int, shape)), np.uint8))
    for info in graph.output:
        if info.type.tensor_type.elem_type == TensorProto.UINT8:
            _cast_last(graph, info.name)
    return twin


def _fold_sizes(model: ModelProto, image: np.typing.NDArray[np.uint8]) -> None:
    """Replace whatever follows from the input's size and from constants alone by its value, in place."""
    graph = model.graph
    name = graph.input[0].name
    known = {tensor.name for tensor in graph.initializer} | {""}
    sizes: list[NodeProto] = []
    for node in graph.node:
        if (node.op_type == "Shape" and node.input[0] == name) or known.issuperset(node.input):
            sizes.append(node)
            known.update(node.output)
    rest = [node for node in graph.node if node not in sizes]
    read = {value for node in rest for value in node.input}
    wanted = [value for node in sizes for value in node.output if value in read]
    outputs = [helper.make_empty_tensor_value_info(value) for value in wanted]
    part = helper.make_graph(sizes, "sizes", list(graph.input), outputs, list(graph.initializer))
    evaluator = ReferenceEvaluator(helper.make_model(part, opset_imports=list(model.opset_import)))
    for value, result in zip(wanted, evaluator.run(None, {name: image}), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(result), value))
    replace_nodes(graph, rest)


def _cast_last(graph: GraphProto, output: str) -> None:
    """Move the cast that makes `output` behind the reshapes that follow it, in place."""
    makers = {value: node for node in graph.node for value in node.output}
    tail: list[NodeProto] = []
    node = makers[output]
    while node.op_type in RESHAPES:
        tail.insert(0, node)
        node = makers[node.input[0]]
    if node.op_type != "Cast" or not tail:
        return
    # cast(x) -> reshape -> output becomes reshape(x) -> cast -> output.
    tail[0].input[0], tail[-1].output[0], node.input[0], node.output[0] = (
        node.input[0], f"{output}_uncast", f"{output}_uncast", output,
    )  # fmt: skip
    replace_nodes(graph, [*(other for other in graph.node if other is not node), node])

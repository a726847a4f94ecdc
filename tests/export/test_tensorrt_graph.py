"""The form that TensorRT takes computes the same, bit for bit, and holds nothing that TensorRT refuses."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from aerial_export.onnx_file import read_model
from aerial_export.tensorrt_graph import fixed_card, for_tensorrt

RNG = np.random.default_rng(0)


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})


@pytest.fixture(params=["tiny", "fp32", "fp16"])
def segmenter(request, tiny_models):
    if request.param == "tiny":
        return read_model(tiny_models / "segmenter.onnx")[1:]
    return read_model(request.getfixturevalue("exported") / {"fp32": "s.onnx", "fp16": "s.fp16.onnx"}[request.param])[
        1:
    ]


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1), (5, 130)])
def test_a_segmenter_of_one_size_is_the_same_function(segmenter, size):
    model, card = segmenter
    before = model.SerializeToString()
    fixed = fixed_card(card, size)
    twin = for_tensorrt(model, fixed)
    onnx.checker.check_model(twin, full_check=True)
    frame = RNG.integers(0, 256, (1, size[1], size[0], 3), dtype=np.uint8)
    assert fixed.inputs[0].shape == frame.shape
    (right,), (seen,) = run(model, frame), run(twin, frame)
    assert np.array_equal(seen, right) and fixed.outputs[0].shape == seen.shape
    assert model.SerializeToString() == before


def test_nothing_is_left_that_tensorrt_refuses(segmenter):
    """Bytes are read and made by casts alone, nothing asks for a size, no shape is open."""
    model, card = segmenter
    twin = for_tensorrt(model, fixed_card(card, (63, 47)))
    graph = onnx.shape_inference.infer_shapes(twin, strict_mode=True).graph
    infos = [*graph.input, *graph.output, *graph.value_info]
    of_bytes = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.UINT8}
    assert of_bytes == {"frame", "probability"}
    assert {node.op_type for node in graph.node if of_bytes.intersection((*node.input, *node.output))} == {"Cast"}
    assert not {node.op_type for node in graph.node} & {"Shape", "Mod", "Gather"}
    assert all(dim.HasField("dim_value") for info in infos for dim in info.type.tensor_type.shape.dim)
    assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_a_classifier_keeps_its_open_batch(exported):
    _, model, card = read_model(exported / "c.fp16.onnx")
    twin = for_tensorrt(model, card)
    assert twin.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "crops"
    for count in (1, 7):
        crops = RNG.integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
        assert all(np.array_equal(one, other) for one, other in zip(run(model, crops), run(twin, crops), strict=True))

"""The pass on a small graph by hand, and what half precision rounds; the gate's tests judge whole networks."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aerial_export.fp16 import _with_same_sums, rounded, to_fp16
from aerial_export.graph_contract import check_contract
from aerial_runtime.errors import CheckError
from aerial_train.checkpoint import load_checkpoint

RNG = np.random.default_rng(0)


def graph(weight, last=1.0):
    """frame uint8 [1, h, w] -> Cast, Reshape by sizes from the frame, Conv 1x1, upsampling, Conv 1x1, Mul -> y."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["frame"], ["shape"]),
        helper.make_node("Concat", ["one", "shape"], ["planes_shape"], axis=0),
        helper.make_node("Reshape", ["bytes", "planes_shape"], ["planes"]),
        helper.make_node("Conv", ["planes", "w"], ["product"]),
        helper.make_node("Resize", ["product", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Conv", ["large", "unit"], ["last"]),
        helper.make_node("Mul", ["last", "gain"], ["y"]),
    ]
    constants = {
        "one": np.array([1], np.int64), "scales": np.array([1, 1, 2, 2], np.float32), "gain": np.float32(3),
        "w": np.full((1, 1, 1, 1), weight, np.float32), "unit": np.full((1, 1, 1, 1), last, np.float32),
    }  # fmt: skip
    body = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "H", "W"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, frame):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"frame": frame})[0]


def types(model):
    infos = onnx.shape_inference.infer_shapes(model).graph
    found = {info.name: info.type.tensor_type.elem_type for info in (*infos.value_info, *infos.output)}
    return found | {tensor.name: tensor.data_type for tensor in infos.initializer}


def test_convolutions_are_half_edges_and_tail_are_not():
    half = to_fp16(graph(0.5))
    found = types(half)
    assert [node.op_type for node in half.graph.node].count("Conv") == 2
    for name in ("planes", "product"):
        assert found[name] == TensorProto.FLOAT, name
    for name in ("large", "last"):
        assert found[name] == TensorProto.FLOAT16, name
    assert found["y"] == TensorProto.FLOAT and found["gain"] == TensorProto.FLOAT
    assert found["scales"] == TensorProto.FLOAT  # ONNX wants it so
    frame = RNG.integers(0, 256, (1, 5, 7), dtype=np.uint8)
    assert np.array_equal(run(half, frame), run(graph(0.5), frame))  # nothing here needs rounding


def test_the_convolution_of_the_bytes_is_not_rounded():
    tiny = 3e-7 / 255  # as 1/255 folded into a small weight makes it; FP16 would make it 0
    assert np.float16(tiny) == 0
    half = to_fp16(graph(tiny))
    assert run(half, np.full((1, 2, 2), 255, np.uint8)) == pytest.approx(9e-7, rel=1e-3)
    first = next(node for node in half.graph.node if node.op_type == "Conv")
    assert {types(half)[name] for name in (*first.input, *first.output)} == {TensorProto.FLOAT}


def test_roundings_of_a_kernel_do_not_add_up():
    kernel = RNG.normal(0.3, 0.1, (4, 8, 3, 3)).astype(np.float32)
    plain, kept = kernel.astype(np.float16), _with_same_sums(kernel)
    off = [np.abs((half - kernel.astype(np.float64)).sum(axis=(1, 2, 3))) for half in (plain, kept)]
    assert kept.dtype == np.float16 and kept.shape == kernel.shape
    assert off[1].max() < 2e-5 < off[0].min()
    one_step = np.spacing(np.abs(plain)).astype(np.float64)
    assert (np.abs(kept - kernel.astype(np.float64)) <= one_step).all()


def test_weights_beyond_half_precision_are_refused():
    with pytest.raises(CheckError, match=r"reaches 7e\+04, FP16 ends at 65504"):
        to_fp16(graph(1, last=70_000))


def test_the_rounding_twin_rounds_every_value():
    weight = 513 / 512  # exact in FP16; its product with 201 is not
    half = to_fp16(graph(1, last=weight))
    frame = np.full((1, 1, 1), 201, np.uint8)
    product = np.float16(201 * weight)
    assert float(product) != 201 * weight
    twin = rounded(half)
    assert run(twin, frame)[0, 0, 0, 0] == 3 * np.float32(product)
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in twin.graph.initializer}


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_real_graphs_keep_the_contract(kind, save_segmenter, save_classifier, built):
    source = save_segmenter() if kind == "segmenter" else save_classifier()
    card = load_checkpoint(source).card
    half = to_fp16(built[card.weights_sha256])
    check_contract(half, card)
    found = types(half)
    first = next(node for node in half.graph.node if node.op_type == "Conv")
    for node in half.graph.node:
        wanted = TensorProto.FLOAT16 if node.op_type == "Conv" and node is not first else TensorProto.FLOAT
        if node.op_type in ("Conv", "Softmax", "Sigmoid", "Gemm", "ReduceMean"):
            assert {found[name] for name in node.output} == {wanted}, node.op_type

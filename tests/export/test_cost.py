"""By hand, and against what the network itself says before it is exported."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aerial_export.cost import macs, parameters
from aerial_runtime.errors import ModelError
from aerial_train.checkpoint import load_checkpoint
from aerial_train.network_summary import summarise


def test_each_kind_of_product_by_hand():
    weights = {
        "conv": np.zeros((4, 3, 3, 3)), "bias": np.zeros(4), "up": np.zeros((4, 2, 2, 2)), "gemm": np.zeros((5, 2)),
        "matmul": np.zeros((5, 7)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "conv", "bias"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),  # 4 x 3 x 4
        helper.make_node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2]),  # 2 x 6 x 8
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "gemm"], ["e"], transB=1),
        helper.make_node("MatMul", ["e", "matmul"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 7])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert parameters(model) == 108 + 4 + 32 + 10 + 35
    assert macs(model, {"h": 6, "w": 8}) == 4 * 3 * 4 * 27 + (4 * 3 * 4) * 8 + 2 * 5 + 5 * 7


@pytest.mark.parametrize(
    ("name", "axes", "shape"),
    [("s", {"height": 75, "width": 131}, (1, 75, 131, 3)), ("c", {"crops": 3}, (3, 24, 24, 3))],
)
@pytest.mark.parametrize("suffix", [".onnx", ".fp16.onnx"])
def test_an_exported_network_costs_what_the_trained_one_costs(exported, name, axes, shape, suffix):
    network = load_checkpoint(exported / f"{name}.pt").network
    assert macs(onnx.load(exported / f"{name}{suffix}"), axes) == summarise(network, shape).macs


def test_a_model_that_cannot_be_opened_is_one_sentence(monkeypatch, tmp_path):
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    weights = numpy_helper.from_array(np.zeros((4, 3), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", tensors[:1], tensors[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ModelError, match=r"ONNX Runtime does not take the model, .*; export it again, or free space"):
        macs(model, {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"finds no room for a copy in .*none .*No such file"):
        macs(model, {})

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aerial_export.graph_contract import check_contract
from aerial_runtime.card import CARD_METADATA_KEY, Head, LabelSpace, ModelCard, TensorSpec, card_to_json
from aerial_runtime.errors import CheckError

CARD = ModelCard(
    kind="segmenter", name="m", label_space=LabelSpace("pads", (Head("kind", ("a", "b")),)), crop_margin=1.3, stride=1,
    inputs=(TensorSpec("frame", "uint8", (1, "height", "width", 3)),),
    outputs=(TensorSpec("probability", "uint8", (1, "height", "width", 3)),),
)  # fmt: skip


def graph(nodes=None, opset=18, ir_version=10, card=CARD, in_type=TensorProto.UINT8, axis="height"):
    nodes = nodes or [
        helper.make_node("Cast", ["frame"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["x"], ["probability"], to=TensorProto.UINT8),
    ]
    frame = helper.make_tensor_value_info("frame", in_type, [1, axis, "width", 3])
    mask = helper.make_tensor_value_info("probability", TensorProto.UINT8, [1, axis, "width", 3])
    body = helper.make_graph(nodes, "g", [frame], [mask])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    if card is not None:
        model.metadata_props.add(key=CARD_METADATA_KEY, value=card_to_json(card))
    return model


def cast(source, result, to=TensorProto.UINT8):
    return helper.make_node("Cast", [source], [result], to=to)


TRANSPOSED = [
    cast("frame", "x", TensorProto.FLOAT),
    helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 2, 3]),
    cast("y", "probability"),
]
NOT_CAST_FIRST = [helper.make_node("Identity", ["frame"], ["x"]), cast("x", "probability")]


def test_a_graph_that_keeps_it():
    check_contract(graph(), CARD)
    check_contract(graph(opset=17, ir_version=8), CARD)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph(opset=16), "opset is 16"),
        (graph(ir_version=11), "IR version is 11"),
        (graph(TRANSPOSED), "Transpose"),
        (graph(NOT_CAST_FIRST), "must be cast before anything else"),
        (graph(in_type=TensorProto.FLOAT), "the card promises"),
        (graph(axis="rows"), "the card promises"),
        (graph(card=None), "card is not the checkpoint's"),
    ],
)
def test_a_graph_that_breaks_it(model, message):
    onnx.checker.check_model(model)
    with pytest.raises(CheckError, match=message):
        check_contract(model, CARD)


def test_weights_that_are_no_numbers_are_refused():
    model = graph()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1.0, np.nan], np.float32), "w"))
    with pytest.raises(CheckError, match="NaN"):
        check_contract(model, CARD)


def test_a_graph_that_flies_but_states_wrong_shapes_inside_is_refused():
    model = graph()
    model.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 7]))
    onnx.checker.check_model(model)
    with pytest.raises(CheckError, match=r"ONNX's own check refuses it \(.*op_type:Cast.*\); no file was kept"):
        check_contract(model, CARD)


def test_the_card_must_be_this_checkpoints():
    import msgspec

    with pytest.raises(CheckError, match="card is not the checkpoint's"):
        check_contract(graph(), msgspec.structs.replace(CARD, crop_margin=1.5))

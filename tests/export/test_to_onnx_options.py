"""Every option of the networks must export: by the graph contract, and in agreement with PyTorch at odd sizes too."""

import onnx
import pytest

from aerial_export.golden_inputs import probe_crops, probe_frames
from aerial_export.graph_contract import check_contract
from aerial_runtime.card import card_from_json
from aerial_train.checkpoint import load_checkpoint
from aerial_train.unet import UNetConfig

# Options together, and the operators by which the graph shows that they are in it.
OPTIONS = [
    (
        {"padding": "valid", "down": "stride", "kernel": 5, "stem": "none", "activation": "silu", "skip": "concat"},
        set(),
        {"MaxPool", "Relu", "Dropout"},
    ),
    (
        {"down": "average", "activation": "mish", "up_activation": True, "stem": "patch4", "dropout": 0.3},
        {"AveragePool"},
        {"MaxPool", "Relu", "Dropout"},
    ),
    (
        {"down": "stride", "up": "transpose", "activation": "leaky_relu"}
        | {"architecture": "unetpp", "deep_supervision": True},
        {"ConvTranspose", "LeakyRelu"},
        {"MaxPool", "Relu"},
    ),
]


def no_scenes(card):
    return probe_frames() if card.kind == "segmenter" else probe_crops(card.crop_size)


@pytest.mark.parametrize(("options", "inside", "absent"), OPTIONS, ids=["valid", "average", "nest"])
def test_segmenters(export_checkpoint, save_segmenter, tmp_path, options, inside, absent):
    source = save_segmenter(UNetConfig(**{"filters": (4, 6, 8)} | options))
    report = export_checkpoint(source, tmp_path / "m.onnx", no_scenes)
    assert report.inputs == 7 and report.outputs[0].max_error <= 1
    model = onnx.load(tmp_path / "m.onnx")
    check_contract(model, card_from_json(model.metadata_props[0].value, "m.onnx"))
    operators = [node.op_type for node in model.graph.node]
    assert inside <= set(operators) and not absent & set(operators)
    weights = load_checkpoint(source).network.state_dict()
    in_flight = [name for name, value in weights.items() if value.ndim == 4 and not name.startswith("side_heads")]
    assert operators.count("Conv") + operators.count("ConvTranspose") == len(in_flight)


def test_classifier(export_checkpoint, save_classifier, tmp_path):
    report = export_checkpoint(save_classifier(activation="silu", dropout=0.4), tmp_path / "m.onnx", no_scenes)
    assert max(output.max_error for output in report.outputs) < 1e-4
    assert not {"Relu", "Dropout"} & {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}

"""What every graph that flies must look like, checked on the file itself. Free of torch."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from aerial_runtime.card import CARD_METADATA_KEY, ModelCard, TensorSpec, card_from_json
from aerial_runtime.errors import CheckError

OPSET: Final = 18
OPSETS: Final = (17, 18)
IR_VERSION: Final = 10  # the newest that the ONNX Runtime of JetPack 6 reads
DTYPES: Final = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
# A transpose of the frame costs 1.15x of the whole network, a reshuffle 1.46x (measured, docs/decisions.md).
FORBIDDEN: Final = ("Transpose", "DepthToSpace", "SpaceToDepth")


def check_contract(model: onnx.ModelProto, card: ModelCard) -> None:
    """Raise CheckError with the first clause of the graph contract that a model breaks."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        _require(False, f"ONNX's own check refuses it ({' '.join(str(error).split())})")  # ONNX Runtime may not
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    _require(opset in OPSETS, f"the opset is {opset}, must be one of {OPSETS}")
    _require(model.ir_version <= IR_VERSION, f"the IR version is {model.ir_version}, must be at most {IR_VERSION}")
    _require(all(not item.domain for item in model.graph.node), "it uses operators that are not ONNX's own")
    strange = {node.op_type for node in model.graph.node} & set(FORBIDDEN)
    _require(not strange, f"it holds {sorted(strange)}, which are slow")
    found = [_describe(info) for info in (*model.graph.input, *model.graph.output)]
    wanted = [(spec.name, DTYPES[spec.dtype], spec.shape) for spec in (*card.inputs, *card.outputs)]
    _require(found == wanted, f"its inputs and outputs are {found}, the card promises {wanted}")
    for spec in card.inputs:
        _require(_is_cast_first(model, spec), f"{spec.name} must be cast before anything else, or TensorRT refuses it")
    # A mask of bytes hides NaN: the cast makes it 0, "no target". So no weight may be one.
    _require(all(map(_is_finite, model.graph.initializer)), "some of its weights are NaN or infinite")
    text = next((item.value for item in model.metadata_props if item.key == CARD_METADATA_KEY), None)
    _require(text is not None and card_from_json(text, "the graph") == card, "its card is not the checkpoint's")


def _is_cast_first(model: onnx.ModelProto, spec: TensorSpec) -> bool:
    """Tell whether the values of an input are read by casts alone; asking for its shape is free."""
    readers = {node.op_type for node in model.graph.node if spec.name in node.input}
    return "Cast" in readers and readers <= {"Cast", "Shape"}


def _is_finite(tensor: TensorProto) -> bool:
    values = numpy_helper.to_array(tensor)
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _describe(info: onnx.ValueInfoProto) -> tuple[str, int, tuple[int | str, ...]]:
    tensor = info.type.tensor_type
    return info.name, tensor.elem_type, tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckError(f"the exported graph breaks the graph contract: {otherwise}; no file was kept")

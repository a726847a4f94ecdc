"""Tiny models with known answers, made by hand: what they find follows from the colours alone.

The segmenter sees red: its map is mean(red) - (mean(green) + mean(blue)) / 2 of each cell of 4x4 pixels. The
classifier of the label space `tiny` calls a crop a target from a mean red of 170 on, and names its head `kind`
by what is added to the red: nothing `plain`, blue `pink`, green `orange`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from nvidia_standin import World
from onnx import TensorProto, helper, numpy_helper

from aerial_runtime.card import (
    CARD_METADATA_KEY,
    Head,
    LabelSpace,
    ModelCard,
    TensorSpec,
    Thresholds,
    card_to_json,
    load_label_space,
)
from aerial_runtime.classify import expected_outputs
from aerial_runtime.log import setup_log

STRIDE = 4
CROP_SIZE = 16
TINY = LabelSpace("tiny", (Head("kind", ("plain", "pink", "orange")),))
SUAS_HEADING = (0.6, -0.8)  # to the right and up: 36.87 degrees, NE
ONNX_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def segmenter_card(**changes: Any) -> ModelCard:
    """Return the card of the segmenter that sees red."""
    card = ModelCard(
        kind="segmenter",
        name="sees-red",
        label_space=TINY,
        inputs=(TensorSpec("frame", "uint8", (1, "height", "width", 3)),),
        outputs=(TensorSpec("probability", "uint8", (1, "rows", "columns")),),
        crop_margin=1.0,
        stride=STRIDE,
    )
    return msgspec.structs.replace(card, **changes)


def classifier_card(**changes: Any) -> ModelCard:
    """Return the card of the classifier that reads colours."""
    space = changes.get("label_space", TINY)
    outputs = tuple(TensorSpec(name, "float32", ("crops", k)) for name, k in expected_outputs(space).items())
    card = ModelCard(
        kind="classifier",
        name="reads-colours",
        label_space=space,
        inputs=(TensorSpec("crops", "uint8", ("crops", CROP_SIZE, CROP_SIZE, 3)),),
        outputs=outputs,
        crop_margin=1.0,
        crop_size=CROP_SIZE,
        thresholds=Thresholds(target=0.5),
    )
    return msgspec.structs.replace(card, **changes)


def _save(path: Path, card: ModelCard | None, nodes: list[Any], constants: dict[str, Any], specs: ModelCard) -> Path:
    """Write a graph; `specs` gives inputs and outputs, `card` the metadata (None: a model without card)."""

    def infos(tensors: tuple[TensorSpec, ...]) -> list[Any]:
        return [helper.make_tensor_value_info(t.name, ONNX_TYPES[t.dtype], list(t.shape)) for t in tensors]

    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", infos(specs.inputs), infos(specs.outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        helper.set_model_props(model, {CARD_METADATA_KEY: card_to_json(card)})
    path.write_bytes(model.SerializeToString())
    return path


def build_segmenter(path: Path, card: ModelCard | None, shift: int = 0) -> Path:
    """Write the segmenter that sees red; shift: cells by which its map is too high, for tests of a broken model."""
    red = np.array([-0.5, -0.5, 1.0], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "red"], ["redness"]),
        helper.make_node("AveragePool", ["redness"], ["cells"], kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1),
        helper.make_node("Pad", ["cells", "pads"], ["padded"]),
        helper.make_node("Clip", ["padded", "low", "high"], ["clipped"]),
        helper.make_node("Add", ["clipped", "half"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["map"], to=TensorProto.UINT8),
        helper.make_node("Squeeze", ["map", "channel"], ["probability"]),
    ]
    constants = {
        "red": red,
        "pads": np.array([0, 0, 0, 0, 0, 0, shift, 0], np.int64),
        "low": np.float32(0),
        "high": np.float32(255),
        "half": np.float32(0.4),
        "channel": np.array([1], np.int64),
    }
    return _save(path, card, nodes, constants, segmenter_card())


def build_classifier(path: Path, card: ModelCard | None, space: LabelSpace = TINY, broken: str | None = None) -> Path:
    """Write the classifier that reads colours; broken: the output that is NaN.

    Heads of a space other than `tiny` always answer their first class, heading SUAS_HEADING.
    """
    nodes = [
        helper.make_node("Cast", ["crops"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["bgr"], axes=[1, 2], keepdims=0),
    ]
    constants: dict[str, Any] = {}
    for name, size in expected_outputs(space).items():
        weight, bias = np.zeros((3, size), np.float32), np.zeros(size, np.float32)
        if name == "target":
            weight[2, 0], bias[0] = 0.2, -34.0
        elif name == "heading":
            bias[:] = SUAS_HEADING
        elif space == TINY:
            weight[0, 1] = weight[1, 2] = 0.1
            bias[0] = 8.0
        else:
            bias[0] = 20.0
        if name == broken:
            bias[0] = np.nan
        constants |= {f"{name}_w": weight, f"{name}_b": bias}
        nodes.append(helper.make_node("Gemm", ["bgr", f"{name}_w", f"{name}_b"], [f"{name}_raw"]))
        activation = {"target": "Sigmoid", "heading": "Identity"}.get(name, "Softmax")
        nodes.append(helper.make_node(activation, [f"{name}_raw"], [name]))
    return _save(path, card, nodes, constants, classifier_card(label_space=space))


class Kit:
    """The makers above for test files, which cannot import a conftest."""

    tiny = TINY
    stride = STRIDE
    crop_size = CROP_SIZE
    segmenter_card = staticmethod(segmenter_card)
    classifier_card = staticmethod(classifier_card)
    build_segmenter = staticmethod(build_segmenter)
    build_classifier = staticmethod(build_classifier)

    @staticmethod
    def frame(width: int = 64, height: int = 48, *squares: tuple[int, int, int, tuple[int, int, int]]) -> Any:
        """Return a black frame, uint8 [H, W, 3], with squares (x, y, side in pixels, BGR) painted in it."""
        image_bgr = np.zeros((height, width, 3), np.uint8)
        for x, y, side, color_bgr in squares:
            image_bgr[y : y + side, x : x + side] = color_bgr
        return image_bgr


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """Hear Ctrl-C also where the tests were started in the background, where a shell makes its children deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_that_left_nothing_out() -> None:
    """Begin each test with a fresh log: in one process, a message like one of the test before would be left out."""
    setup_log("console")


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """The makers of tiny models and frames."""
    return Kit


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for --models: both tiny models."""
    folder = tmp_path_factory.mktemp("tiny_models")
    build_segmenter(folder / "segmenter.onnx", segmenter_card())
    build_classifier(folder / "classifier.onnx", classifier_card())
    return folder


@pytest.fixture(scope="session")
def suas_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for the label space `suas`."""
    folder = tmp_path_factory.mktemp("suas_models")
    space = load_label_space("suas")
    build_segmenter(folder / "segmenter.onnx", segmenter_card(label_space=space))
    build_classifier(folder / "classifier.onnx", classifier_card(label_space=space), space)
    return folder


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], World]:
    """Put the stand-ins of a machine with a GPU in the place of TensorRT and PyCUDA."""

    def plug(world: World) -> World:
        for name, module in world.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        return world

    return plug


@pytest.fixture
def world(plug_in: Callable[[World], World]) -> World:
    """A machine with a GPU and the TensorRT of JetPack 6."""
    return plug_in(World("10.3.0"))

"""Checkpoint -> one self-describing ONNX graph by the graph contract.

What the exported graph does beyond the network, see docs/decisions.md:
- it reads uint8 images as the camera gives them: Cast, then Reshape [N, H, W, 3] -> [N, 1, H, 3W], and the first
  convolution k x k of stride s becomes k x 3k of stride (s, 3s): the same sums without a transpose;
- batch norms, the scaling by 1/255 and the temperatures are folded into weights;
- it returns what the runtime needs: a uint8 map, or calibrated probabilities per head.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from aerial_export.graph_contract import IR_VERSION, OPSET
from aerial_export.onnx_file import put_card
from aerial_export.source import Source
from aerial_runtime.card import CARD_METADATA_KEY, ModelCard, card_to_json
from aerial_runtime.contract import U8
from aerial_train.checkpoint import Checkpoint, load_checkpoint
from aerial_train.classifier import HEADING, TARGET, Classifier
from aerial_train.layers import FULL_SCALE, fold_norms
from aerial_train.unet import UNet


def open_checkpoint(path: Path) -> Source:
    """Return the source of a checkpoint, whose answers by PyTorch are right. Raises ModelError."""
    checkpoint = load_checkpoint(path)
    model = build_model(checkpoint)
    card = put_card(model, checkpoint.card, "fp32", {"checkpoint": checkpoint.sha256}, ("torch", "onnxscript"))
    return Source(
        model,
        card,
        model.SerializeToString(),
        f"PyTorch {torch.__version__}",
        lambda images: _answer(checkpoint, images),
        proven=False,
    )


def build_model(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Return the ONNX model of a checkpoint, card inside."""
    card = checkpoint.card
    network = _flight_form(checkpoint.network, card)
    if isinstance(network, UNet):
        model = _exported(_SegmenterGraph(network), torch.zeros(1, 75, 93, 3, dtype=torch.uint8), card, axes=(1, 2))
    else:
        size = card.crop_size or 0
        model = _exported(_ClassifierGraph(network), torch.zeros(3, size, size, 3, dtype=torch.uint8), card, axes=(0,))
    _name_shapes(model, card)
    for part in (model, *model.graph.node, model.graph):
        del part.metadata_props[:]  # the exporter's notes: stack traces with the paths of this machine
        part.doc_string = ""
    del model.graph.value_info[:]
    model.metadata_props.add(key=CARD_METADATA_KEY, value=card_to_json(card))
    model.ir_version = IR_VERSION
    return model


@torch.no_grad()
def _answer(checkpoint: Checkpoint, images: U8) -> dict[str, U8]:
    """Compute the graph's outputs by PyTorch, from the plain network."""
    outputs = checkpoint.network(torch.from_numpy(images))
    if isinstance(outputs, Tensor):
        return {"probability": _mask(outputs).numpy()}
    temperature = checkpoint.card.temperature
    cooled = {name: values / temperature.get(name, 1.0) for name, values in outputs.items() if name != HEADING}
    return {name: _probability(name, cooled.get(name, values)).numpy() for name, values in outputs.items()}


def _mask(logits: Tensor) -> Tensor:
    """Return uint8 [N, h, w], 255 = target, of logits [N, 1, h, w]."""
    return (torch.sigmoid(logits) * 255 + 0.5).clamp(0, 255).to(torch.uint8).squeeze(1)


def _probability(name: str, values: Tensor) -> Tensor:
    """Return a head's probabilities [N, K], the target's [N, 1], or the heading [N, 2] as it is."""
    if name == HEADING:
        return values
    return torch.sigmoid(values) if name == TARGET else torch.softmax(values, dim=1)


class _SegmenterGraph(nn.Module):
    """`frame` uint8 [1, H, W, 3] -> `probability` uint8 [1, ceil(H/s), ceil(W/s)]."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> Tensor:
        _, height, width, channels = frame.shape
        row = frame.float().reshape(1, 1, height, width * channels)  # [1, 1, H, 3W]
        return _mask(self.network.from_planes(row))


class _ClassifierGraph(nn.Module):
    """`crops` uint8 [N, S, S, 3] -> one float32 [N, K] per head, in the card's order."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        count, height, width, channels = crops.shape
        row = crops.float().reshape(count, 1, height, width * channels)  # [N, 1, S, 3S]
        outputs = self.network.from_planes(row)
        return tuple(_probability(name, values) for name, values in outputs.items())


def _flight_form(trained: UNet | Classifier, card: ModelCard) -> UNet | Classifier:
    """Return a copy without norms, whose first convolution reads rows of bytes and whose logits are calibrated."""
    network = copy.deepcopy(trained).eval()
    fold_norms(network)
    _read_rows(network)
    if isinstance(network, Classifier):
        start = 0
        for name, width in network.widths.items():
            rows = slice(start, start + width)
            network.heads.weight.data[rows] /= card.temperature.get(name, 1.0)
            network.heads.bias.data[rows] /= card.temperature.get(name, 1.0)
            start += width
    return network


def _read_rows(network: nn.Module) -> None:
    """Make the first convolution read [N, 1, H, 3W] bytes instead of [N, 3, H, W] planes of 0..1, in place."""
    for module in network.modules():
        if isinstance(module, nn.ZeroPad2d):  # of a patch stem; nothing else in our networks pads the image
            left, right, top, bottom = module.padding
            module.padding = (3 * left, 3 * right, top, bottom)
    path, planes = next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    channels = planes.in_channels
    (height, width), (down, right) = planes.kernel_size, planes.stride
    above, beside = (0, 0) if isinstance(planes.padding, str) else planes.padding
    kernel, stride, padding = (height, channels * width), (down, channels * right), (above, channels * beside)
    rows = nn.Conv2d(1, planes.out_channels, kernel, stride, padding)
    flat = planes.weight.data.permute(0, 2, 3, 1).reshape(rows.weight.shape)  # columns in the order of the bytes
    rows.weight.data, rows.bias = flat / FULL_SCALE, planes.bias
    owner, _, name = path.rpartition(".")
    setattr(network.get_submodule(owner), name, rows)


def _exported(graph: nn.Module, example: Tensor, card: ModelCard, axes: tuple[int, ...]) -> onnx.ModelProto:
    """Run PyTorch's exporter; `axes` of the input may have any size."""
    with _quiet_exporter():
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in card.inputs],
            output_names=[spec.name for spec in card.outputs],
            dynamic_shapes=(dict.fromkeys(axes, torch.export.Dim.DYNAMIC),),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """PyTorch's exporter reports that torchvision is missing, and deprecations of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def _name_shapes(model: onnx.ModelProto, card: ModelCard) -> None:
    """Give inputs and outputs the shapes of the card, so that their open axes have names a reader understands."""
    for infos, specs in ((model.graph.input, card.inputs), (model.graph.output, card.outputs)):
        types = [info.type.tensor_type.elem_type for info in infos]
        del infos[:]
        for spec, elem_type in zip(specs, types, strict=True):
            infos.append(helper.make_tensor_value_info(spec.name, elem_type, list(spec.shape)))

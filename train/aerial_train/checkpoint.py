"""A trained model in one file: weights, the network's configuration, and the card that says what it is.

The file is what `torch.save` makes of plain tensors, strings and numbers, so `weights_only=True` loads it: a
checkpoint from a stranger cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import torch
from torch import Tensor

from aerial_runtime.card import CARD_METADATA_KEY, LabelSpace, ModelCard, TensorSpec, card_from_json, card_to_json
from aerial_runtime.errors import ModelError, ResourceError
from aerial_train.classifier import HEADING, TARGET, Classifier, ClassifierConfig
from aerial_train.unet import UNet, UNetConfig
from aerial_train.unetpp import make_unet

FORMAT: Final = "aerial.checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode with its weights, and its card. sha256: hex, of the file it was read from."""

    network: UNet | Classifier
    card: ModelCard
    sha256: str = ""


def segmenter_tensors(stride: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and outputs of a segmenter's graph (the graph contract)."""
    frame = TensorSpec("frame", "uint8", (1, "height", "width", 3))
    mask = TensorSpec("probability", "uint8", (1, f"ceil(height/{stride})", f"ceil(width/{stride})"))
    return (frame,), (mask,)


def classifier_tensors(space: LabelSpace, crop_size: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and outputs of a classifier's graph (the graph contract)."""
    crops = TensorSpec("crops", "uint8", ("crops", crop_size, crop_size, 3))
    widths = {head.name: len(head.classes) for head in space.heads} | {TARGET: 1}
    if space.heading is not None:
        widths[HEADING] = 2
    return (crops,), tuple(TensorSpec(name, "float32", ("crops", width)) for name, width in widths.items())


def save_checkpoint(path: Path, network: UNet | Classifier, card: ModelCard) -> ModelCard:
    """Write network and card in one file, whole or not at all; return the card with the weights' hash in it.

    Raises ResourceError where the file cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    card = msgspec.structs.replace(card, weights_sha256=weights_sha256(weights))
    content = {
        "format": FORMAT,
        "weights": weights,
        "network": asdict(network.config),
        CARD_METADATA_KEY: card_to_json(card),
    }
    write_content(path, content)
    return card


def write_content(path: Path, content: Any) -> None:
    """Write what torch can save, whole or not at all. Raises ResourceError where the file cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        data = io.BytesIO()
        torch.save(content, data)  # into memory, for of a full disk it says neither that nor OSError
        with temporary.open("wb") as file:
            file.write(data.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # a second Ctrl-C too
        with suppress(OSError):  # where there was never one, too
            temporary.unlink()
        if isinstance(error, OSError):
            raise ResourceError(
                f"cannot write the checkpoint {path} ({error.strerror}); choose another --out"
            ) from error
        raise


def load_checkpoint(path: Path, kind: Literal["segmenter", "classifier"] | None = None) -> Checkpoint:
    """Return the network and card of a file that `save_checkpoint` wrote.

    kind: the kind that is wanted, if it matters. Raises ModelError for a file that is missing, no checkpoint of
    aerial, damaged, or of the other kind.
    """
    content, sha256 = _read(path)
    card = card_from_json(content[CARD_METADATA_KEY], str(path))
    if kind is not None and card.kind != kind:
        raise ModelError(f"{path} is a {card.kind}, a {kind} is needed: give the other checkpoint")
    weights = content["weights"]
    if weights_sha256(weights) != card.weights_sha256:
        raise ModelError(f"the weights in {path} are not those its card describes; copy the file again, or train anew")
    if not all(torch.isfinite(tensor).all() for tensor in weights.values() if tensor.is_floating_point()):
        raise ModelError(f"the weights in {path} hold NaN or infinity, the training has diverged; train anew")
    try:
        network = build_network(card, content["network"])
        network.load_state_dict(weights, strict=True)
    except (msgspec.ValidationError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the network described in {path} does not fit its weights ({reason}); train anew") from error
    return Checkpoint(network.eval(), card, sha256)


def build_network(card: ModelCard, config: dict[str, Any]) -> UNet | Classifier:
    """Return an untrained network. Raises ValueError or msgspec.ValidationError for an impossible configuration."""
    if card.kind == "segmenter":
        return make_unet(msgspec.convert(config, UNetConfig))
    return Classifier(msgspec.convert(config, ClassifierConfig), card.label_space)


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """Return the hex SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Return a file's content and its hex SHA-256, both of one reading: a training may replace the file meanwhile."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path} ({error.strerror}); check the path") from error
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged or no checkpoint of aerial-train; give a best.pt or last.pt") from error
    if not isinstance(content, dict) or "weights" not in content or "network" not in content:
        raise ModelError(f"{path} is no checkpoint of aerial-train; give a best.pt or last.pt")
    if not isinstance(content.get(CARD_METADATA_KEY), str):
        raise ModelError(f"{path} has no model card; only checkpoints that aerial-train wrote can be used")
    if content.get("format") != FORMAT:
        raise ModelError(f"{path} has the format {content.get('format')!r}, this version reads {FORMAT!r}; train anew")
    return content, hashlib.sha256(data).hexdigest()

"""ONNX files: read with a sentence for what is wrong, written with their card. Free of torch."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgspec
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto

from aerial_runtime.card import CARD_METADATA_KEY, Artefact, ModelCard, Precision, card_from_json, card_to_json
from aerial_runtime.errors import ModelError


def read_model(path: Path) -> tuple[bytes, ModelProto, ModelCard]:
    """Return a file's bytes, the model in it, and the model's card. Raises ModelError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path} ({error.strerror}); check the path") from error
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"{path} is truncated or no ONNX model ({reason}); copy it again, or export it anew"
        ) from error
    text = next((item.value for item in model.metadata_props if item.key == CARD_METADATA_KEY), None)
    if text is None:
        raise ModelError(f"{path} holds no model card; make it with aerial-export, which puts the card inside")
    return data, model, card_from_json(text, str(path))


def put_card(
    model: ModelProto, card: ModelCard, precision: Precision, ancestors: dict[str, str], tools: tuple[str, ...]
) -> ModelCard:
    """Put a card into a model, in place of one it has, and return it as it stands there: with how it was made.

    ancestors: role -> hex SHA-256. tools: the distributions whose versions matter.
    """
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    versions = {name: version(name) for name in ("aerial", "onnx", *tools)}
    card = msgspec.structs.replace(card, artefact=Artefact(precision, opset, ancestors, versions))
    del model.metadata_props[:]
    model.metadata_props.add(key=CARD_METADATA_KEY, value=card_to_json(card))
    return card

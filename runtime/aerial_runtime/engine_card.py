"""The card beside a TensorRT engine: the model's own card, what the engine is bound to, how to build it again.

An engine runs on the GPU and the TensorRT that it was built with and on no other, so it is checked before it flies.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from aerial_runtime.card import ModelCard, Precision, TensorSpec, card_from_json
from aerial_runtime.contract import DECODE_ERRORS
from aerial_runtime.errors import ModelError

ENGINE_SCHEMA: Final = "aerial.engine/1"
ENGINE_SUFFIX: Final = ".engine"
CARD_SUFFIX: Final = ".json"  # behind the engine's whole name
# What `engine_name` puts behind a model's name, which may hold dots of its own.
NAME_ENDING: Final = re.compile(r"\.[a-z0-9-]*(\.\d+)+(\.post\d+)?\.fp(16|32)$")

Pixels = Annotated[int, msgspec.Meta(ge=1)]


class Host(msgspec.Struct, frozen=True):
    """What an engine is bound to. compute_capability: "major.minor". tensorrt: the whole version."""

    gpu: str
    compute_capability: str
    tensorrt: str


class EngineCard(msgspec.Struct, frozen=True, kw_only=True, rename={"schema_": "schema"}):
    """Everything that must be known of an engine.

    card: the model's, its inputs and outputs as the engine has them. host: where it runs. onnx: name of the FP32 file,
    for who builds it again. sha256: hex, of the engine. key: hex SHA-256 of everything that went into the building.
    frame_size: width, height in pixels (segmenter). max_crops: a call's largest batch (classifier).
    """

    card: ModelCard
    host: Host
    onnx: str
    sha256: str
    key: str
    workspace_mib: int
    frame_size: tuple[Pixels, Pixels] | None = None
    max_crops: Annotated[int, msgspec.Meta(ge=1)] | None = None
    schema_: Literal["aerial.engine/1"] = ENGINE_SCHEMA

    def __post_init__(self) -> None:
        """Raise ValueError where the size that the kind needs is missing."""
        if (self.frame_size if self.card.kind == "segmenter" else self.max_crops) is None:
            raise ValueError(f"the engine of a {self.card.kind} needs its size")

    def largest_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the largest shape of an input or output; the only open axis is the crops'."""
        return tuple(self.max_crops or 0 if isinstance(axis, str) else axis for axis in spec.shape)


class _Versions(msgspec.Struct):
    card: msgspec.Raw
    schema: str = ""


def host_tag(host: Host) -> str:
    """Return what file names call a host: "orin.10.3.0"."""
    return f"{re.sub(r'[^a-z0-9]+', '-', host.gpu.lower()).strip('-')}.{host.tensorrt}"


def engine_name(name: str, host: Host, precision: Precision) -> str:
    """Return the file name of the engine of a model called `name` on this host."""
    return f"{name}.{host_tag(host)}.{precision}{ENGINE_SUFFIX}"


def card_path(engine: Path) -> Path:
    """Return the path of an engine's card."""
    return engine.with_name(engine.name + CARD_SUFFIX)


def engine_card_to_json(card: EngineCard) -> str:
    """Return the card as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(card), indent=1).decode()


def read_engine_card(engine: Path) -> EngineCard:
    """Return the card beside an engine. Raises ModelError."""
    path = card_path(engine)
    try:
        text = path.read_bytes()
        versions = msgspec.json.decode(text, type=_Versions)
        if versions.schema != ENGINE_SCHEMA:
            raise ModelError(
                f"the engine card {path} is of the version {versions.schema!r}, this program reads {ENGINE_SCHEMA!r}; "
                + build_again(engine)
            )
        card_from_json(bytes(versions.card), str(path))
        return msgspec.json.decode(text, type=EngineCard)
    except OSError as error:
        raise ModelError(
            f"cannot read the engine card {path} ({error.strerror}), without which the engine does not fly; "
            f"copy it too, or {build_again(engine)}"
        ) from error
    except DECODE_ERRORS as error:
        raise ModelError(f"the engine card {path} is not valid ({error}); {build_again(engine)}") from error


def check_engine(engine: Path, data: bytes, card: EngineCard) -> None:
    """Raise ModelError where `data`, the engine's bytes, or the ONNX file beside it are not those of its card."""
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ModelError(
            f"{engine} is not the file that {card_path(engine).name} describes: truncated, changed, or of another "
            f"model; {build_again(engine, card)}"
        )
    onnx = engine.with_name(card.onnx)
    if onnx.is_file():
        check_source(engine, card, onnx)


def check_source(engine: Path, card: EngineCard, onnx: Path) -> None:
    """Raise ModelError unless an ONNX file is among an engine's ancestors."""
    made = card.card.artefact
    if made is None or hashlib.sha256(onnx.read_bytes()).hexdigest() not in made.ancestors.values():
        again = build_again(engine, card)
        raise ModelError(f"{engine} was built from another {onnx.name} than that beside it; {again}")


def check_host(engine: Path, card: EngineCard, here: Host) -> None:
    """Raise ModelError with what differs where an engine was built for another GPU or TensorRT."""
    pairs = [
        ("GPU", card.host.gpu, here.gpu),
        ("compute capability", card.host.compute_capability, here.compute_capability),
        ("TensorRT", card.host.tensorrt, here.tensorrt),
    ]
    differing = [f"{what} {theirs}, here is {ours}" for what, theirs, ours in pairs if theirs != ours]
    if differing:
        raise ModelError(f"{engine} was built for {', and for '.join(differing)}; {build_again(engine, card)}")


def build_again(engine: Path, card: EngineCard | None = None, frame_size: tuple[int, int] | None = None) -> str:
    """Return the end of a sentence: the command that builds an engine anew. frame_size: if not that of the card."""
    onnx = card.onnx if card is not None else NAME_ENDING.sub("", engine.name.removesuffix(ENGINE_SUFFIX)) + ".onnx"
    command = f"aerial-export {engine.with_name(onnx)} --engine"
    size = frame_size or (card.frame_size if card is not None else None)
    if size is not None:
        command += f" --frame-size {size[0]}x{size[1]}"
    if card is not None and card.max_crops is not None:
        command += f" --max-crops {card.max_crops}"
    return f"build it here with: {command}"

"""The model card: what a model is, travelling inside each artefact so that no runtime can get it wrong."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from aerial_runtime.contract import DECODE_ERRORS
from aerial_runtime.errors import InputError, ModelError

CARD_SCHEMA: Final = "aerial.card/1"
VIEWS: Final = range(1, 5)  # of a crop there are, by quarter turns
CARD_METADATA_KEY = "aerial.card"  # in ONNX metadata_props and in checkpoints
SHIPPED_LABEL_SPACE = "suas"

Precision = Literal["fp32", "fp16"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One question about a target and its ordered answers.

    draw: class -> drawn attributes (shape, letter, shape_color, letter_color) for the scene generator.
    A class without an entry is drawn with the attribute of the head's name set to the class's name.
    """

    name: str
    classes: tuple[str, ...]
    draw: dict[str, dict[str, str]] = {}


class Heading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the unit vector of letter-up becomes the attribute `name`.

    sectors: labels clockwise, the first centred on image-up, all of equal width.
    head: the head whose classes may be symmetric; any_angle: its classes that look the same at every
    angle; half_turn: its classes that repeat after 180 degrees.
    """

    name: str
    sectors: tuple[str, ...]
    head: str
    any_angle: tuple[str, ...]
    half_turn: tuple[str, ...]


class LabelSpace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The class tables of one mission: data, never code. heading is null where nothing has a direction."""

    name: str
    heads: tuple[Head, ...]
    heading: Heading | None = None

    def __post_init__(self) -> None:
        """Raise ValueError (msgspec turns it into a ValidationError) for tables that cannot be trained on."""
        names = [head.name for head in self.heads]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"label space {self.name!r} needs at least one head, and head names that differ")
        reserved = {"target", "heading"} & set(names)
        if reserved:
            raise ValueError(f"label space {self.name!r}: the head name {reserved.pop()!r} is reserved")
        for head in self.heads:
            if len(head.classes) < 2 or len(set(head.classes)) != len(head.classes):
                raise ValueError(f"head {head.name!r} needs at least two classes, all different")
            unknown = set(head.draw) - set(head.classes)
            if unknown:
                raise ValueError(f"head {head.name!r} draws {sorted(unknown)}, which are not among its classes")
        if self.heading is not None:
            self._check_heading(self.heading, names)

    def _check_heading(self, heading: Heading, names: list[str]) -> None:
        if heading.name in names:
            raise ValueError(f"the heading's name {heading.name!r} is also a head's name")
        if len(heading.sectors) < 2:
            raise ValueError("a heading needs at least two sectors")
        if heading.head not in names:
            raise ValueError(f"the heading's head {heading.head!r} is not a head; there are {names}")
        classes = set(self.head(heading.head).classes)
        strange = (set(heading.any_angle) | set(heading.half_turn)) - classes
        if strange:
            raise ValueError(f"symmetric classes {sorted(strange)} are not classes of head {heading.head!r}")

    def head(self, name: str) -> Head:
        """Return the head of that name; KeyError if there is none."""
        for head in self.heads:
            if head.name == name:
                return head
        raise KeyError(name)


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, dtype ("uint8", "float32") and shape of one graph input or output; a string is a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where probabilities become decisions, all 0..1.

    mask: a cell belongs to a target (segmenter). target: a crop is a target (classifier).
    abstain: head or heading name -> confidence under which the label is withheld.
    """

    mask: Share = 0.5
    target: Share = 0.5
    abstain: dict[str, Share] = {}


class Artefact(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a file was made from a checkpoint.

    precision: of the arithmetic inside; inputs and outputs are uint8 and float32 in each. opset: of the ONNX graph.
    ancestors: role (checkpoint, onnx, fp16.onnx) -> hex SHA-256 of the file it was made from. tools: name -> version.
    """

    precision: Precision = "fp32"
    opset: int | None = None
    ancestors: dict[str, str] = {}
    tools: dict[str, str] = {}


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, rename={"schema_": "schema"}):
    """Everything the runtime and a reader must know of a model.

    stride: pixels per mask cell (segmenter). crop_size: pixels (classifier). crop_margin: the side of the
    square crop over the longer side of the box; both models of a pair must agree on it.
    views: quarter turns of a crop whose answers the runtime averages, 1..4, 1 being the crop alone (classifier).
    temperature: head -> value baked into the graph. training: data, seed, commit, steps and full configuration.
    scores: measured on held-out data, name -> value. weights_sha256: of the trained weights.
    artefact: how this file was made; null in a checkpoint, and in files of before it was recorded.
    """

    kind: Literal["segmenter", "classifier"]
    name: str
    label_space: LabelSpace
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    crop_margin: float
    stride: int | None = None
    crop_size: int | None = None
    views: int = 1
    thresholds: Thresholds = Thresholds()
    temperature: dict[str, float] = {}
    training: dict[str, Any] = {}
    scores: dict[str, float] = {}
    weights_sha256: str = ""
    artefact: Artefact | None = None
    schema_: Literal["aerial.card/1"] = CARD_SCHEMA

    def __post_init__(self) -> None:
        """Raise ValueError where the fields that the kind needs are missing or out of range."""
        if self.kind == "segmenter" and (self.stride is None or self.stride < 1):
            raise ValueError("a segmenter's card needs a stride of at least 1")
        if self.kind == "classifier" and (self.crop_size is None or self.crop_size < 8):
            raise ValueError("a classifier's card needs a crop_size of at least 8 pixels")
        if self.views not in VIEWS or (self.kind == "segmenter" and self.views > 1):
            raise ValueError(f"views must be within 1..{VIEWS[-1]}, and 1 for a segmenter, is {self.views}")
        if not 1.0 <= self.crop_margin <= 4.0:
            raise ValueError(f"crop_margin must be within 1..4, is {self.crop_margin}")

    @property
    def precision(self) -> Precision:
        """Precision of the arithmetic inside the file."""
        return self.artefact.precision if self.artefact else "fp32"


class _Versioned(msgspec.Struct):
    schema: str = CARD_SCHEMA


def card_to_json(card: ModelCard) -> str:
    """Return the card as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(card), indent=1).decode()


def card_from_json(text: str | bytes, where: str) -> ModelCard:
    """Parse and check a card; `where` names the file in the error. Raises ModelError."""
    try:
        schema = msgspec.json.decode(text, type=_Versioned).schema
        if schema != CARD_SCHEMA:
            raise ModelError(
                f"the model card in {where} is of the version {schema!r}, this program reads {CARD_SCHEMA!r}; "
                "export the model again with this version, or update aerial here"
            )
        return msgspec.json.decode(text, type=ModelCard)
    except DECODE_ERRORS as error:  # ValidationError is one
        raise ModelError(f"the model card in {where} is not valid ({error}); export the model again") from error


def load_label_space(name_or_path: str) -> LabelSpace:
    """Return a label space from a JSON file, or the shipped one of that name. Raises InputError."""
    shipped = files("aerial_runtime").joinpath("label_spaces", f"{name_or_path}.json")
    try:
        text = shipped.read_bytes() if shipped.is_file() else Path(name_or_path).read_bytes()
        return msgspec.json.decode(text, type=LabelSpace)
    except OSError as error:
        raise InputError(
            f"cannot read the label space {name_or_path!r} ({error.strerror}); "
            f"give a JSON file, or {SHIPPED_LABEL_SPACE!r} for the shipped one"
        ) from error
    except DECODE_ERRORS as error:
        raise InputError(f"the label space in {name_or_path} is not valid: {error}") from error

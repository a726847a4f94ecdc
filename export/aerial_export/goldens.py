"""Inputs with the right answers, stored beside a model: what the gate judges by. Free of torch and onnx."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import LabelledBox

SCHEMA: Final = "aerial.goldens/1"
SUFFIX: Final = ".goldens.npz"

Answer = dict[str, npt.NDArray[Any]]

# What NumPy raises for a damaged archive depends on the byte that is damaged. RuntimeError: of a file that seems to be
# encrypted, and NotImplementedError, of another compression, is one.
DAMAGE: Final = (
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError, zlib.error, msgspec.DecodeError,
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """What a model is asked.

    images: for its one input. is_scene: like the training's pictures, so that labels count. truth: a frame's targets.
    """

    name: str
    images: U8
    is_scene: bool = False
    truth: tuple[LabelledBox, ...] = ()


@dataclass(frozen=True)
class Golden:
    """An input and its right answer: output name -> array. control: what a model with perturbed weights answers."""

    name: str
    images: U8
    answer: Answer
    control: Answer
    is_scene: bool = False
    truth: tuple[LabelledBox, ...] = ()


@dataclass(frozen=True)
class GoldenSet:
    """The goldens of one model.

    reference: who computed the answers, for readers. weights_sha256: of the model's card; goldens of other weights
    judge nothing. onnx_sha256: hex, of the FP32 file.
    """

    reference: str
    weights_sha256: str
    onnx_sha256: str
    inputs: tuple[Golden, ...]


class _Entry(msgspec.Struct):
    """What is stored of a golden beside its arrays."""

    name: str
    is_scene: bool
    truth: list[LabelledBox]


class _Index(msgspec.Struct, rename={"schema_": "schema"}):
    reference: str
    weights_sha256: str
    onnx_sha256: str
    inputs: list[_Entry]
    schema_: Literal["aerial.goldens/1"] = SCHEMA


def goldens_to_bytes(goldens: GoldenSet) -> bytes:
    """Return the set as a compressed NumPy archive."""
    entries = [_Entry(golden.name, golden.is_scene, list(golden.truth)) for golden in goldens.inputs]
    index = _Index(goldens.reference, goldens.weights_sha256, goldens.onnx_sha256, entries)
    arrays: Answer = {"index": np.frombuffer(msgspec.json.encode(index), np.uint8)}
    for number, golden in enumerate(goldens.inputs):
        arrays[f"{number}/images"] = golden.images
        arrays |= {f"{number}/answer/{name}": values for name, values in golden.answer.items()}
        arrays |= {f"{number}/control/{name}": values for name, values in golden.control.items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def goldens_from_bytes(data: bytes, where: str) -> GoldenSet:
    """Return the set that `goldens_to_bytes` packed; `where` names the file in the error. Raises InputError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays: Answer = dict(file)
        index = msgspec.json.decode(arrays["index"].tobytes(), type=_Index)
        inputs = tuple(_golden(number, entry, arrays) for number, entry in enumerate(index.inputs))
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"the goldens in {where} are damaged ({reason}); copy them again, or export anew") from error
    return GoldenSet(index.reference, index.weights_sha256, index.onnx_sha256, inputs)


def goldens_beside(path: Path, card: ModelCard) -> GoldenSet:
    """Return the goldens of a model file, NAME.goldens.npz for NAME.onnx and all that was made of it.

    Raises InputError where there are none, or those of other weights.
    """
    places = [path.with_name(f"{stem}{SUFFIX}") for stem in _stems(path.name)]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise InputError(
            f"{path} has no goldens beside it ({places[-1].name}), so nothing can be checked; "
            "copy them from where it was exported, or run aerial-export on the FP32 model"
        )
    try:
        goldens = goldens_from_bytes(place.read_bytes(), str(place))
    except OSError as error:
        raise InputError(f"cannot read the goldens {place} ({error.strerror}); copy them again") from error
    check_owner(goldens, card, place.name, path.name)
    return goldens


def check_owner(goldens: GoldenSet, card: ModelCard, goldens_name: str, model_name: str) -> None:
    """Raise InputError where the goldens are those of other weights."""
    if goldens.weights_sha256 != card.weights_sha256:
        raise InputError(
            f"{goldens_name} belongs to other weights than {model_name} ({goldens.weights_sha256[:12]}, not "
            f"{card.weights_sha256[:12]}); run aerial-export on the FP32 model again"
        )


def _stems(name: str) -> list[str]:
    """Return what may be NAME of a file NAME.fp16.onnx or NAME.<gpu>.<tensorrt>.fp16.engine, the longest first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _golden(number: int, entry: _Entry, arrays: Answer) -> Golden:
    answer, control = (
        {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
        for prefix in (f"{number}/answer/", f"{number}/control/")
    )
    return Golden(
        entry.name, arrays[f"{number}/images"], answer, control, is_scene=entry.is_scene, truth=tuple(entry.truth)
    )

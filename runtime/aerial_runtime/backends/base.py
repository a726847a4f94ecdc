"""What every inference engine offers, and the checks that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import ModelCard, TensorSpec
from aerial_runtime.contract import U8
from aerial_runtime.errors import ModelError

Array = npt.NDArray[Any]
BackendT = TypeVar("BackendT", bound="Backend")


class Backend(ABC):
    """One loaded model. Constructing it opens it; `close`, or leaving the `with` block, frees it.

    name: file name, for messages. card: what the model says of itself. sha256: "sha256:<hex>" of the file.
    provider: the engine and device really used, never the one asked for.
    """

    def __init__(self, name: str, card: ModelCard, sha256: str, provider: str) -> None:
        """Raise ModelError unless the card lists exactly one input."""
        if len(card.inputs) != 1:
            raise ModelError(f"the card of {name} lists {len(card.inputs)} inputs instead of one; export it again")
        self.name = name
        self.card = card
        self.sha256 = sha256
        self.provider = provider

    @abstractmethod
    def _run(self, inputs: U8) -> Mapping[str, Array]:
        """Run the engine once on checked inputs; map the engine's own errors to ModelError or ResourceError."""

    def close(self) -> None:  # noqa: B027 (not abstract: a fake has nothing to free)
        """Free the engine. Calling it twice does no harm."""

    def infer(self, inputs: U8) -> dict[str, Array]:
        """Run the model once.

        inputs: the card's one input. Returns output name -> array, valid until the next call.
        Raises ModelError where inputs or outputs are not what the card promises, or an output holds NaN or infinity.
        """
        sizes: dict[str, int] = {}
        spec = self.card.inputs[0]
        if not _fits(spec, inputs, sizes):
            raise ModelError(f"{self.name} takes {_describe(spec)}, but was given {inputs.dtype} {list(inputs.shape)}")
        outputs = self._run(inputs)
        return {spec.name: self._checked(spec, outputs.get(spec.name), sizes) for spec in self.card.outputs}

    def _checked(self, spec: TensorSpec, output: Array | None, sizes: dict[str, int]) -> Array:
        if output is None:
            raise ModelError(f"{self.name} has no output {spec.name!r}, which its card promises; export it again")
        if not _fits(spec, output, sizes):
            got = f"{output.dtype} {list(output.shape)}"
            raise ModelError(f"{self.name} promises {_describe(spec)}, but computed {got}; export it again")
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            raise ModelError(f"{self.name} computed NaN or infinity in its output {spec.name!r}; do not fly this model")
        return output

    def __enter__(self: BackendT) -> BackendT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fits(spec: TensorSpec, array: Array, sizes: dict[str, int]) -> bool:
    """Compare dtype and shape; a dynamic axis must have the same size wherever its name appears in one call."""
    if array.dtype.name != spec.dtype or array.ndim != len(spec.shape):
        return False
    for axis, size in zip(spec.shape, array.shape, strict=True):
        wanted = sizes.setdefault(axis, size) if isinstance(axis, str) else axis
        if size != wanted:
            return False
    return True


def _describe(spec: TensorSpec) -> str:
    return f"{spec.name!r} as {spec.dtype} [{', '.join(map(str, spec.shape))}]"

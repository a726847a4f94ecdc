"""A backend without an engine, shipped for tests and for trying the pipeline: a card and a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aerial_runtime.backends.base import Array, Backend
from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8


class FakeBackend(Backend):
    """Answers with what `function` returns; the checks of the base class apply as to any engine."""

    def __init__(self, card: ModelCard, function: Callable[[U8], Mapping[str, Array]], name: str = "fake") -> None:
        """function: the card's input -> output name -> array."""
        super().__init__(name, card, sha256="sha256:" + "0" * 64, provider="fake")
        self._function = function

    def _run(self, inputs: U8) -> Mapping[str, Array]:
        return self._function(inputs)

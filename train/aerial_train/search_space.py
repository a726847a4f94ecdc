"""What a sweep varies: `lr=1e-4..1e-2:log`, `convs=1..3`, `filters=8-16-32,16-32-64`, `schedule=cosine,one-cycle`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import optuna

from aerial_runtime.errors import UsageError
from aerial_train.choices import nearest
from aerial_train.options import FitOptions
from aerial_train.run_options import FREE_WHEN_RESUMED, option_value


@dataclass(frozen=True)
class Dimension:
    """One option that varies: a range of numbers (both ends included), or a list of choices as the user wrote them."""

    name: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[str, ...] = ()

    def suggest(self, trial: optuna.Trial, options: type[FitOptions]) -> Any:
        """Return this trial's value of the option."""
        if self.choices:  # as text: a study's storage keeps only plain values
            return option_value(options, self.name, trial.suggest_categorical(self.name, self.choices), self.name)
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def parse_search(texts: Sequence[str], options: type[FitOptions]) -> list[Dimension]:
    """Return what `--search` asks for. Raises UsageError for an unknown option or a range that is none."""
    # A recipe is many options at once, and a trial would take its scenes alone.
    known = [item.name for item in fields(options) if item.name not in (*FREE_WHEN_RESUMED, "recipe")]
    dimensions = []
    for text in texts:
        word, sign, values = text.partition("=")
        name = word.strip().lstrip("-").replace("-", "_")
        if name not in known:
            raise UsageError(f"--search cannot vary {word!r}; {nearest(name, known)}")
        if not sign or not values:
            raise UsageError(f"--search {text!r} must look like lr=1e-4..1e-2:log or schedule=cosine,one-cycle")
        dimensions.append(_range(name, values, options) if ".." in values else _choices(name, values, options))
    if not dimensions:
        raise UsageError("a sweep needs something to vary; give --search NAME=LOW..HIGH or --search NAME=A,B,C")
    return dimensions


def _range(name: str, text: str, options: type[FitOptions]) -> Dimension:
    span, _, scale = text.partition(":")
    low, high = (option_value(options, name, end, f"--search {name}") for end in span.split("..", 1))
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise UsageError(f"--search {name} is no number, so it has no range; give its values as {name}=A,B")
    if scale not in ("", "log") or not low < high or (scale and low <= 0):
        raise UsageError(f"--search {name}={text} must be LOW..HIGH or LOW..HIGH:log, with LOW under HIGH")
    return Dimension(name, low, high, scale == "log")


def _choices(name: str, text: str, options: type[FitOptions]) -> Dimension:
    choices = tuple(re.split(r",(?![^(]*\))", text))  # not within the brackets of tversky(0.3,0.7)
    for choice in choices:
        option_value(options, name, choice, f"--search {name}")
    return Dimension(name, choices=choices)

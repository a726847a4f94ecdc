"""Refusing what there is no such thing as, with the nearest that there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints


def nearest(word: object, known: Iterable[object]) -> str:
    """Return the end of a sentence that names the nearest known word, and all of them."""
    words = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), words, n=1, cutoff=0.0)[0]
    return f"the nearest of {', '.join(words)} is {close!r}"


def check_choices(config: Any) -> None:
    """Raise ValueError for a field of a dataclass that holds none of the values its Literal type allows."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name, None)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ValueError(f"{name} cannot be {value!r}; {nearest(value, get_args(hint))}")

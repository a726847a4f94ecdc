"""Words in label files -> class indices of a label space, and back."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aerial_runtime.card import LabelSpace
from aerial_runtime.errors import InputError
from aerial_train.scenes.target import NONE, UNKNOWN

ABSENT = "none"  # an attribute's value where there is nothing to read; null is unknown
ANY_TARGET = "target"  # the category that says no more than that there is one
# What annotation tools and our own files put beside the heads' answers.
OTHER_KEYS = {"degrees", "truncated", "ignored", "ignore", "occluded", "difficult", "id", "note", "label_origin"}


@dataclass(frozen=True)
class Reading:
    """labels: head -> class index, UNKNOWN or NONE; degrees: letter-up clockwise from image-up, or None."""

    labels: dict[str, int]
    degrees: float | None


def questions(space: LabelSpace) -> list[str]:
    """Return the names of all attributes: the heads, and the heading where there is one."""
    return [head.name for head in space.heads] + ([space.heading.name] if space.heading else [])


def names_of(labels: Mapping[str, int], space: LabelSpace) -> dict[str, str | None]:
    """Return head -> class name as label files write it: null = unknown, ABSENT = nothing to read."""
    words: dict[int, str | None] = {UNKNOWN: None, NONE: ABSENT}
    return {h.name: words[labels[h.name]] if labels[h.name] < 0 else h.classes[labels[h.name]] for h in space.heads}


def read_attributes(attributes: Mapping[str, Any], space: LabelSpace, where: str) -> Reading:
    """Read head name -> class, and the orientation. Raises InputError for a class that the label space has not."""
    labels = {}
    for head in space.heads:
        value = attributes.get(head.name)
        if value is None or value == "":
            labels[head.name] = UNKNOWN
        elif isinstance(value, str) and value.lower() == ABSENT and ABSENT not in head.classes:
            labels[head.name] = NONE
        else:
            labels[head.name] = _class_index(str(value), head.classes, f"{where}: {head.name}")
    return Reading(labels, _degrees(attributes, space, where))


def _degrees(attributes: Mapping[str, Any], space: LabelSpace, where: str) -> float | None:
    """Read degrees, or a sector as its middle."""
    if space.heading is None:
        return None
    for value in (attributes.get("degrees"), attributes.get(space.heading.name)):
        if value is None or value == "":
            continue
        sectors = space.heading.sectors
        try:
            degrees = float(value)
        except (TypeError, ValueError):
            degrees = _class_index(str(value), sectors, f"{where}: {space.heading.name}") * 360 / len(sectors)
        if not math.isfinite(degrees):
            raise InputError(f"{where}: a direction of {value} degrees; give 0..360, or null where it is unknown")
        return degrees % 360
    return None


def read_category(name: str, space: LabelSpace, where: str) -> dict[str, int]:
    """Read a category such as `star`, `target`, `red_star` or `shape_color=red shape=star`: head -> class index.

    A word that is a class of several heads says nothing by itself. Raises InputError.
    """
    labels = {head.name: UNKNOWN for head in space.heads}
    if _key(name) == ANY_TARGET:
        return labels
    heads = {head.name: head.classes for head in space.heads}
    whole = _heads_with(name, space)
    separators = r"[\s,;]+" if "=" in name else r"[\s,;/_-]+"
    for word in [name] if whole else re.split(separators, name.strip()):
        head, equals, value = word.partition("=")
        if not equals:
            found = whole or _heads_with(word, space)
            if not found:
                raise InputError(_unknown_category(where, name, word, space))
            if len(found) > 1:
                raise InputError(
                    f"{where}: {word!r} of the category {name!r} is a class of {' and '.join(found)}; "
                    f"rename it so that it says which, such as '{found[0]}={word}'"
                )
            head, value = found[0], word
        if head not in heads:
            raise InputError(f"{where}: the category {name!r} names the head {head!r}; there are {', '.join(heads)}")
        labels[head] = _class_index(value, heads[head], f"{where}: {head}")
    return labels


def _heads_with(word: str, space: LabelSpace) -> list[str]:
    return [head.name for head in space.heads if _find(word, head.classes) is not None]


def _unknown_category(where: str, name: str, word: str, space: LabelSpace) -> str:
    known = [ANY_TARGET, *dict.fromkeys(one for head in space.heads for one in head.classes)]
    of = f"{word!r} of the category {name!r}" if word != name else f"the category {name!r}"
    return (
        f"{where}: {of} is no class of the label space {space.name!r}; {nearest(word, known)}; rename it, or call it "
        f"{ANY_TARGET!r} where it says no more than that"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a phrase that names the nearest known words."""
    close = difflib.get_close_matches(word.lower(), list(known), n=3, cutoff=0.0)
    return f"the nearest known are {', '.join(close)}" if len(close) > 1 else f"the nearest known is {close[0]}"


def _class_index(word: str, classes: tuple[str, ...], where: str) -> int:
    found = _find(word, classes)
    if found is None:
        raise InputError(f"{where} {word!r} is not in the label space; {nearest(word, classes)}")
    return found


def _find(word: str, classes: tuple[str, ...]) -> int | None:
    """Return the class that a word names: as it stands, else but for case and separators where only one fits."""
    if word in classes:
        return classes.index(word)
    alike = [index for index, name in enumerate(classes) if _key(name) == _key(word)]
    return alike[0] if len(alike) == 1 else None


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()

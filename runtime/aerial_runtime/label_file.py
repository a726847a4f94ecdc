"""Label files: which targets a picture holds, where they are, and what is known of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aerial_runtime.contract import DECODE_ERRORS, Box
from aerial_runtime.errors import InputError

MIN_LABEL_PX = 17  # longer side; smaller labels are not scored
UNSCORED = ("truncated", "ignored", "ignore")  # keys of labels that count neither way
NOT_ATTRIBUTES = {"x", "y", "w", "h", *UNSCORED, "occluded", "difficult", "note", "label_origin", "degrees", "id"}
NOTHING_THERE = "none"  # what label files write where there is nothing to read


@dataclass(frozen=True)
class LabelledBox:
    """One label: box in pixels (x, y, w, h; half-open) and the attributes known of it (label, or None = unknown).

    id: the same for one target in all frames, None where that is not known. least_px: longer side from which missing
    the label counts.
    """

    x: int
    y: int
    w: int
    h: int
    truncated: bool = False
    attributes: dict[str, str | None] = field(default_factory=dict)
    id: int | None = None
    least_px: int = MIN_LABEL_PX

    def __post_init__(self) -> None:
        """Raise ValueError for a box without area."""
        if min(self.w, self.h) < 1:
            raise ValueError(f"a box of {self.w}x{self.h} pixels")

    @property
    def box(self) -> Box:
        """The label as a box."""
        return Box(self.x, self.y, self.w, self.h)

    @property
    def size_px(self) -> int:
        """Longer side."""
        return max(self.w, self.h)

    @property
    def scored(self) -> bool:
        """Whether missing it counts."""
        return not self.truncated and self.size_px >= self.least_px


@dataclass(frozen=True)
class LabelledFrame:
    """All labels of one picture; where complete is false, detections without a label are not extras."""

    image: str
    targets: Sequence[LabelledBox]
    complete: bool = True


def read_labels(path: Path) -> list[LabelledFrame]:
    """Read a label file: a JSON list of {image, targets: [{x, y, w, h, truncated?, <head>: label or null}], complete?}.

    Raises InputError where the file is missing or malformed.
    """
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
        frames = [_frame_from_json(row) for row in raw]
    except OSError as error:
        raise InputError(f"cannot read the labels {path} ({error.strerror}); check the path") from error
    except (*DECODE_ERRORS, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a label file ({type(error).__name__}: {error}); it must be a JSON list of "
            "{image, targets: [{x, y, w, h, ...}]}"
        ) from error
    check_listed_once([frame.image for frame in frames], path)
    return frames


def check_listed_once(pictures: Sequence[str], path: Path) -> None:
    """Raise InputError for a picture in several rows of `path`: in each the targets of the others would be ground."""
    for picture, times in Counter(pictures).items():
        if times > 1:
            raise InputError(f"{path}: {picture} is listed {times} times; list each picture once, with all its targets")


def is_set(value: Any, where: str) -> bool:
    """Read true or false, also as text, which some tools write: "false" and "0" are false. Raises InputError."""
    if not isinstance(value, str):
        return bool(value)
    if value.lower() not in ("", "0", "false", "1", "true"):
        raise InputError(f"{where} is {value!r}; write true or false")
    return value.lower() in ("1", "true")


def _frame_from_json(row: dict[str, Any]) -> LabelledFrame:
    boxes = [
        LabelledBox(
            x=int(target["x"]),
            y=int(target["y"]),
            w=int(target["w"]),
            h=int(target["h"]),
            truncated=any(is_set(target.get(key), f"{row['image']}: {key}") for key in UNSCORED),
            attributes={key: _word(value) for key, value in target.items() if key not in NOT_ATTRIBUTES},
            id=target["id"] if isinstance(target.get("id"), int) else None,
        )
        for target in row["targets"]
    ]
    return LabelledFrame(str(row["image"]), boxes, is_set(row.get("complete", True), f"{row['image']}: complete"))


def _word(value: Any) -> str | None:
    """Return an answer as text: many tools write the letter "7" as a number.

    What is no answer at all becomes a word that no class has, which the score names: left out, it would not be scored.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value)

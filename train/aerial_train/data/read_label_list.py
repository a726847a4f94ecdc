"""A label list -> labelled photos: what `aerial-train score` reads, and the same of pictures that are crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import Box
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import is_set
from aerial_train.data.labels import OTHER_KEYS, questions, read_attributes
from aerial_train.data.photos import Photo, PhotoSet, PhotoTarget, given_split, outward_box, picture_size
from aerial_train.data.splits import source_of

BOX_KEYS = ("x", "y", "w", "h")
PICTURE_KEYS = {"image", "width", "height", "complete", "source", "source_repo", "source_path", "split", "commit",
                "licence", "kind", "targets"}  # fmt: skip


def read_label_list(content: Any, path: Path, space: LabelSpace) -> PhotoSet:
    """Read the content of the label list `path`: [{image, targets: [{x, y, w, h, <head>: class or null}]}].

    Pictures lie beside it. A row without `targets` is a crop: the whole picture is one target. A row may have
    `source` (or `source_repo`), `split`, `complete`, `width`, `height`. Raises InputError that names what is wrong.
    """
    unread: set[str] = set()
    try:
        photos = [_photo(row, path.parent, space, unread) for row in content]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a label list ({type(error).__name__}: {error}); it must be a JSON list of "
            "{image, targets: [{x, y, w, h, ...}]}, or of {image, <head>: class} for crops"
        ) from error
    if not photos:
        raise InputError(f"{path} is empty; there is nothing to learn from")
    crops = sum(photo.is_crop for photo in photos)
    if 0 < crops < len(photos):
        raise InputError(f"{path}: {crops} of {len(photos)} rows have no `targets`; list frames and crops apart")
    return PhotoSet(path, space, tuple(photos), tuple(sorted(unread - set(questions(space)))))


def _photo(row: dict[str, Any], folder: Path, space: LabelSpace, unread: set[str]) -> Photo:
    name = str(row["image"])
    path = folder / name
    is_crop = "targets" not in row
    known = "width" in row and "height" in row
    width, height = (int(row["width"]), int(row["height"])) if known else picture_size(path)
    split = given_split(row.get("split"), name)
    if is_crop:
        if set(BOX_KEYS) <= set(row):  # a table's row: the picture is not the target, but holds it
            raise InputError(f"{name} has a box but no `targets`; write {{image, targets: [{{x, y, w, h, ...}}]}}")
        reading = read_attributes(row, space, name)
        truncated = is_set(row.get("truncated"), f"{name}: truncated")
        targets = [PhotoTarget(Box(0, 0, width, height), reading.labels, reading.degrees, truncated)]
        unread |= set(row) - PICTURE_KEYS - OTHER_KEYS
    else:
        targets = [_target(target, space, f"{name}: target {k}", unread) for k, target in enumerate(row["targets"])]
    source = str(row.get("source") or row.get("source_repo") or source_of(name))
    complete = is_set(row.get("complete", True), f"{name}: complete")
    return Photo(path, name, width, height, source, tuple(targets), complete, split, is_crop=is_crop)


def _target(row: dict[str, Any], space: LabelSpace, where: str, unread: set[str]) -> PhotoTarget:
    x, y, width, height = (float(row[key]) for key in BOX_KEYS)
    reading = read_attributes(row, space, where)
    unread |= set(row) - OTHER_KEYS - set(BOX_KEYS)
    box = outward_box(x, y, x + width, y + height)
    ignored = any(is_set(row.get(key), f"{where}: {key}") for key in ("ignored", "ignore"))
    truncated = is_set(row.get("truncated"), f"{where}: truncated")
    return PhotoTarget(box, reading.labels, reading.degrees, truncated, ignored)

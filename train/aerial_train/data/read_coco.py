"""COCO JSON -> labelled photos: boxes, polygons, attributes; written datasets of frames are COCO too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, Box
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import is_set
from aerial_train.data.labels import OTHER_KEYS, questions, read_attributes, read_category
from aerial_train.data.photos import Photo, PhotoSet, PhotoTarget, given_split, outward_box
from aerial_train.data.splits import source_of
from aerial_train.scenes.target import UNKNOWN

MASK_SUFFIXES: Final = (".tif", ".png")  # what `aerial-train dataset` writes, and what people draw


def read_coco(content: Any, path: Path, space: LabelSpace) -> PhotoSet:
    """Read the content of the COCO file `path`; its pictures lie beside it or in `images/`, drawn masks in `masks/`
    under the same name as TIFF or PNG.

    Heads are answered by the annotations' `attributes` (head name -> class), else by the category's name. An image
    may have `source`, `split` (train or val) and `complete`. Raises InputError that names what is wrong.
    """
    try:
        return _photo_set(content, path, space)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not COCO JSON ({type(error).__name__}: {error}); export it again") from error


def _photo_set(coco: dict[str, Any], path: Path, space: LabelSpace) -> PhotoSet:
    names = {number: str(row["name"]) for number, row in _by_id(coco["categories"], "categories", path).items()}
    categories, images = _Categories(names, path, space), _by_id(coco["images"], "images", path)
    targets: dict[str, list[PhotoTarget]] = {number: [] for number in images}
    unread: set[str] = set()
    for row in coco["annotations"]:
        where, image = f"{path}: annotation {row.get('id')}", _number(row["image_id"])
        if image not in targets:
            raise InputError(f"{where} belongs to the image {image}, which is not in `images`")
        attributes = row.get("attributes") or {}
        targets[image].append(_target(row, categories.labels_of(row, attributes), attributes, space, where))
        unread |= set(attributes) - OTHER_KEYS
    photos = [_photo(row, path.parent, targets[number]) for number, row in images.items()]
    if not photos:
        raise InputError(f"{path} names no images; there is nothing to learn from")
    return PhotoSet(path, space, tuple(photos), tuple(sorted(unread - set(questions(space)))))


def _by_id(rows: Any, what: str, path: Path) -> dict[str, dict[str, Any]]:
    """Return id -> row. Raises InputError where two share one, as in files that were put together: whose annotations
    would be whose?"""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if found.setdefault(_number(row["id"]), row) != row:
            raise InputError(
                f"{path}: two of `{what}` have the id {row['id']}; give each its own, or train on each file"
            )
    return found


def _number(value: Any) -> str:
    """Return an id as text: tools write 12, 12.0 and "12" for the same one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class _Categories:
    """The categories' names as labels. A name that says nothing is forgiven where the attributes answer."""

    def __init__(self, names: dict[str, str], path: Path, space: LabelSpace) -> None:
        self.names, self.path, self.space = names, path, space
        self.read: dict[str, dict[str, int] | InputError] = {}

    def labels_of(self, row: dict[str, Any], attributes: dict[str, Any]) -> dict[str, int]:
        """Return head -> class index that an annotation's category gives. Raises InputError."""
        number = _number(row["category_id"])
        if number not in self.read:
            if number not in self.names:
                raise InputError(f"{self.path}: annotations name the category {number}, which is not in `categories`")
            try:
                self.read[number] = read_category(self.names[number], self.space, str(self.path))
            except InputError as error:
                self.read[number] = error
        labels = self.read[number]
        if isinstance(labels, InputError):
            if not any(attributes.get(head.name) for head in self.space.heads):
                raise labels
            return {head.name: UNKNOWN for head in self.space.heads}
        return labels


def _target(
    row: dict[str, Any], category: dict[str, int], attributes: dict[str, Any], space: LabelSpace, where: str
) -> PhotoTarget:
    reading = read_attributes(attributes, space, where)
    crowd = is_set(row.get("iscrowd"), f"{where}: iscrowd")
    polygons = _polygons(row.get("segmentation") or [], crowd, where)
    return PhotoTarget(
        box=_box(row.get("bbox"), polygons, where),
        labels={name: index if index != UNKNOWN else category[name] for name, index in reading.labels.items()},
        degrees=reading.degrees,
        truncated=is_set(attributes.get("truncated", row.get("truncated")), f"{where}: truncated"),
        ignored=crowd
        or is_set(row.get("ignore"), f"{where}: ignore")
        or any(is_set(attributes.get(key), f"{where}: {key}") for key in ("ignored", "ignore")),
        polygons=polygons,
    )


def _polygons(segmentation: Any, crowd: bool, where: str) -> tuple[F32, ...]:
    if isinstance(segmentation, dict):
        if crowd:  # a region to ignore: its box will do
            return ()
        raise InputError(f"{where} has a run-length mask; export the segmentation as polygons")
    polygons = tuple(np.array(points, np.float32).reshape(-1, 2) for points in segmentation)
    if any(len(points) < 3 for points in polygons):
        raise InputError(f"{where} has a polygon of fewer than three corners; correct it, or leave the box alone")
    return polygons


def _box(bbox: Any, polygons: tuple[F32, ...], where: str) -> Box:
    """The box in whole pixels, outwards; of the polygons where there is none."""
    if bbox is not None:
        x, y, width, height = (float(value) for value in bbox)
        corners = (x, y, x + width, y + height)
    elif polygons:
        points = np.concatenate(polygons)
        corners = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    else:
        raise InputError(f"{where} has neither a bbox nor a polygon")
    return outward_box(*corners)


def _photo(row: dict[str, Any], folder: Path, targets: list[PhotoTarget]) -> Photo:
    name = str(row["file_name"])
    inside = folder / "images" / name
    path = inside if inside.is_file() else folder / name
    masks = [folder / "masks" / Path(name).with_suffix(suffix) for suffix in MASK_SUFFIXES]
    return Photo(
        path=path,
        name=name,
        width=int(row["width"]),
        height=int(row["height"]),
        source=str(row.get("source") or source_of(name)),
        targets=tuple(targets),
        complete=is_set(row.get("complete", True), f"{name}: complete"),
        split=given_split(row.get("split"), name),
        mask_path=next((mask for mask in masks if mask.is_file()), None),
    )

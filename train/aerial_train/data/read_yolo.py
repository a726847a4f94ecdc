"""A YOLO export (data.yaml, images/, labels/) -> labelled photos: polygons or boxes in shares of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from aerial_runtime.card import LabelSpace
from aerial_runtime.errors import InputError
from aerial_train.data.labels import read_category
from aerial_train.data.photos import PHOTO_SUFFIXES, Photo, PhotoSet, PhotoTarget, outward_box, picture_size
from aerial_train.data.splits import source_of

BOX_NUMBERS = 4  # centre x, y, width, height; a polygon has at least 6


def read_yolo(folder: Path, space: LabelSpace) -> PhotoSet:
    """Read every picture under a folder `images` and its labels under the folder `labels` beside that.

    A picture without a label file has no targets. Which of its folders train, val and test an export put a picture
    into is not taken over: such splits are often by frame. Raises InputError that names file and line.
    """
    names = _names(folder / "data.yaml")
    pictures = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PHOTO_SUFFIXES and "images" in path.relative_to(folder).parts[:-1]
    )
    if not pictures:
        raise InputError(f"{folder} holds no pictures under a folder `images`; give the folder of a whole YOLO export")
    read: dict[int, dict[str, int]] = {}
    photos = []
    for path in pictures:
        width, height = picture_size(path)
        rows = _rows(_labels_of(path, folder))
        targets = []
        for where, number, values in rows:
            if number not in names:
                raise InputError(f"{where}: class {number} is not among the {len(names)} names in data.yaml")
            if number not in read:
                read[number] = read_category(names[number], space, str(folder / "data.yaml"))
            targets.append(_target(values, read[number], width, height))
        name = path.relative_to(folder).as_posix()
        photos.append(Photo(path, name, width, height, source_of(name), tuple(targets)))
    return PhotoSet(folder, space, tuple(photos))


def _names(path: Path) -> dict[int, str]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        return {int(k): str(v) for k, v in (names.items() if isinstance(names, dict) else enumerate(names))}
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has no readable list `names` ({type(error).__name__}: {error})") from error


def _labels_of(picture: Path, folder: Path) -> Path:
    """The label file: the last folder `images` of the path read as `labels`."""
    parts = list(picture.relative_to(folder).with_suffix(".txt").parts)
    place = len(parts) - 1 - parts[::-1].index("images")
    return folder.joinpath(*parts[:place], "labels", *parts[place + 1 :])


def _rows(path: Path) -> list[tuple[str, int, list[float]]]:
    """Return (where, class, numbers) of every line."""
    if not path.is_file():
        return []
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the labels {path} ({error}); export them again") from error
    for number, line in enumerate(lines, 1):
        words, where = line.split(), f"{path}, line {number}"
        if not words:
            continue
        try:
            kind, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError as error:
            raise InputError(f"{where}, must be a class and numbers, is {line!r}") from error
        if len(values) != BOX_NUMBERS and (len(values) < 6 or len(values) % 2):
            raise InputError(f"{where}, has {len(values)} numbers; a box has 4, a polygon an even count from 6 on")
        if not all(-0.01 <= value <= 1.01 for value in values):
            raise InputError(f"{where}, has numbers outside 0..1; YOLO labels are shares of width and height")
        rows.append((where, kind, values))
    return rows


def _target(values: list[float], labels: dict[str, int], width: int, height: int) -> PhotoTarget:
    scale = np.array((width, height), np.float32)
    if len(values) == BOX_NUMBERS:
        x, y, w, h = values
        return PhotoTarget(
            outward_box((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height), labels
        )
    points = np.array(values, np.float32).reshape(-1, 2) * scale
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return PhotoTarget(outward_box(low[0], low[1], high[0], high[1]), labels, polygons=(points,))

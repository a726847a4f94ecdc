"""A path -> labelled photos, whatever wrote the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import DECODE_ERRORS
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import check_listed_once
from aerial_train.data.photos import PhotoSet
from aerial_train.data.read_coco import read_coco
from aerial_train.data.read_label_list import read_label_list
from aerial_train.data.read_yolo import read_yolo

LABEL_FILES = ("labels.json", "_annotations.coco.json")  # ours, and that of Roboflow's exports


def read_photos(path: Path, space: LabelSpace) -> PhotoSet:
    """Read labels: COCO JSON or a label list, or the folder that holds one, or a YOLO export. Raises InputError."""
    if path.is_dir():
        if (path / "data.yaml").is_file():
            return read_yolo(path, space)
        found = [path / name for name in LABEL_FILES if (path / name).is_file()]
        if not found:
            raise InputError(
                f"{path} holds neither {' nor '.join(LABEL_FILES)} nor data.yaml; give the folder of a dataset or of "
                "a YOLO export, or the JSON file of the labels"
            )
        path = found[0]
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give a dataset's path, or `scenes`") from error
    except DECODE_ERRORS as error:
        raise InputError(f"{path} is not JSON ({error}); give COCO JSON or a label list") from error
    photos = read_label_list(content, path, space) if isinstance(content, list) else read_coco(content, path, space)
    check_listed_once([str(photo.path) for photo in photos.photos if not photo.is_crop], path)
    return photos

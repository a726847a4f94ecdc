"""Photos that were labelled elsewhere -> a dataset of frames: pictures and drawn masks as they are, labels as COCO."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from aerial_runtime.card import LabelSpace
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_runtime.say import say
from aerial_train.data.counts import Statistics
from aerial_train.data.labels import names_of
from aerial_train.data.manifest import MANIFEST_FILE, PHOTOS, Manifest, new_folder, write_manifest
from aerial_train.data.photos import Photo, PhotoTarget, check_labels, checked_picture
from aerial_train.data.progress import progress
from aerial_train.data.reading import read_photos
from aerial_train.data.splits import with_splits
from aerial_train.data.write_frames import LABELS_FILE, write_coco


def copy_photos(path: Path, out: Path, space: LabelSpace, val_share: float, seed: int) -> int:
    """Write the photos of any format that can be read; return the exit code. Ctrl-C and a full disk leave nothing.

    Raises InputError for labels that do not fit, ResourceError, UsageError.
    """
    if (path / MANIFEST_FILE).is_file():
        raise UsageError(f"{path} is a dataset already; train on it where it is")
    found = read_photos(path, space)
    if found.kind == "crops":
        raise UsageError(f"{path} holds crops, which need no copy: train on them, inspect and mix them where they are")
    photos = with_splits(found.photos, val_share, seed, str(path))
    check_labels(photos)
    _check_names(photos, path)
    new_folder(out, "images")
    statistics = Statistics(space)
    try:
        with progress("copied", len(photos)) as show:
            for number, photo in enumerate(photos, 1):
                picture = checked_picture(photo)
                _copy(photo.path, out / "images" / photo.name)
                if photo.mask_path is not None:
                    _copy(photo.mask_path, (out / "masks" / photo.name).with_suffix(photo.mask_path.suffix))
                sizes = [(target.labels, max(target.box.width, target.box.height)) for target in photo.targets]
                statistics.add_frame(sizes, cv2.mean(picture)[:3])
                show(number)
        write_coco(out / LABELS_FILE, [_row(photo) for photo in photos], [_annotations(p, space) for p in photos])
        splits = Counter[str](photo.split for photo in photos)
        write_manifest(out, Manifest(
            kind="frames", recipe=PHOTOS, settings={"from": path.name}, seed=seed, label_space=space,
            count=len(photos), splits=dict(splits), statistics=statistics.result(),
        ))  # fmt: skip
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)  # half a set would divide its sources differently
        if isinstance(error, OSError):
            raise ResourceError(f"cannot copy to {out} ({error.strerror or error}); make room there") from error
        raise
    sources = len({photo.source for photo in photos})
    say(f"{out}: {len(photos)} photos of {sources} sources, {splits['train']} to train on, {splits['val']} held out")
    return 0


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def _check_names(photos: Sequence[Photo], path: Path) -> None:
    """Raise InputError for names that would be written outside the new folder."""
    for name in (photo.name for photo in photos):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(f"{path}: {name} lies outside its folder; give names inside the folder of the labels")


def _row(photo: Photo) -> dict[str, Any]:
    return {
        "file_name": photo.name,
        "width": photo.width,
        "height": photo.height,
        "source": photo.source,
        "split": photo.split,
        "complete": photo.complete,
    }


def _annotations(photo: Photo, space: LabelSpace) -> list[dict[str, Any]]:
    return [_annotation(target, space) for target in photo.targets]


def _annotation(target: PhotoTarget, space: LabelSpace) -> dict[str, Any]:
    box = target.box
    known: dict[str, Any] = {**names_of(target.labels, space), "degrees": target.degrees}
    known |= {"truncated": target.truncated, "ignored": target.ignored}
    return {
        "bbox": [box.x, box.y, box.width, box.height],
        "area": box.area_px,
        "segmentation": [[round(value, 2) for value in polygon.reshape(-1).tolist()] for polygon in target.polygons],
        "attributes": known,
    }

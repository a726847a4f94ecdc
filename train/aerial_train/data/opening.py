"""What `--data` names -> data: live scenes, a path, or a mixture of them by weight."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

from aerial_runtime.card import LabelSpace
from aerial_runtime.errors import InputError, UsageError
from aerial_train.data.base import HELD_OUT_SEED_OFFSET, CropData, FrameData, Split
from aerial_train.data.labels import nearest
from aerial_train.data.manifest import MANIFEST_FILE, PHOTOS, Manifest, read_manifest
from aerial_train.data.mixture import CropMixture, FrameMixture
from aerial_train.data.packed import PackedCrops
from aerial_train.data.photo_crops import PhotoCrops
from aerial_train.data.photo_frames import PhotoFrames
from aerial_train.data.photos import Photo, check_labels
from aerial_train.data.reading import read_photos
from aerial_train.data.splits import VAL_SHARE, source_of, val_sources, with_splits
from aerial_train.scenes.backgrounds import Backgrounds, photo_files
from aerial_train.scenes.crops import CROP_RECIPES, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

SCENES: Final = "scenes"
BACKGROUND_SHARE: Final = 0.15  # of the photos under scenes that are held out
ANOTHER_SPACE: Final = "give the --label-space it was written with"
Recipe = TypeVar("Recipe")


def open_frames(
    text: str,
    *,
    space: LabelSpace,
    split: Split,
    recipe: str,
    backgrounds: Path | None,
    seed: int,
    size: tuple[int, int] | None,
    stride: int,
) -> FrameData:
    """Open frames: `scenes`, a path, or a mixture `scenes=0.9,real/=0.1`.

    size: (width, height) of training windows, None = whole pictures. Live scenes of the split `val` are drawn from
    another seed. Raises UsageError, InputError before any picture is read.
    """

    def one(part: str) -> FrameData:
        if part == SCENES:
            chosen = chosen_recipe(recipe, FRAME_RECIPES, "frames")
            scenes = FrameScenes(space, chosen, open_backgrounds(backgrounds, split), scene_seed(seed, split), stride)
            return scenes.with_size(*size) if size is not None else scenes
        photos, real = _photos(Path(part), space, split, seed)
        if photos[0].is_crop:
            raise InputError(f"{part} holds crops; a segmenter learns from frames")
        varied = real and split == "train" and size is not None
        return PhotoFrames(photos, space, size=size, stride=stride, seed=seed, varied=varied)

    parts = parse_data(text)
    if len(parts) == 1:
        return one(parts[0][0])
    return FrameMixture([(one(part), weight) for part, weight in parts], seed)


def open_crops(
    text: str,
    *,
    space: LabelSpace,
    split: Split,
    recipe: str,
    backgrounds: Path | None,
    seed: int,
    crop_size: int,
    margin: float,
) -> CropData:
    """Open crops: `scenes`, a path, or a mixture `scenes=0.9,real/=0.1`.

    crop_size: pixels; margin: side of the square over the longer side of the box. Real photos are cut by the
    runtime's rule. Raises UsageError, InputError before any picture is read.
    """

    def one(part: str) -> CropData:
        path = Path(part)
        if part == SCENES:
            chosen = replace(chosen_recipe(recipe, CROP_RECIPES, "crops"), size=crop_size, margin=margin)
            return CropScenes(space, chosen, open_backgrounds(backgrounds, split), scene_seed(seed, split))
        if (path / MANIFEST_FILE).is_file():
            manifest = read_manifest(path)
            if manifest.kind == "crops":
                check_label_space(manifest.label_space, space, part)
                _check_margin(manifest, margin, part)
                return PackedCrops(path, space, split, crop_size, seed)
        photos, _ = _photos(path, space, split, seed)
        return PhotoCrops(photos, space, crop_size=crop_size, margin=margin, seed=seed, jitter=split == "train")

    parts = parse_data(text)
    if len(parts) == 1:
        return one(parts[0][0])
    return CropMixture([(one(part), weight) for part, weight in parts], seed)


def own_split(path: Path, space: LabelSpace) -> Split:
    """Return `val` where data on disk says itself which of its pictures are held out, else `all`. Raises InputError."""
    if (path / MANIFEST_FILE).is_file():
        return "val" if read_manifest(path).splits.get("val") else "all"
    given = {photo.split for photo in read_photos(path, space).photos}
    return "val" if "val" in given and "" not in given else "all"


def parse_data(text: str) -> list[tuple[str, float]]:
    """Parse `PATH`, `scenes` or `scenes=0.9,real/=0.1` into parts and weights. Raises UsageError."""
    if Path(text).exists() or not {",", "="} & set(text):
        return [(text, 1.0)]
    parts = []
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            value = float(weight) if equals and name else math.nan
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise UsageError(f"in the mixture {text!r}, {part!r} must be NAME=WEIGHT with a weight above 0")
        parts.append((name, value))
    return parts


def _photos(path: Path, space: LabelSpace, split: Split, seed: int) -> tuple[list[Photo], bool]:
    """Return the photos of a split, and whether they are real ones. Raises InputError, UsageError."""
    manifest = read_manifest(path) if (path / MANIFEST_FILE).is_file() else None
    if manifest is not None:
        check_label_space(manifest.label_space, space, str(path))
        if manifest.kind == "crops":
            raise InputError(f"{path} holds crops; a segmenter learns from frames")
    photos = list(read_photos(path, space).photos)
    if split != "all":
        photos = [photo for photo in with_splits(photos, VAL_SHARE, seed, str(path)) if photo.split == split]
        if not photos:
            raise InputError(f"{path} holds no {split} pictures; write it with a --val share above 0 and below 1")
    check_labels(photos)
    return photos, manifest is None or manifest.recipe == PHOTOS


def check_label_space(found: LabelSpace, wanted: LabelSpace, where: str) -> None:
    """Raise InputError that names the first difference where labels of one space cannot be read as another's."""
    names = [[head.name for head in space.heads] for space in (found, wanted)]
    if names[0] != names[1]:
        raise InputError(
            f"{where} has the heads {names[0]}, the label space {wanted.name!r} has {names[1]}; {ANOTHER_SPACE}"
        )
    for one, other in zip(found.heads, wanted.heads, strict=True):
        if one.classes != other.classes:
            strange = sorted(set(one.classes) ^ set(other.classes)) or "the same, in another order"
            raise InputError(
                f"{where} has other classes of {one.name!r} than {wanted.name!r} ({strange}); {ANOTHER_SPACE}"
            )
    if found.heading != wanted.heading:
        raise InputError(f"{where} has another heading than the label space {wanted.name!r}; {ANOTHER_SPACE}")


def _check_margin(manifest: Manifest, margin: float, where: str) -> None:
    written = manifest.settings["margin"]
    if not math.isclose(written, margin):
        raise InputError(
            f"the crops in {where} were cut with the margin {written}, {margin} is asked for; give --margin {written}"
        )


def chosen_recipe(name: str, recipes: dict[str, Recipe], kind: str) -> Recipe:
    """Return the recipe of that name. Raises UsageError that names the nearest."""
    if name not in recipes:
        raise UsageError(f"--recipe {name!r} is none of the recipes for {kind}; {nearest(name, recipes)}")
    return recipes[name]


def scene_seed(seed: int, split: Split) -> int:
    """Return the seed of a split's live scenes: what is held out is never what a training has drawn."""
    return seed + HELD_OUT_SEED_OFFSET if split == "val" else seed


@lru_cache(maxsize=2)
def open_backgrounds(folder: Path | None, split: Split) -> Backgrounds:
    """Return what lies under the scenes of a split: those of val lie on photos that no training draws on.

    Whole flights, told by their files' names, are held out, the same ones for every seed; a folder of one flight
    serves both sides. Raises InputError where the folder holds no picture.
    """
    if folder is None:
        return Backgrounds()
    files = photo_files(folder)
    sources = {file: source_of(str(Path(file).relative_to(folder))) for file in files}
    val = val_sources(Counter(sources.values()), BACKGROUND_SHARE, seed=0)
    chosen = [file for file in files if (sources[file] in val) == (split == "val")]
    return Backgrounds(files if split == "all" or not val else chosen)

"""Go through every picture of a set and gather statistics and findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import cv2
import numpy as np

from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError
from aerial_train.data import checks
from aerial_train.data.base import CropData, FrameData
from aerial_train.data.counts import Statistics
from aerial_train.data.duplicates import Duplicates
from aerial_train.data.findings import Findings
from aerial_train.data.manifest import Manifest
from aerial_train.data.packed import PackedCrops, Shard
from aerial_train.data.photos import Photo, PhotoSet, read_mask, read_picture
from aerial_train.data.progress import progress
from aerial_train.scenes.crops import CropSample
from aerial_train.scenes.frames import FrameSample

CROPS_AT_ONCE: Final = 512
Sample = TypeVar("Sample", FrameSample, CropSample)


@dataclass
class Examination:
    """What goes through a set leaves behind. facts: lines that say what was looked at."""

    statistics: Statistics
    findings: Findings = field(default_factory=Findings)
    facts: list[str] = field(default_factory=list)


def examine_frame_scenes(data: FrameData, count: int) -> Examination:
    """Draw `count` frames and check them."""
    done = Examination(Statistics(data.label_space))
    for sample in _drawn(data.sample, count, done, "frames"):
        boxes = [target.box for target in sample.targets]
        checks.check_mask(done.findings, sample.name, sample.image_bgr, sample.mask, boxes)
        sizes = [(target.labels, target.size_px) for target in sample.targets]
        done.statistics.add_frame(sizes, cv2.mean(sample.image_bgr)[:3])
    return done


def examine_crop_scenes(data: CropData, count: int) -> Examination:
    """Draw `count` crops and check them."""
    done = Examination(Statistics(data.label_space))
    for sample in _drawn(data.sample, count, done, "crops"):
        checks.check_headings(done.findings, sample.name, sample.heading[None])
        labels = {name: np.array([value]) for name, value in sample.labels.items()}
        is_target, size = np.array([sample.is_target], np.uint8), np.array([sample.source_px], np.float32)
        done.statistics.add_crops(sample.image_bgr[None], is_target, labels, size)
    return done


def _drawn(draw: Callable[[int, int], Sample], count: int, done: Examination, what: str) -> Iterator[Sample]:
    """Give `count` drawn samples whose pictures are checked; at the end check all together, and note the speed."""
    duplicates, times_ns = Duplicates(), []
    with progress("drawn", count) as show:
        for index in range(count):
            started_ns = time.monotonic_ns()
            sample = draw(0, index)
            times_ns.append(time.monotonic_ns() - started_ns)
            checks.check_picture(done.findings, sample.name, sample.image_bgr)
            duplicates.add(sample.name, sample.image_bgr)
            yield sample
            show(index + 1)
    duplicates.report(done.findings)
    checks.check_classes(done.findings, done.statistics)
    done.facts.append(f"{count} {what} drawn, {1e9 / median(times_ns):.0f} a second on one core")


def examine_packed(folder: Path, manifest: Manifest) -> Examination:
    """Check every crop of a written dataset. Raises InputError where a shard cannot be read."""
    space = manifest.label_space
    data = PackedCrops(folder, space, "all", int(manifest.settings["size"]))
    done, duplicates = Examination(Statistics(space)), Duplicates()
    names, seen = [head.name for head in space.heads], 0
    with progress("looked at", data.count) as show:
        for shard in data.shards:
            checks.check_crop_labels(done.findings, shard.path.name, shard.labels, space)
            for start in range(0, len(shard.crops), CROPS_AT_ONCE):
                rows = slice(start, start + CROPS_AT_ONCE)
                labels = {name: shard.labels.classes[rows, k] for k, name in enumerate(names)}
                crops = shard.crops[rows]
                done.statistics.add_crops(crops, shard.labels.is_target[rows], labels, shard.labels.source_px[rows])
                _look_at_crops(done.findings, duplicates, shard, crops, start)
                seen += len(crops)
                show(seen)
    duplicates.report(done.findings)
    checks.check_classes(done.findings, done.statistics)
    held_out = int(data.labels.val.sum())
    done.facts.append(f"{data.count} crops, {held_out} of them held out; shards: {len(data.shards)}")
    _check_manifest(done, manifest, data.count)
    return done


def _look_at_crops(findings: Findings, duplicates: Duplicates, shard: Shard, crops: U8, start: int) -> None:
    for row, crop in enumerate(crops, start):
        name = f"{shard.path.name}[{row}]"
        checks.check_picture(findings, name, crop)
        duplicates.add(name, crop, "val" if shard.labels.val[row] else "train")


def examine_photos(photos: PhotoSet, manifest: Manifest | None, margin: float) -> Examination:
    """Check every picture and label. margin: of pictures that are crops, their side over their target's."""
    done, duplicates = Examination(Statistics(photos.label_space)), Duplicates()
    with progress("looked at", len(photos.photos)) as show:
        for number, photo in enumerate(photos.photos, 1):
            picture = _look_at_photo(done.findings, photo)
            if picture is not None:
                duplicates.add(photo.name, picture, photo.split, photo.source)
                shrink = margin if photo.is_crop else 1.0
                sizes = [(t.labels, max(t.box.width, t.box.height) / shrink) for t in photo.targets if not t.ignored]
                done.statistics.add_frame(sizes, cv2.mean(picture)[:3])
            show(number)
    duplicates.report(done.findings)
    checks.check_sources(done.findings, photos.photos)
    checks.check_label_form(done.findings, photos)
    checks.check_classes(done.findings, done.statistics)
    sources = {photo.source for photo in photos.photos}
    what = "crops" if photos.kind == "crops" else "frames"
    done.facts.append(f"{len(photos.photos)} {what} of {len(sources)} sources")
    if manifest is not None:
        _check_manifest(done, manifest, len(photos.photos))
    return done


def _look_at_photo(findings: Findings, photo: Photo) -> U8 | None:
    """Check one picture, its size, boxes and mask; return it where it can be read."""
    checks.check_boxes(findings, photo)
    try:
        picture = read_picture(photo.path)
        mask = read_mask(photo.mask_path) if photo.mask_path is not None else None
    except InputError as error:
        findings.add("error", "pictures that cannot be read", str(error))
        return None
    checks.check_picture(findings, photo.name, picture)
    checks.check_orientation(findings, photo)
    if checks.check_size(findings, photo, picture) and mask is not None:
        checks.check_mask(findings, photo.name, picture, mask, [target.box for target in photo.targets])
    return picture


def _check_manifest(done: Examination, manifest: Manifest, count: int) -> None:
    done.facts.append(f"made by {manifest.generator}, recipe {manifest.recipe}, seed {manifest.seed}")
    if manifest.count != count:
        done.findings.add("error", f"the manifest promises {manifest.count} pictures, there are {count}")

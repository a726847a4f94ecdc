"""What can be wrong with labelled pictures, each check a function that notes what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from PIL import Image

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8, Box
from aerial_train.data.counts import Statistics
from aerial_train.data.findings import Findings
from aerial_train.data.packed import CropLabels
from aerial_train.data.photos import Photo, PhotoSet, clipped
from aerial_train.scenes.frames import LEARNABLE_PX
from aerial_train.scenes.target import NONE, UNKNOWN

OVERHANG_PX = 2  # a box may stick out so far: labels are drawn by hand
FLAT = 2.0  # standard deviation of grey levels under which a picture shows nothing
DARK, BRIGHT = 12, 243  # mean grey level
RARE = 0.1  # of the mean number of targets a class
UNEVEN = 10.0  # most frequent over least frequent class
EXIF_ORIENTATION, EXIF_TURNED = 0x0112, (5, 6, 7, 8)


def check_picture(findings: Findings, name: str, picture: U8) -> None:
    """Shape, dtype and value range of a picture, uint8 [H, W, 3]."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        findings.add("error", "pictures that are not uint8 [H, W, 3]", f"{name}: {picture.dtype} {picture.shape}")
        return
    means, deviations = (values.reshape(-1) for values in cv2.meanStdDev(picture))
    if deviations.max() == 0:
        findings.add("error", "pictures of one colour", name)
    elif deviations.max() < FLAT:
        findings.add("warning", "pictures that show next to nothing", name)
    elif means.mean() < DARK or means.mean() > BRIGHT:
        findings.add("warning", "pictures that are nearly black or nearly white", name)


def check_size(findings: Findings, photo: Photo, picture: U8) -> bool:
    """Whether a picture has the size that its labels were made for."""
    height, width = picture.shape[:2]
    if (width, height) == (photo.width, photo.height):
        return True
    place = f"{photo.name}: {width}x{height}, labels for {photo.width}x{photo.height}"
    if (height, width) != (photo.width, photo.height):
        findings.add("error", "pictures of another size than their labels were made for", place)
    elif _orientation(photo) in EXIF_TURNED:
        findings.add(
            "error",
            "labels that fit only after the EXIF rotation, which flight ignores; save the pictures turned",
            place,
        )
    else:
        findings.add("error", "pictures whose labels have width and height swapped", place)
    return False


def check_orientation(findings: Findings, photo: Photo) -> None:
    """EXIF rotation: viewers turn the picture, flight does not."""
    if _orientation(photo) not in (0, 1):
        findings.add(
            "warning",
            "pictures with an EXIF rotation, which flight ignores: labels made in a viewer do not fit",
            photo.name,
        )


def _orientation(photo: Photo) -> int:
    """The EXIF orientation, 1 upright; 0 where none is said."""
    try:
        with Image.open(photo.path) as picture:
            return int(picture.getexif().get(EXIF_ORIENTATION, 0))
    except OSError:  # a format that OpenCV reads and Pillow does not; none of those has EXIF
        return 0


def check_boxes(findings: Findings, photo: Photo) -> None:
    """Boxes: empty, tiny, outside, fitting only if swapped, given twice."""
    boxes = [target.box for target in photo.targets]
    for box in boxes:
        place = f"{photo.name} x={box.x} y={box.y} {box.width}x{box.height}"
        inside = clipped(box, 0, 0, photo.width, photo.height)
        if box.width < 1 or box.height < 1:
            findings.add("error", "boxes without area", place)
        elif inside is None:
            findings.add("error", "boxes outside their picture", place)
        elif max(box.width - inside.width, box.height - inside.height) > OVERHANG_PX:
            findings.add("warning", "boxes that stick out of their picture", place)
        elif max(box.width, box.height) < LEARNABLE_PX:
            findings.add("warning", f"boxes under {LEARNABLE_PX} px, too small to be learnt", place)
    if not all(_fits(box, photo) for box in boxes) and all(_fits(_swapped(box), photo) for box in boxes):
        findings.add("error", "pictures whose boxes fit only with x and y, width and height swapped", photo.name)
    if any(_overlap(one, other) > 0.8 for one, other in combinations(boxes, 2)):
        findings.add("warning", "pictures with a target that is labelled twice", photo.name)


def _fits(box: Box, photo: Photo) -> bool:
    inside = clipped(box, 0, 0, photo.width, photo.height)
    return inside is not None and max(box.width - inside.width, box.height - inside.height) <= OVERHANG_PX


def _swapped(box: Box) -> Box:
    return Box(box.y, box.x, box.height, box.width)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    common = clipped(one, other.x, other.y, other.width, other.height)
    return common.area_px / (one.area_px + other.area_px - common.area_px) if common is not None else 0.0


def check_mask(findings: Findings, name: str, picture: U8, mask: U8, boxes: Sequence[Box]) -> None:
    """A drawn mask, uint8 [H, W], against the picture and the boxes."""
    if mask.shape != picture.shape[:2]:
        swapped = mask.shape == picture.shape[1::-1]
        what = "masks with width and height swapped" if swapped else "masks of another size than their picture"
        findings.add("error", what, f"{name}: {mask.shape[1]}x{mask.shape[0]}")
        return
    left = mask > 127
    if boxes and not left.any():
        findings.add("error", "masks without a target though there are boxes", name)
        return
    for box in boxes:
        part = left[max(0, box.y) : box.y + box.height, max(0, box.x) : box.x + box.width]
        if not part.any():
            findings.add(
                "error", "boxes in which the mask is empty", f"{name} x={box.x} y={box.y} {box.width}x{box.height}"
            )
    for box in boxes:
        left[max(0, box.y) : box.y + box.height, max(0, box.x) : box.x + box.width] = False
    if left.any():
        findings.add("error", "masks with a target outside all boxes", name)


def check_sources(findings: Findings, photos: Sequence[Photo]) -> None:
    """Leakage: one source on both sides of the split, or only one source to divide."""
    sides: dict[str, set[str]] = {}
    for photo in photos:
        sides.setdefault(photo.source, set()).add(photo.split)
    for source, found in sides.items():
        if {"train", "val"} <= found:
            findings.add(
                "error",
                "sources in train and in val: the score would be of pictures already learnt",
                source or "(no name)",
            )
    if len(sides) == 1 and not photos[0].split:
        findings.add("warning", "all pictures come from one source, so that none can be held out", next(iter(sides)))


def check_crop_labels(findings: Findings, name: str, labels: CropLabels, space: LabelSpace) -> None:
    """The label arrays of one shard."""
    real = labels.is_target.astype(bool)
    for column, head in enumerate(space.heads):
        classes = labels.classes[:, column]
        for row in np.flatnonzero((classes >= len(head.classes)) | (classes < NONE)):
            findings.add("error", f"classes of {head.name} that the label space has not", f"{name}[{row}]")
        for row in np.flatnonzero(~real & (classes != UNKNOWN)):
            findings.add("error", "crops without target that have a class", f"{name}[{row}]")
    for row in np.flatnonzero(labels.is_target > 1):
        findings.add("error", "crops that neither are a target nor are none", f"{name}[{row}]")
    check_headings(findings, name, labels.heading)


def check_headings(findings: Findings, name: str, heading: F32) -> None:
    """Headings, float32 [n, 2]: of length 1, or 0 where unknown."""
    lengths = np.hypot(heading[:, 0], heading[:, 1])
    for row in np.flatnonzero(~((lengths == 0) | (np.abs(lengths - 1) < 1e-3))):
        findings.add("error", "headings that are no unit vector", f"{name}[{row}]: length {lengths[row]:.3f}")


def check_label_form(findings: Findings, photos: PhotoSet) -> None:
    """What of the labels is not learnt from: boxes without polygon, attributes that no head asks for."""
    targets = [t for photo in photos.photos if photo.mask_path is None and not photo.is_crop for t in photo.targets]
    boxes = sum(not target.polygons for target in targets)
    if boxes:
        findings.add(
            "note", f"{boxes} of {len(targets)} labels are boxes alone: of a box only the middle is learnt as target"
        )
    incomplete = sum(not photo.complete for photo in photos.photos)
    if incomplete:
        findings.add("note", f"{incomplete} pictures are not completely labelled: only what is near a label is learnt")
    for name in photos.unread:
        findings.add("warning", "attributes that no head of the label space asks for", name)


def check_classes(findings: Findings, statistics: Statistics) -> None:
    """Classes that are absent, rare, or much more frequent than others."""
    for head in statistics.space.heads:
        name, known = head.name, statistics.classes(head.name)
        counts = {word: known[word] for word in head.classes}
        total, present = sum(counts.values()), {word: count for word, count in counts.items() if count}
        if not total:
            findings.add("warning", f"no target has a known {name}")
            continue
        absent = [word for word in counts if word not in present]
        if absent:
            findings.add("warning", f"{name}: no target is {', '.join(absent)}")
        rare = [f"{word} {count}" for word, count in present.items() if count < RARE * total / len(counts)]
        if rare:
            findings.add("warning", f"{name}: of {total}, rare are {', '.join(rare)}")
        most, least = max(present, key=lambda word: present[word]), min(present, key=lambda word: present[word])
        if not rare and present[most] > UNEVEN * present[least]:
            findings.add("warning", f"{name}: {most} {present[most]} against {least} {present[least]}")

"""Splits by source: pictures of one flight are alike, so a flight is learnt from or measured on, never both."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from aerial_runtime.errors import InputError, UsageError
from aerial_train.data.photos import Photo

VAL_SHARE = 0.1  # where nothing else is said
# Folders of exports that say nothing of the flight, and what Roboflow hangs onto names.
PLAIN_FOLDERS = {"images", "train", "training", "val", "valid", "validation", "test"}
ROBOFLOW_TAIL = re.compile(r"(_(jpe?g|png|bmp|tiff?|webp))?\.rf\.[0-9A-Za-z]+$")
LAST_NUMBER = re.compile(r"[\W_]*\d+\D*$")


def source_of(name: str) -> str:
    """Return what a picture's name says of its flight: its folders, and its stem before the last number."""
    path = PurePath(name)
    folders = [part for part in path.parts[:-1] if part.lower() not in PLAIN_FOLDERS and part not in (".", "..", "/")]
    stem = LAST_NUMBER.sub("", ROBOFLOW_TAIL.sub("", path.stem))
    return "/".join([*folders, stem] if stem else folders)


def is_held_out(index: int, share: float) -> bool:
    """Whether a drawn picture is of val: every so many-th is, so that any number of them holds about the share."""
    return math.floor((index + 1) * share) > math.floor(index * share)


def with_splits(photos: Sequence[Photo], share: float, seed: int, where: str) -> list[Photo]:
    """Give every photo its split: those that have one keep it, else whole sources make about `share` of val.

    share: 0..1, 0 = all are learnt from. Raises UsageError where that leaves nothing for either side, InputError
    where only some photos have a split.
    """
    given = sum(photo.split != "" for photo in photos)
    if given == len(photos):
        return list(photos)
    if given:
        raise InputError(f"{where}: {given} of {len(photos)} pictures have a split; give all of them one, or none")
    sizes = Counter(photo.source for photo in photos)
    val = val_sources(sizes, share, seed)
    if share and not 0 < len(val) < len(sizes):
        only = next(iter(sizes))
        raise UsageError(
            f"{where}: all {len(photos)} pictures come from one source, {only!r}, so none can be held out; give each "
            "image its `source` or `split` in the label file, or write a dataset of it with --val 0"
        )
    return [replace(photo, split="val" if photo.source in val else "train") for photo in photos]


def val_sources(sizes: Counter[str], share: float, seed: int) -> set[str]:
    """Take sources that fit into the share, in an order of the seed's own, then one more if that brings it nearer.

    At least one is taken and at least one left, where there are two.
    """
    if not share or len(sizes) < 2:
        return set()
    wanted, taken, val = share * sizes.total(), 0, set[str]()
    ordered = sorted(sizes, key=lambda source: hashlib.sha256(f"{seed}/{source}".encode()).digest())
    for source in ordered:
        if taken + sizes[source] <= wanted:
            val.add(source)
            taken += sizes[source]
    rest = [source for source in ordered if source not in val]
    nearest = min(rest, key=lambda source: abs(taken + sizes[source] - wanted))
    nearer = abs(taken + sizes[nearest] - wanted) < abs(taken - wanted)
    if not val or (nearer and len(rest) > 1):
        val.add(nearest)
    return val

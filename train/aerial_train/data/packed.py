"""Crops in shards: a few thousand pictures in one memory-mapped file, their labels beside it, never a file per crop."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8
from aerial_runtime.errors import InputError
from aerial_train.data.base import Rows, Split, sample_rng, shuffled
from aerial_train.data.manifest import write_whole
from aerial_train.scenes.crops import CropBatch, CropSample

SHARD_CROPS: Final = 4096  # 50 MB of 64 px: large enough to be few files, small enough to be held while it fills
I16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class CropLabels:
    """Labels of n crops. is_target uint8 [n]; classes int16 [n, heads], as in CropSample; heading float32 [n, 2];
    source_px float32 [n]; val uint8 [n]: 1 = held out."""

    is_target: U8
    classes: I16
    heading: F32
    source_px: F32
    val: U8


def pack(samples: Sequence[CropSample], space: LabelSpace, val: Sequence[bool]) -> tuple[U8, CropLabels]:
    """Return crops uint8 [n, S, S, 3] and their labels."""
    labels = CropLabels(
        np.array([sample.is_target for sample in samples], np.uint8),
        np.array([[sample.labels[head.name] for head in space.heads] for sample in samples], np.int16),
        np.stack([sample.heading for sample in samples]).astype(np.float32),
        np.array([sample.source_px for sample in samples], np.float32),
        np.array(val, np.uint8),
    )
    return np.stack([sample.image_bgr for sample in samples]), labels


def join(parts: Sequence[CropLabels]) -> CropLabels:
    """Return the labels one after the other."""
    return CropLabels(*(np.concatenate([getattr(part, name) for part in parts]) for name in LABEL_ARRAYS))


LABEL_ARRAYS: Final = tuple(CropLabels.__dataclass_fields__)


def write_shard(folder: Path, number: int, crops: U8, labels: CropLabels) -> None:
    """Write one shard, the labels last: a shard with labels is whole. Raises OSError."""
    arrays: dict[str, Any] = {name: getattr(labels, name) for name in LABEL_ARRAYS}
    write_whole(folder / f"crops-{number:05d}.npy", lambda file: np.save(file, crops))
    write_whole(folder / f"labels-{number:05d}.npz", lambda file: np.savez(file, **arrays))


class Shard:
    """One shard read back. crops is mapped on first use, and again in every process."""

    def __init__(self, labels_path: Path, heads: int) -> None:
        """Raises InputError where labels and crops are damaged or do not fit each other."""
        self.path = labels_path.with_name(labels_path.name.replace("labels-", "crops-")).with_suffix(".npy")
        try:
            with np.load(labels_path, allow_pickle=False) as arrays:
                self.labels = CropLabels(*(arrays[name] for name in LABEL_ARRAYS))
            shape, dtype = self.crops.shape, self.crops.dtype
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{labels_path} or its crops are damaged ({error}); write the dataset again") from error
        lengths = {len(getattr(self.labels, name)) for name in LABEL_ARRAYS}
        if dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or lengths != {shape[0]}:
            raise InputError(f"{self.path} holds {dtype} {list(shape)}, its labels {lengths}; write the dataset again")
        if self.labels.classes.shape != (shape[0], heads):
            raise InputError(f"{labels_path} has {self.labels.classes.shape[1:]} labels a crop, not one a head")

    @cached_property
    def crops(self) -> U8:
        """uint8 [n, S, S, 3], read from the file as it is touched."""
        return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))

    def __getstate__(self) -> dict[str, object]:
        """The map stays behind when the object goes to another process: as an array it would be copied whole."""
        return {name: value for name, value in self.__dict__.items() if name != "crops"}


class PackedCrops:
    """Written crops of one split, in another order each epoch, reduced to `crop_size` where they are larger.

    Those of the train split that show no target come turned and mirrored, each time in another of the eight ways: of
    false alarms there are few, and a training sees each of them dozens of times.
    """

    def __init__(self, folder: Path, space: LabelSpace, split: Split, crop_size: int, seed: int = 0) -> None:
        """Raises InputError for damaged shards, an empty split, and crops smaller than those asked for."""
        self.folder, self.label_space, self.crop_size, self.seed = folder, space, crop_size, seed
        self.shards = [Shard(path, len(space.heads)) for path in sorted(folder.glob("labels-*.npz"))]
        if not self.shards:
            raise InputError(f"{folder} holds no finished shard of crops; write the dataset again")
        smallest = min(shard.crops.shape[1] for shard in self.shards)
        if smallest < crop_size:
            raise InputError(
                f"{folder} holds crops of {smallest} px, {crop_size} px are asked for; train with --crop-size "
                f"{smallest}, or write the dataset with --crop-size {crop_size}"
            )
        self.labels = join([shard.labels for shard in self.shards])
        self._starts = np.cumsum([0, *(len(shard.crops) for shard in self.shards)])
        wanted = np.ones(len(self.labels.val), bool) if split == "all" else self.labels.val == (split == "val")
        self._rows: Rows = np.flatnonzero(wanted)
        self._turns = split == "train"
        self.count = len(self._rows)
        if not self.count:
            raise InputError(f"{folder} holds no {split} crops; write it with a --val share above 0 and below 1")

    def sample(self, epoch: int, index: int) -> CropSample:
        """Return one crop."""
        (row,) = self._rows_of(epoch, [index])
        labels = self.labels
        classes = {head.name: int(labels.classes[row, k]) for k, head in enumerate(self.label_space.heads)}
        shard = self._shard_of(row)
        return CropSample(
            self._seen(row, epoch, index).copy(),  # the file itself cannot be written to
            bool(labels.is_target[row]),
            classes,
            labels.heading[row],
            float(labels.source_px[row]),
            f"{self.shards[shard].path.name}[{row - self._starts[shard]}]",
        )

    def batch(self, epoch: int, indices: Sequence[int]) -> CropBatch:
        """Return crops with their training truth."""
        rows, labels = self._rows_of(epoch, indices), self.labels
        crops = np.empty((len(rows), self.crop_size, self.crop_size, 3), np.uint8)
        for place, (row, index) in enumerate(zip(rows, indices, strict=True)):
            crops[place] = self._seen(row, epoch, index)
        classes = labels.classes[rows].astype(np.int64)
        names = [head.name for head in self.label_space.heads]
        by_head = {name: np.ascontiguousarray(classes[:, k]) for k, name in enumerate(names)}
        return CropBatch(crops, labels.is_target[rows], by_head, labels.heading[rows])

    def preload(self) -> None:
        """Nothing: the system keeps what was read once, for all processes."""

    def _rows_of(self, epoch: int, indices: Sequence[int]) -> Rows:
        return np.asarray(self._rows[shuffled(self.seed, epoch, indices, self.count)])

    def _shard_of(self, row: np.int64) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def _seen(self, row: np.int64, epoch: int, index: int) -> U8:
        crop = self._crop(row)
        if not self._turns or self.labels.is_target[row]:
            return crop
        way = int(sample_rng(self.seed, epoch, index).integers(8))
        turned = np.rot90(crop, way % 4)
        return np.asarray(turned[:, ::-1] if way > 3 else turned, np.uint8)

    def _crop(self, row: np.int64) -> U8:
        shard = self._shard_of(row)
        crop: U8 = self.shards[shard].crops[row - self._starts[shard]]
        if len(crop) == self.crop_size:
            return crop
        return np.asarray(cv2.resize(crop, (self.crop_size, self.crop_size), interpolation=cv2.INTER_AREA), np.uint8)

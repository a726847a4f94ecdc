"""Crops -> a folder of shards."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import U8
from aerial_train.data.counts import Statistics
from aerial_train.data.manifest import Manifest, write_manifest
from aerial_train.data.packed import SHARD_CROPS, CropLabels, join, pack, write_shard
from aerial_train.data.splits import is_held_out
from aerial_train.scenes.crops import CropScenes


class CropFolder:
    """Takes crops into a folder, shard by shard; what is written by then is a dataset once `finish` has been called."""

    def __init__(self, space: LabelSpace, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.count = self.held_out = self.shards = 0
        self.statistics = Statistics(space)
        self._waiting: list[tuple[U8, CropLabels]] = []  # for the shard that is not full yet

    def add(self, part: tuple[U8, CropLabels]) -> int:
        """Take over crops and their labels, as `pack` gives them; return how many there are. Raises OSError."""
        self._waiting.append(part)
        waiting = sum(len(crops) for crops, _ in self._waiting)
        if waiting < SHARD_CROPS:
            return self.count + waiting
        self._write_shard()
        return self.count

    def finish(self) -> None:
        """Write what is left, and in any case the manifest. Raises OSError."""
        try:
            if self._waiting:
                self._write_shard()
        finally:
            splits = {"train": self.count - self.held_out, "val": self.held_out}
            changes = {"count": self.count, "splits": splits, "statistics": self.statistics.result()}
            write_manifest(self.folder, msgspec.structs.replace(self.manifest, **changes))

    def _write_shard(self) -> None:
        crops = np.concatenate([part for part, _ in self._waiting])
        labels = join([part for _, part in self._waiting])
        write_shard(self.folder, self.shards, crops, labels)
        self._waiting = []
        self.shards += 1
        self.count += len(crops)
        self.held_out += int(labels.val.sum())
        names = [head.name for head in self.statistics.space.heads]
        classes = {name: labels.classes[:, k] for k, name in enumerate(names)}
        self.statistics.add_crops(crops, labels.is_target, classes, labels.source_px)


class CropWriter(CropFolder):
    """Writes live crops into a folder; every so many-th is drawn from the scenes that are held out."""

    chunk = 64  # crops that a process makes at once

    def __init__(
        self, scenes: CropScenes, held_out: CropScenes, folder: Path, manifest: Manifest, val_share: float
    ) -> None:
        super().__init__(scenes.label_space, folder, manifest)
        self.scenes, self.held_out_scenes, self.val_share = scenes, held_out, val_share

    def make(self, indices: range) -> tuple[U8, CropLabels]:
        """Render some crops, in any process."""
        val = [is_held_out(index, self.val_share) for index in indices]
        scenes = [self.held_out_scenes if held_out else self.scenes for held_out in val]
        samples = [of.sample(0, index) for of, index in zip(scenes, indices, strict=True)]
        return pack(samples, self.scenes.label_space, val)

"""What a dataset holds, counted while it is written or inspected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32, U8
from aerial_train.data.labels import ABSENT
from aerial_train.scenes.target import NONE, UNKNOWN

SIZE_EDGES_PX = (0, 8, 12, 17, 25, 40, 80, 160, 320)  # lower edges, the last bin is open
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
UNKNOWN_WORD = "unknown"


class Statistics:
    """Counts of classes, sizes and brightness over pictures that are added one by one or many at once."""

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        self.pictures = self.targets = 0
        self._classes: dict[str, Counter[int]] = {head.name: Counter() for head in space.heads}
        self._sizes: list[F32] = []
        self._per_frame: Counter[int] = Counter()
        self._bgr_sum = np.zeros(3)

    def add_frame(self, targets: Sequence[tuple[Mapping[str, int], float]], mean_bgr: Sequence[float]) -> None:
        """Count one frame: (labels, longer side in pixels) of every target, and its mean colour."""
        self._per_frame[len(targets)] += 1
        self._add(1, len(targets), np.array([size for _, size in targets], np.float32), np.array(mean_bgr))
        for labels, _ in targets:
            for name, counter in self._classes.items():
                counter[labels[name]] += 1

    def add_crops(self, crops: U8, is_target: U8, classes: Mapping[str, Any], source_px: F32) -> None:
        """Count n crops: uint8 [n, S, S, 3], uint8 [n], head -> class index [n], float32 [n]."""
        real = is_target.astype(bool)
        self._add(len(crops), int(real.sum()), source_px[real], crops.mean(axis=(0, 1, 2)) * len(crops))
        for name, counter in self._classes.items():
            counter.update(np.asarray(classes[name])[real].tolist())

    def _add(self, pictures: int, targets: int, sizes: F32, bgr_sum: Any) -> None:
        self.pictures += pictures
        self.targets += targets
        self._sizes.append(sizes)
        self._bgr_sum += bgr_sum

    def classes(self, head: str) -> dict[str, int]:
        """Return class -> targets, every class of the head, then those unknown and those with nothing to read."""
        names, counter = self.space.head(head).classes, self._classes[head]
        counts = {name: counter[index] for index, name in enumerate(names)}
        return counts | {UNKNOWN_WORD: counter[UNKNOWN], ABSENT: counter[NONE]}

    def result(self) -> dict[str, Any]:
        """Return the statistics as they stand in a manifest."""
        sizes = np.concatenate(self._sizes) if self._sizes else np.zeros(0, np.float32)
        edges = [*SIZE_EDGES_PX, np.inf]
        counts, _ = np.histogram(sizes, edges)
        names = [f"{low}-{high}" if np.isfinite(high) else f"from {low}" for low, high in pairwise(edges)]
        found: dict[str, Any] = {
            "pictures": self.pictures,
            "targets": self.targets,
            "classes": {head.name: self.classes(head.name) for head in self.space.heads},
            "size_px": {
                "percentiles": {str(p): round(float(np.percentile(sizes, p)), 1) for p in PERCENTILES if len(sizes)},
                "histogram": dict(zip(names, counts.tolist(), strict=True)),
            },
            "mean_bgr": [round(value, 2) for value in (self._bgr_sum / max(1, self.pictures)).tolist()],
        }
        if self._per_frame:
            found["targets_per_frame"] = {str(number): self._per_frame[number] for number in sorted(self._per_frame)}
            found["share_without_target"] = round(self._per_frame[0] / self.pictures, 4)
        elif self.pictures:
            found["share_without_target"] = round(1 - self.targets / self.pictures, 4)
        return found

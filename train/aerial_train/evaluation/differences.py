"""What a model B gains and loses against a model A, target by target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import Box
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import MIN_LABEL_PX
from aerial_runtime.score import boxes_match
from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.objects import ExtraOutcome, Objects
from aerial_train.evaluation.scores import TARGET, answers_right
from aerial_train.evaluation.significance import mcnemar

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """One question asked of both models. gained: what B alone has right; lost: what A alone has right, both as numbers
    of crops or of labels. p: of McNemar's exact test that both are of the same worth."""

    name: str
    count: int
    both: int
    neither: int
    gained: list[int]
    lost: list[int]
    p: float

    @property
    def first(self) -> float:
        """Share that A has right."""
        return (self.both + len(self.lost)) / self.count if self.count else 0.0

    @property
    def second(self) -> float:
        """Share that B has right."""
        return (self.both + len(self.gained)) / self.count if self.count else 0.0


def difference(
    name: str, numbers: Sequence[int], first: Sequence[bool] | Bools, second: Sequence[bool] | Bools
) -> Difference:
    """Compare right and wrong. numbers: int [N], which crop or label each is; first, second: bool [N] of A and of B."""
    pairs = list(zip(numbers, map(bool, first), map(bool, second), strict=True))
    gained = [n for n, a, b in pairs if b and not a]
    lost = [n for n, a, b in pairs if a and not b]
    both = sum(a and b for _, a, b in pairs)
    neither = len(pairs) - both - len(gained) - len(lost)
    return Difference(name, len(pairs), both, neither, gained, lost, mcnemar(len(lost), len(gained)))


def classifier_differences(
    space: LabelSpace, a: CropOutcomes, b: CropOutcomes, thresholds: tuple[float, float]
) -> list[Difference]:
    """Compare answers per head, the heading (symmetry-aware) and `target` (each at its model's threshold).

    Raises InputError where both did not see the same crops.
    """
    same = a.is_target.tolist() == b.is_target.tolist() and all(
        np.array_equal(a.labels[name], b.labels[name]) for name in a.labels
    )
    if not same:
        raise InputError(
            "the models cut different crops from this data (crop size or margin differ), so they cannot be compared "
            "target by target; evaluate each instead"
        )
    first, second = answers_right(a, space), answers_right(b, space)
    rows = []
    for name in first:
        known = np.flatnonzero(first[name][0])
        rows.append(difference(name, known.tolist(), first[name][1][known], second[name][1][known]))
    said = [(o.target >= threshold) == o.is_target for o, threshold in zip((a, b), thresholds, strict=True)]
    rows.append(difference(TARGET, range(len(a.names)), *said))
    return rows


def segmenter_differences(a: Objects, b: Objects, edges_px: Sequence[int]) -> list[Difference]:
    """Compare which labels were found: all from 17 px on, then by size."""
    rows = [_found("labels from 17 px", a, b, MIN_LABEL_PX, None)]
    for low, high in zip(edges_px, (*edges_px[1:], None), strict=True):
        row = _found(f"{low}-{high - 1} px" if high else f"from {low} px", a, b, low, high)
        rows += [row] if row.count else []
    return rows


def lone_extras(a: Objects, b: Objects) -> tuple[list[ExtraOutcome], list[ExtraOutcome]]:
    """Return the objects without a label that A alone and that B alone has."""

    def without(these: Objects, others: Objects) -> list[ExtraOutcome]:
        boxes: dict[int, list[Box]] = {}
        for extra in others.extras:
            boxes.setdefault(extra.frame, []).append(extra.box)
        return [e for e in these.extras if not any(boxes_match(e.box, box) for box in boxes.get(e.frame, []))]

    return without(a, b), without(b, a)


def _found(name: str, a: Objects, b: Objects, low_px: int, upto_px: int | None) -> Difference:
    """Compare what was found of labels of one range of sizes."""
    sizes = [label.target.size_px if label.scored else 0 for label in a.labels]
    numbers = [k for k, size in enumerate(sizes) if size >= low_px and (upto_px is None or size < upto_px)]
    return difference(name, numbers, [a.labels[k].found for k in numbers], [b.labels[k].found for k in numbers])

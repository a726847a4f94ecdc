"""All that is measured of a classifier on one set of crops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace, Thresholds
from aerial_train.evaluation.calibration import Calibration, calibrate, two_classes
from aerial_train.evaluation.classification import HeadScore, TargetScore, score_head, score_target
from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.objects import SIZE_EDGES_PX, ObjectScore
from aerial_train.evaluation.orientation import OrientationScore, heading_turns, score_orientation
from aerial_train.evaluation.segmentation import CellScore
from aerial_train.evaluation.significance import wilson

TARGET: Final = "target"

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SizeAccuracy:
    """Accuracy of one head (or of the heading, symmetry-aware) over targets of one range of sizes in the frame."""

    name: str
    from_px: int
    upto_px: int | None
    count: int
    right: int
    low: float
    high: float


@dataclass(frozen=True)
class ClassifierScore:
    """all_right: share of the targets whose every head is known of which every head is right; None without any.

    all_majority: the same where every head always gave its most frequent class.
    """

    crops: int
    targets: int
    mean_accuracy: float
    heads: list[HeadScore]
    orientation: OrientationScore | None
    target: TargetScore
    all_known: int
    all_right: float | None
    all_majority: float | None
    calibration: list[Calibration]
    sizes: list[SizeAccuracy]


def score_classifier(outcomes: CropOutcomes, space: LabelSpace, thresholds: Thresholds) -> ClassifierScore:
    """Score all crops; what is above `thresholds.target` counts as said to be a target."""
    heads = [
        score_head(head.name, head.classes, outcomes.probabilities[head.name], outcomes.labels[head.name])
        for head in space.heads
    ]
    orientation = None
    if space.heading is not None:
        orientation = score_orientation(
            space, outcomes.heading, outcomes.true_heading, outcomes.labels[space.heading.head]
        )
    target = score_target(outcomes.target, outcomes.is_target, thresholds.target)
    known_heads = [head for head in heads if head is not None]
    rights = answers_right(outcomes, space)
    of_heads = [rights[head.name] for head in space.heads]
    all_known = np.logical_and.reduce([known for known, _ in of_heads])
    all_right = np.logical_and.reduce([right for _, right in of_heads])[all_known]
    means = [head.accuracy for head in known_heads] + ([orientation.accuracy] if orientation else [])
    return ClassifierScore(
        crops=len(outcomes.names),
        targets=int(outcomes.is_target.sum()),
        mean_accuracy=float(np.mean([*means, target.accuracy])),
        heads=known_heads,
        orientation=orientation,
        target=target,
        all_known=int(all_known.sum()),
        all_right=float(all_right.mean()) if all_known.any() else None,
        all_majority=_all_majority(outcomes, space, all_known) if all_known.any() else None,
        calibration=_calibrations(outcomes, space),
        sizes=_sizes(outcomes, rights),
    )


def answers_right(outcomes: CropOutcomes, space: LabelSpace) -> dict[str, tuple[Bools, Bools]]:
    """Return head (or heading) name -> (known bool [N], right bool [N]); the heading as judges forgive it."""
    rights: dict[str, tuple[Bools, Bools]] = {}
    for head in space.heads:
        labels = outcomes.labels[head.name]
        rights[head.name] = labels >= 0, outcomes.probabilities[head.name].argmax(axis=1) == labels
    if space.heading is not None:
        known = np.hypot(outcomes.true_heading[:, 0], outcomes.true_heading[:, 1]) > 0.5
        turns = heading_turns(space, outcomes.heading, outcomes.true_heading, outcomes.labels[space.heading.head])
        rights[space.heading.name] = known, turns.forgiven & known
    return rights


def classifier_numbers(score: ClassifierScore) -> dict[str, float]:
    """Return the scores by the names that training gives them in a card."""
    numbers = {f"{head.name}_accuracy": head.accuracy for head in score.heads}
    numbers |= {f"{head.name}_macro_f1": head.macro["f1"] for head in score.heads}
    numbers |= {"target_accuracy": score.target.accuracy, "mean_accuracy": score.mean_accuracy}
    if score.target.auroc is not None:
        numbers["target_auroc"] = score.target.auroc
    if score.orientation is not None:
        numbers[f"{score.orientation.name}_accuracy"] = score.orientation.accuracy
        numbers[f"{score.orientation.name}_accuracy_raw"] = score.orientation.raw
        if score.orientation.error_mean_deg is not None:
            numbers["heading_error_deg"] = score.orientation.error_mean_deg
    numbers |= {
        f"{item.name}_ece": item.ece if item.ece_after is None else item.ece_after for item in score.calibration
    }
    return numbers


def segmenter_numbers(cells: CellScore, objects: ObjectScore) -> dict[str, float]:
    """Return the scores by the names that training gives them in a card."""
    numbers = {
        "dice": cells.dice,
        "jaccard": cells.jaccard,
        "pixel_accuracy": cells.accuracy,
        "object_recall": objects.recall,
    }
    if objects.precision is not None:
        numbers["object_precision"] = objects.precision
    return numbers


def _all_majority(outcomes: CropOutcomes, space: LabelSpace, all_known: Bools) -> float:
    right = all_known.copy()
    for head in space.heads:
        labels = outcomes.labels[head.name]
        right &= labels == np.bincount(labels[labels >= 0]).argmax()
    return float(right.sum() / all_known.sum())


def _calibrations(outcomes: CropOutcomes, space: LabelSpace) -> list[Calibration]:
    found = [
        calibrate(head.name, outcomes.probabilities[head.name], outcomes.labels[head.name]) for head in space.heads
    ]
    if 0 < outcomes.is_target.sum() < len(outcomes.is_target):
        found.append(calibrate(TARGET, two_classes(outcomes.target), outcomes.is_target.astype(np.int64)))
    return [item for item in found if item is not None]


def _sizes(outcomes: CropOutcomes, rights: Mapping[str, tuple[Bools, Bools]]) -> list[SizeAccuracy]:
    rows = []
    size: npt.NDArray[Any] = outcomes.source_px
    for name, (known, right) in rights.items():
        for low_px, upto_px in zip(SIZE_EDGES_PX, (*SIZE_EDGES_PX[1:], None), strict=True):
            here = known & (size >= low_px) & (size < (upto_px or np.inf))
            count, hits = int(here.sum()), int((right & here).sum())
            low, high = wilson(hits, count)
            rows.append(SizeAccuracy(name, low_px, upto_px, count, hits, low, high))
    return rows

"""How well the direction of letter-up is told: in sectors, raw and as judges forgive symmetric letters; in degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_train.evaluation.classification import ERRORS, Coverage, coverage_at
from aerial_train.evaluation.significance import wilson

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HeadingTurns:
    """What of each of N crops: sector answered and true, int64 [N]; error_deg: float [N], NaN where every angle is
    right; right (raw) and forgiven (as symmetric letters allow): bool [N]; confidence: length of the vector, float [N].
    """

    answered: Ints
    true: Ints
    right: Bools
    forgiven: Bools
    error_deg: Floats
    confidence: Floats


@dataclass(frozen=True)
class OrientationScore:
    """accuracy: symmetry-aware; raw: every known direction at its word. Degrees: error where there is a direction.

    majority: accuracy (symmetry-aware) of always answering the best single sector. constant_deg: mean error of the
    best constant direction among the sectors' middles. raw_limit: the most that `raw` can be on drawn scenes, which
    symmetric letters on symmetric shapes leave; None where nobody knows.
    """

    name: str
    count: int
    accuracy: float
    low: float
    high: float
    raw: float
    raw_low: float
    raw_high: float
    majority: float
    error_mean_deg: float | None
    error_median_deg: float | None
    error_p95_deg: float | None
    constant_deg: float | None
    confusion: list[list[int]]
    coverage: list[Coverage]
    raw_limit: float | None = None


def heading_turns(space: LabelSpace, heading: Floats, truth: Floats, labels: Ints) -> HeadingTurns:
    """Compare vectors. heading, truth: [N, 2], x right and y down; labels: int64 [N] of the head that may be symmetric,
    negative = unknown."""
    assert space.heading is not None
    sectors = len(space.heading.sectors)
    free, twofold = _symmetric(space, labels)
    seen_deg, true_deg = degrees_of(heading), degrees_of(truth)
    answered, true = sector_index(seen_deg, sectors), sector_index(true_deg, sectors)
    right = answered == true
    turned = answered == sector_index(true_deg + 180, sectors)
    error = turn_between(seen_deg, true_deg)
    error = np.where(twofold, np.minimum(error, turn_between(seen_deg, true_deg + 180)), error)
    return HeadingTurns(
        answered=answered,
        true=true,
        right=right,
        forgiven=right | free | (twofold & turned),
        error_deg=np.where(free, np.nan, error),
        confidence=np.minimum(1.0, np.hypot(heading[:, 0], heading[:, 1])),
    )


def score_orientation(space: LabelSpace, heading: Floats, truth: Floats, labels: Ints) -> OrientationScore | None:
    """Score all known directions (a truth of (0, 0) is unknown); shapes as in `heading_turns`. None without any."""
    known = np.hypot(truth[:, 0], truth[:, 1]) > 0.5
    if space.heading is None or not known.any():
        return None
    truth, labels = truth[known], labels[known]
    turns = heading_turns(space, heading[known], truth, labels)
    count, sectors = len(truth), len(space.heading.sectors)
    middles = np.radians(np.arange(sectors) * 360 / sectors)
    constants = [
        heading_turns(space, np.tile((np.sin(angle), -np.cos(angle)), (count, 1)), truth, labels) for angle in middles
    ]
    low, high = wilson(int(turns.forgiven.sum()), count)
    raw_low, raw_high = wilson(int(turns.right.sum()), count)
    errors = turns.error_deg[~np.isnan(turns.error_deg)]
    mean, median, p95 = (
        (float(errors.mean()), *map(float, np.percentile(errors, (50, 95)))) if len(errors) else (None, None, None)
    )
    confusion = np.bincount(turns.true * sectors + turns.answered, minlength=sectors**2).reshape(sectors, sectors)
    return OrientationScore(
        name=space.heading.name,
        count=count,
        accuracy=float(turns.forgiven.mean()),
        low=low,
        high=high,
        raw=float(turns.right.mean()),
        raw_low=raw_low,
        raw_high=raw_high,
        majority=max(float(constant.forgiven.mean()) for constant in constants),
        error_mean_deg=mean,
        error_median_deg=median,
        error_p95_deg=p95,
        constant_deg=min(float(np.nanmean(constant.error_deg)) for constant in constants) if len(errors) else None,
        confusion=confusion.tolist(),
        coverage=[coverage_at(turns.confidence, turns.forgiven, error) for error in ERRORS],
    )


def degrees_of(vectors: Floats) -> Floats:
    """Return degrees clockwise from image-up [N] of vectors [N, 2] (x right, y down)."""
    return np.degrees(np.arctan2(vectors[:, 0], -vectors[:, 1])) % 360


def turn_between(first_deg: Floats, second_deg: Floats) -> Floats:
    """Return the angle between two directions, degrees 0..180."""
    return np.abs((first_deg - second_deg + 180) % 360 - 180)


def sector_index(degrees: Floats, sectors: int) -> Ints:
    """Return which sector holds each direction, as aerial_runtime.classify.sector_of does."""
    return np.floor(degrees % 360 / 360 * sectors + 0.5).astype(np.int64) % sectors


def _symmetric(space: LabelSpace, labels: Ints) -> tuple[Bools, Bools]:
    """Return bool [N] twice: those that look the same at every angle, those that repeat after half a turn."""
    assert space.heading is not None
    classes = space.head(space.heading.head).classes
    any_angle = np.array([name in space.heading.any_angle for name in classes])
    half_turn = np.array([name in space.heading.half_turn for name in classes])
    known = np.maximum(labels, 0)
    return any_angle[known] & (labels >= 0), half_turn[known] & (labels >= 0)

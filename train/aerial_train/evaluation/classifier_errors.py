"""Which crops are worth a look: the worst errors, the pairs that are confused most, labels that may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.classify import sector_of
from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.orientation import degrees_of
from aerial_train.evaluation.report import Row
from aerial_train.evaluation.scores import TARGET, answers_right
from aerial_train.scenes.target import NONE

Floats = npt.NDArray[np.floating[Any]]

PAIRS: Final = 6  # of each head
EXAMPLES: Final = 4  # pictures of each pair
DOUBTED: Final = 0.1  # probability of a label under which it is suspected


@dataclass(frozen=True)
class Pair:
    """Two classes that are confused. examples: numbers of crops, the surest mistakes first."""

    head: str
    true: str
    answered: str
    count: int
    support: int
    examples: list[int]


@dataclass(frozen=True)
class Suspect:
    """A label that the model contradicts."""

    crop: int
    head: str
    label: str
    answer: str
    confidence: float


def worst_crops(outcomes: CropOutcomes, space: LabelSpace, threshold: float, most: int) -> list[int]:
    """Return numbers of crops with a wrong answer, the most confidently wrong first.

    Of a head it is how much more probable the answer was than the label, of `target` how far off the truth.
    """
    truth = outcomes.is_target
    wrong = (outcomes.target >= threshold) != truth
    worst = np.where(wrong, np.abs(outcomes.target - truth), 0.0)
    for head in space.heads:
        worst = np.maximum(worst, _excess(outcomes.probabilities[head.name], outcomes.labels[head.name]))
    order = np.argsort(-worst, kind="stable")[:most]
    return [int(index) for index in order if worst[index] > 0]


def confused_pairs(outcomes: CropOutcomes, space: LabelSpace) -> list[Pair]:
    """Return the pairs of each head that are confused most."""
    pairs = []
    for head in space.heads:
        labels, given = outcomes.labels[head.name], outcomes.probabilities[head.name]
        answers, sure = given.argmax(axis=1), given.max(axis=1)
        wrong = np.flatnonzero((labels >= 0) & (labels != answers))
        found, counts = np.unique(np.stack((labels[wrong], answers[wrong])), axis=1, return_counts=True)
        for k in np.argsort(-counts, kind="stable")[:PAIRS]:
            true, answered = int(found[0, k]), int(found[1, k])
            these = wrong[(labels[wrong] == true) & (answers[wrong] == answered)]
            examples = these[np.argsort(-sure[these], kind="stable")][:EXAMPLES]
            pairs.append(Pair(
                head.name, head.classes[true], head.classes[answered], int(counts[k]), int((labels == true).sum()),
                [int(index) for index in examples],
            ))  # fmt: skip
    return pairs


def suspected_labels(outcomes: CropOutcomes, space: LabelSpace, most: int) -> list[Suspect]:
    """Return labels that may be wrong, the most suspicious first.

    As in confident learning (Northcutt et al. 2021), an answer counts as sure when it is at least as confident as the
    model is on average of that class where it is labelled.
    """
    suspects = []
    for head in space.heads:
        labels, given = outcomes.labels[head.name], outcomes.probabilities[head.name]
        answers = given.argmax(axis=1)
        for index in np.flatnonzero((labels >= 0) & (labels != answers)):
            answer, label = int(answers[index]), int(labels[index])
            alike = given[labels == answer, answer]
            usual = float(alike.mean()) if len(alike) else 0.5
            if given[index, answer] >= max(usual, 0.5) and given[index, label] < DOUBTED:
                confidence = float(given[index, answer])
                suspects.append(Suspect(int(index), head.name, head.classes[label], head.classes[answer], confidence))
    return sorted(suspects, key=lambda suspect: -suspect.confidence)[:most]


def crop_rows(outcomes: CropOutcomes, space: LabelSpace, threshold: float, index: int) -> list[Row]:
    """Return what is true and what was said of a crop: head, truth, output, confidence."""
    said, truth = float(outcomes.target[index]), bool(outcomes.is_target[index])
    words = ("no", "yes")
    rows = [Row((TARGET, words[truth], words[said >= threshold], f"{said:.2f}"), (said >= threshold) != truth)]
    if not truth:
        return rows
    rights = answers_right(_one(outcomes, index), space)
    for head in space.heads:
        given, label = outcomes.probabilities[head.name][index], int(outcomes.labels[head.name][index])
        known, right = (bool(part[0]) for part in rights[head.name])
        answer = int(given.argmax())
        word = head.classes[label] if known else ("none" if label == NONE else "?")
        rows.append(Row((head.name, word, head.classes[answer], f"{given[answer]:.2f}"), known and not right))
    if space.heading is not None:
        known, right = (bool(part[0]) for part in rights[space.heading.name])
        degrees = degrees_of(np.stack((outcomes.true_heading[index], outcomes.heading[index])))
        true_word, word = (f"{sector_of(float(d), space.heading.sectors)} {d:.0f}°" for d in degrees)
        length = float(np.hypot(*outcomes.heading[index]))
        rows.append(Row((space.heading.name, true_word if known else "?", word, f"{length:.2f}"), known and not right))
    return rows


def _excess(given: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Return how much more probable the answer was than the label, 0 where it is right or unknown: float [N]."""
    at_label = given[np.arange(len(labels)), np.maximum(labels, 0)]
    return np.where(labels >= 0, given.max(axis=1) - at_label, 0.0)


def _one(outcomes: CropOutcomes, index: int) -> CropOutcomes:
    """Return the outcomes of a single crop."""
    only: Sequence[int] = [index]
    return CropOutcomes(
        {name: values[only] for name, values in outcomes.probabilities.items()},
        outcomes.target[only], outcomes.heading[only], outcomes.is_target[only],
        {name: values[only] for name, values in outcomes.labels.items()},
        outcomes.true_heading[only], outcomes.source_px[only], [outcomes.names[index]], [outcomes.indices[index]],
    )  # fmt: skip

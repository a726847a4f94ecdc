"""Temperatures and thresholds for the card: chosen on every other sample, judged on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aerial_runtime.card import ModelCard, Thresholds
from aerial_train.evaluation.calibration import MIN_FIT, heated, two_classes
from aerial_train.evaluation.classification import best_f, coverage_at
from aerial_train.evaluation.gather import CropOutcomes, FrameOutcome
from aerial_train.evaluation.objects import ObjectScore, find_objects, score_objects
from aerial_train.evaluation.orientation import heading_turns
from aerial_train.evaluation.scores import TARGET, ClassifierScore
from aerial_train.evaluation.segmentation import THRESHOLDS

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

DIGITS: Final = 4  # of a confidence in flight, which a threshold stands against
# A miss is for ever; a false alarm is left to the classifier, and after it to whoever reads the list of targets. So
# recall counts twice.
RECALL_BETA: Final = 2.0


@dataclass(frozen=True)
class Abstention:
    """A threshold chosen for a wanted error; coverage and error are measured on the other half.

    error: share of the answers that are wrong; None where nothing is answered.
    """

    name: str
    wanted_error: float
    threshold: float
    coverage: float
    error: float | None
    chosen_on: int
    measured_on: int


@dataclass(frozen=True)
class Choice:
    """What `--write` puts into the card. notes: what was left as it is, and why. mask: the objects of the other half of
    the frames at the chosen threshold (segmenter)."""

    temperature: dict[str, float]
    thresholds: Thresholds
    abstentions: list[Abstention] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mask: ObjectScore | None = None


def choose_classifier(card: ModelCard, outcomes: CropOutcomes, score: ClassifierScore, abstain_error: float) -> Choice:
    """Choose temperatures, the threshold of `target` and those under which each label is withheld."""
    temperature, notes = dict(card.temperature), []
    steps: dict[str, float] = {}
    for item in score.calibration:
        if item.temperature is None:
            notes.append(f"{item.name}: {item.fitted_on} labels to fit on, under {MIN_FIT}; its temperature stays")
        else:
            steps[item.name] = item.temperature
            temperature[item.name] = temperature.get(item.name, 1.0) * item.temperature
    abstain, abstentions = dict(card.thresholds.abstain), []
    for name, confidence, right in _answers(card, outcomes, steps):
        if len(confidence) < 2 * MIN_FIT:
            notes.append(f"{name}: {len(confidence)} known labels, under {2 * MIN_FIT}; its threshold stays")
            continue
        found = _abstention(name, confidence, right, abstain_error)
        if found is None:
            notes.append(
                f"{name}: no threshold keeps to an error of {100 * abstain_error:g} % over {MIN_FIT} answers; it stays"
            )
            continue
        abstentions.append(found)
        abstain[name] = found.threshold
    target = card.thresholds.target
    if 0 < outcomes.is_target[::2].mean() < 1:
        yes = heated(two_classes(outcomes.target), steps.get(TARGET, 1.0))[::2, 1]
        target = round(target_threshold(yes, outcomes.is_target[::2]), DIGITS)
    else:
        notes.append("target: the crops are all of one kind; its threshold stays")
    thresholds = msgspec.structs.replace(card.thresholds, target=target, abstain=abstain)
    return Choice(temperature, thresholds, abstentions, notes)


def as_it_is(card: ModelCard) -> Choice:
    """Return what a card has as a choice."""
    return Choice(dict(card.temperature), card.thresholds, notes=["temperatures and thresholds stay as they are"])


def as_chosen(card: ModelCard, outcomes: CropOutcomes, choice: Choice) -> CropOutcomes:
    """Return the outcomes that the model gives with the chosen temperatures. card: that it gave them with."""
    steps = {name: heat / card.temperature.get(name, 1.0) for name, heat in choice.temperature.items()}
    probabilities = {name: heated(given, steps.get(name, 1.0)) for name, given in outcomes.probabilities.items()}
    target = heated(two_classes(outcomes.target), steps.get(TARGET, 1.0))[:, 1]
    return replace(outcomes, probabilities=probabilities, target=target)


def choose_segmenter(card: ModelCard, frames: Sequence[FrameOutcome], stride: int) -> Choice:
    """Choose the mask's threshold: the best F2 score of objects on every other frame."""
    fit, rest = frames[::2], frames[1::2]
    curve = [score_objects(find_objects(fit, value, stride), fit) for value in THRESHOLDS]
    usable = [point for point in curve if point.precision is not None and point.labels >= MIN_FIT]
    if not usable:
        note = f"mask: under {MIN_FIT} labels in one half, or no frame is labelled completely; its threshold stays"
        return Choice(dict(card.temperature), card.thresholds, notes=[note])
    precision, recall = (np.array([getattr(p, name) for p in usable], np.float64) for name in ("precision", "recall"))
    threshold = best_f(precision, recall, np.array([point.threshold for point in usable]), RECALL_BETA)
    thresholds = msgspec.structs.replace(card.thresholds, mask=threshold)
    measured = score_objects(find_objects(rest, threshold, stride), rest)
    return Choice(dict(card.temperature), thresholds, mask=measured)


def target_threshold(probability: Floats, is_target: Bools) -> float:
    """Return the threshold of the best F2 score, were there one other thing for each target.

    How frequent they are in flight depends on the ground below, not on the set that is evaluated.
    """
    thresholds = np.unique(probability)
    hits, alarms = (
        1 - np.searchsorted(np.sort(part), thresholds) / len(part)
        for part in (probability[is_target], probability[~is_target])
    )
    return best_f(hits / np.maximum(hits + alarms, 1e-12), hits, thresholds, RECALL_BETA)


def _abstention(name: str, confidence: Floats, right: Bools, error: float) -> Abstention | None:
    """Return a threshold for the wanted error, None where no threshold keeps to it over MIN_FIT answers: a few right
    answers by chance are no evidence."""
    rounded = np.round(confidence.astype(np.float64), DIGITS)  # as in flight: a float32 may lie above its decimal
    chosen = coverage_at(rounded[::2], right[::2], error)
    if chosen.coverage * len(rounded[::2]) < MIN_FIT:
        return None
    answered = rounded[1::2] >= chosen.threshold
    wrong = ~right[1::2] & answered
    return Abstention(
        name=name,
        wanted_error=error,
        threshold=float(chosen.threshold),
        coverage=float(answered.mean()),
        error=float(wrong.sum() / answered.sum()) if answered.any() else None,
        chosen_on=len(rounded[::2]),
        measured_on=len(answered),
    )


def _answers(card: ModelCard, outcomes: CropOutcomes, steps: dict[str, float]) -> list[tuple[str, Floats, Bools]]:
    """Return (name, confidence, right) of the known labels of every head and of the heading, once calibrated."""
    space = card.label_space
    answers: list[tuple[str, Floats, Bools]] = []
    for head in space.heads:
        known = outcomes.labels[head.name] >= 0
        given = heated(outcomes.probabilities[head.name][known], steps.get(head.name, 1.0))
        answers.append((head.name, given.max(axis=1), given.argmax(axis=1) == outcomes.labels[head.name][known]))
    if space.heading is not None:
        known = np.hypot(outcomes.true_heading[:, 0], outcomes.true_heading[:, 1]) > 0.5
        labels = outcomes.labels[space.heading.head][known]
        turns = heading_turns(space, outcomes.heading[known], outcomes.true_heading[known], labels)
        answers.append((space.heading.name, turns.confidence, turns.forgiven))
    return answers

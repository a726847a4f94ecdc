"""The report of a classifier."""

from __future__ import annotations

import argparse

from aerial_runtime.card import ModelCard
from aerial_train.evaluation.choose import Choice
from aerial_train.evaluation.classification import precision_recall, risk_coverage
from aerial_train.evaluation.classifier_errors import (
    confused_pairs,
    crop_rows,
    suspected_labels,
    worst_crops,
)
from aerial_train.evaluation.gather import EPOCH, CropOutcomes
from aerial_train.evaluation.pictures import crop_picture
from aerial_train.evaluation.plots import (
    accuracy_size_plot,
    confusion_plot,
    frequency_plot,
    precision_recall_plot,
    reliability_plot,
    risk_plot,
)
from aerial_train.evaluation.report import Card, Gallery, Section, write_report
from aerial_train.evaluation.scores import ClassifierScore, answers_right
from aerial_train.evaluation.sources import Source
from aerial_train.evaluation.tables import accuracy_by_size, choice_table, class_table, classifier_tables

COLUMNS = ("", "truth", "output", "sure")


def write_classifier_report(
    args: argparse.Namespace,
    card: ModelCard,
    source: Source,
    outcomes: CropOutcomes,
    score: ClassifierScore,
    choice: Choice,
    facts: dict[str, str],
) -> None:
    """Write the report into args.out. Raises ResourceError."""
    show = _Pictures(source, outcomes, card)
    sections = [
        Section("Scores", tables=classifier_tables(score)),
        Section("Worst errors", "The most confidently wrong first; red is wrong.",
                galleries=[Gallery("", show.cards(worst_crops(outcomes, card.label_space, card.thresholds.target,
                                                              args.pictures)))]),
        _confused(show, score),
        Section("Smallest target", "A size is the longer side of the target in its frame, before it was cut out.",
                [accuracy_by_size(score)], [accuracy_size_plot(score.sizes)]),
        *_suspects(show, args.pictures),
        _calibration(score, outcomes, card),
        Section("Classes", "Class frequency against score shows whether rare classes are neglected.",
                plots=[frequency_plot(score.heads)] if score.heads else [],
                folded=[class_table(head) for head in score.heads], folded_title="scores of every class"),
        Section("For the card", tables=[choice_table(choice, card)]),
    ]  # fmt: skip
    title = f"{card.name} on {source.facts['data']}"
    write_report(args.out, title, facts, sections, {"classifier": score, "chosen": choice})


class _Pictures:
    """Shows crops, which are made again when they are wanted."""

    def __init__(self, source: Source, outcomes: CropOutcomes, card: ModelCard) -> None:
        self.source, self.outcomes, self.card = source, outcomes, card

    def picture(self, number: int) -> str:
        return crop_picture(self.source.data.sample(EPOCH, self.outcomes.indices[number]).image_bgr)

    def cards(self, numbers: list[int]) -> list[Card]:
        return [
            Card(
                f"{self.outcomes.names[number]}, {self.outcomes.source_px[number]:.0f} px",
                [("image", self.picture(number))],
                COLUMNS,
                crop_rows(self.outcomes, self.card.label_space, self.card.thresholds.target, number),
            )
            for number in numbers
        ]


def _confused(show: _Pictures, score: ClassifierScore) -> Section:
    pairs = confused_pairs(show.outcomes, show.card.label_space)
    galleries = []
    for head in dict.fromkeys(pair.head for pair in pairs):
        cards = [
            Card(
                f"{pair.true} taken for {pair.answered}: {pair.count} of {pair.support}",
                [(show.outcomes.names[number], show.picture(number)) for number in pair.examples],
            )
            for pair in pairs if pair.head == head
        ]  # fmt: skip
        galleries.append(Gallery(head, cards))
    plots = [confusion_plot(h.name, [c.name for c in h.classes], h.confusion) for h in score.heads]
    if score.orientation is not None and show.card.label_space.heading is not None:
        sectors = show.card.label_space.heading.sectors
        plots.append(confusion_plot(f"{score.orientation.name} (raw)", sectors, score.orientation.confusion))
    return Section("Most confused", "The surest mistakes of each pair.", plots=plots, galleries=galleries)


def _suspects(show: _Pictures, most: int) -> list[Section]:
    """Live scenes are labelled by whoever drew them: there is nothing to suspect."""
    if show.source.drawn:
        return []
    suspects = suspected_labels(show.outcomes, show.card.label_space, most)
    cards = [
        Card(f"{show.outcomes.names[s.crop]}: {s.head} labelled {s.label}, {s.answer} at {s.confidence:.2f}",
             [("image", show.picture(s.crop))])
        for s in suspects
    ]  # fmt: skip
    text = (
        "Labels that the model contradicts more surely than it usually is of that answer. Look at each: the label may "
        "be wrong, or the model." if cards else "None: the model contradicts no label surely."
    )  # fmt: skip
    return [Section("Suspected label errors", text, galleries=[Gallery("", cards)])]


def _calibration(score: ClassifierScore, outcomes: CropOutcomes, card: ModelCard) -> Section:
    space = card.label_space
    rights = answers_right(outcomes, space)
    curves = {}
    for head in space.heads:
        known, right = rights[head.name]
        if known.any():
            curves[head.name] = risk_coverage(outcomes.probabilities[head.name].max(axis=1)[known], right[known])
    if space.heading is not None and rights[space.heading.name][0].any():
        known, right = rights[space.heading.name]
        length = (outcomes.heading[known] ** 2).sum(axis=1) ** 0.5
        curves[space.heading.name] = risk_coverage(length, right[known])
    plots = [reliability_plot(score.calibration)] if score.calibration else []
    plots += [risk_plot(curves)] if curves else []
    if 0 < score.target.base < 1:
        precision, recall, _ = precision_recall(outcomes.target, outcomes.is_target)
        plots.append(precision_recall_plot(precision, recall, score.target.base))
    text = "Temperatures are fitted on one half of the labels; what is drawn was measured on the other."
    return Section("Calibration and thresholds", text, plots=plots)

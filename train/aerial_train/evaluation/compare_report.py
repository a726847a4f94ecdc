"""The report of a comparison: what B gains and loses, with pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import Box
from aerial_train.evaluation.classifier_errors import crop_rows
from aerial_train.evaluation.differences import Difference
from aerial_train.evaluation.gather import EPOCH, CropOutcomes, FrameOutcome
from aerial_train.evaluation.objects import ExtraOutcome, Objects
from aerial_train.evaluation.pictures import crop_picture, target_tiles
from aerial_train.evaluation.report import Card, Gallery, Row, Section, write_report
from aerial_train.evaluation.sources import Source
from aerial_train.evaluation.tables import Table

GAINED, LOST = "gained (right only in B)", "lost (right only in A)"


def write_classifier_comparison(
    args: argparse.Namespace,
    space: LabelSpace,
    source: Source,
    outcomes: tuple[CropOutcomes, CropOutcomes],
    thresholds: tuple[float, float],
    rows: Sequence[Difference],
    table: Table,
    facts: dict[str, str],
) -> None:
    """Write the report into args.out; source: of B's crops. Raises ResourceError."""

    def card(head: str, number: int) -> Card:
        both = [crop_rows(o, space, t, number) for o, t in zip(outcomes, thresholds, strict=True)]
        first, second = (next(row.cells for row in part if row.cells[0] == head) for part in both)
        image = source.data.sample(EPOCH, outcomes[1].indices[number]).image_bgr
        cells = [("truth", first[1], ""), ("A", *first[2:]), ("B", *second[2:])]
        return Card(
            outcomes[1].names[number], [("image", crop_picture(image))], ("", head, "sure"), list(map(Row, cells))
        )

    sections = [Section("Scores", tables=[table])]
    for row in rows:
        galleries = [
            Gallery(f"{title}: {len(numbers)}", [card(row.name, number) for number in numbers[: args.pictures]])
            for title, numbers in ((GAINED, row.gained), (LOST, row.lost))
        ]
        sections.append(Section(row.name, galleries=galleries))
    names = outcomes[1].names
    numbers = {row.name: _lists(row, [names[k] for k in row.gained], [names[k] for k in row.lost]) for row in rows}
    write_report(args.out, _title(args), facts, sections, {"differences": numbers})


def write_segmenter_comparison(
    args: argparse.Namespace,
    source: Source,
    frames: Sequence[Sequence[FrameOutcome]],
    strides: Sequence[int],
    objects: Objects,
    rows: Sequence[Difference],
    extras: tuple[Sequence[ExtraOutcome], Sequence[ExtraOutcome]],
    table: Table,
    facts: dict[str, str],
) -> None:
    """Write the report into args.out; frames, strides: of A and of B; objects: of A. Raises ResourceError."""

    def place(number: int, box: Box) -> str:
        return f"{frames[0][number].name} x={box.x} y={box.y} {box.width}x{box.height}"

    def card(number: int, box: Box) -> Card:
        image = source.data.sample(EPOCH, frames[0][number].index).image_bgr
        (picture, a), (_, b) = (target_tiles(image, f[number], box, s) for f, s in zip(frames, strides, strict=True))
        return Card(place(number, box), [("image", picture), ("A", a), ("B", b)])

    labels = [(label.frame, label.target.box) for label in objects.labels]
    every = difference_of_all(rows)
    galleries = [
        Gallery(f"{title}: {len(numbers)}", [card(*labels[number]) for number in numbers[: args.pictures]])
        for title, numbers in zip((GAINED, LOST), every, strict=True)
    ]
    lone = [
        Gallery(f"only in {name}: {len(some)}", [card(extra.frame, extra.box) for extra in some[: args.pictures]])
        for name, some in zip("AB", extras, strict=True)
    ]
    sections = [
        Section("Scores", tables=[table]),
        Section("Labels", "Image and the map of each model around the label.", galleries=galleries),
        Section("Objects without a label", galleries=lone),
    ]
    names = [place(*label) for label in labels]
    numbers = {row.name: _lists(row, [names[k] for k in row.gained], [names[k] for k in row.lost]) for row in rows}
    write_report(args.out, _title(args), facts, sections, {"differences": numbers})


def difference_of_all(rows: Sequence[Difference]) -> tuple[list[int], list[int]]:
    """Return what was gained and lost over all sizes, small labels included."""
    gained = sorted({number for row in rows for number in row.gained})
    return gained, sorted({number for row in rows for number in row.lost})


def _lists(row: Difference, gained: list[str], lost: list[str]) -> dict[str, object]:
    return {
        "count": row.count,
        "a": row.first,
        "b": row.second,
        "neither": row.neither,
        "p": row.p,
        "gained": gained,
        "lost": lost,
    }


def _title(args: argparse.Namespace) -> str:
    return f"{args.b.name} against {args.a.name} on {args.data}"

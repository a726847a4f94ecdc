"""Tables of the whole pipeline: on real photographs, on crops that other people cut, and of the certificate."""

from __future__ import annotations

from collections.abc import Sequence

from aerial_runtime.card import LabelSpace
from aerial_runtime.score import AttributeScore
from aerial_train.data.labels import questions
from aerial_train.evaluation.readings import PipelineScore
from aerial_train.evaluation.real_crops import CropsScore
from aerial_train.evaluation.significance import wilson
from aerial_train.evaluation.tables import Table, interval, number, percent, span


def pipeline_tables(score: PipelineScore, space: LabelSpace) -> list[Table]:
    """Return recall by size with what is extra, and what is right of the targets that were found."""
    rows: list[Sequence[str]] = [
        (span(size.from_px, size.upto_px), str(size.labels), str(size.found), percent(size.found / size.labels),
         interval(size.low, size.high))
        for size in score.sizes if size.labels
    ]  # fmt: skip
    recall = percent(score.found / score.labels) if score.labels else "-"
    rows.append(("all", str(score.labels), str(score.found), recall, interval(score.low, score.high)))
    note = (
        f"extras: {score.extras} in {score.complete_frames} frames with every target labelled, "
        f"{score.extras_a_frame:.3f} a frame ({score.extras_low:.3f}-{score.extras_high:.3f}); "
        f"without the classifier's veto {score.unvetoed_a_frame:.2f}"
    )
    found = Table(f"{score.frames} frames through both models", ("px", "targets", "found", "recall", "95 %"), rows,
                  [note])  # fmt: skip
    return [found, _attributes(score, space), _by_size(score, space)] if score.attributes else [found]


def crop_tables(score: CropsScore) -> list[Table]:
    """Return a line per head, and of each source what is right of it."""
    title = {
        "found": f"{score.crops} crops, the board found as in flight ({score.crops - score.found} read whole)",
        "whole": f"{score.crops} crops, each read whole",
    }[score.manner]
    rows = [
        (head.name, str(head.labels), percent(head.accuracy), interval(head.low, head.high), percent(head.answered),
         percent(head.right_if_forced), f"{number(head.ece)} ({number(head.ece_low)}-{number(head.ece_high)})")
        for head in score.heads
    ]  # fmt: skip
    columns = ("macro over sources, %", "labels", "right", "95 %", "answered", "right if none withheld", "ECE (95 %)")
    notes = [f"{score.vetoed} of them the classifier takes for no target; their labels count all the same"]
    sources = list(dict.fromkeys(group.source for head in score.heads for group in head.sources))
    of_head = [{group.source: group for group in head.sources} for head in score.heads]
    lines = [
        (source, *(f"{groups[source].right}/{groups[source].labels}" if source in groups else "-"
                   for groups in of_head))
        for source in sources
    ]  # fmt: skip
    by_source = Table("Right of the labelled, by source", ("source", *(head.name for head in score.heads)), lines)
    return [Table(title, columns, rows, notes), by_source]


def missed_tables(score: PipelineScore) -> list[Table]:
    """Return the list of what was missed, nothing where all was found."""
    lines = [tuple(line.rsplit(": ", 1)) for line in score.missed]
    return [Table("Missed", ("target", "by which model"), lines)] if lines else []


def _attributes(score: PipelineScore, space: LabelSpace) -> Table:
    rows: list[Sequence[str]] = []
    for name in questions(space):
        field = score.attributes.get(name)
        if field is not None:
            rows.append(
                (
                    name,
                    str(field.known),
                    str(field.right),
                    percent(field.right / field.known),
                    interval(*wilson(field.right, field.known)),
                    percent(field.answered / field.known),
                )
            )
    share = score.fields_right / max(1, score.fields_known)
    low_high = interval(*wilson(score.fields_right, score.fields_known))
    rows.append(("all heads", str(score.fields_known), str(score.fields_right), percent(share), low_high, "-"))
    return Table("Right of the labelled fields of found targets, % (withheld is wrong)",
                 ("field", "labels", "right", "share", "95 %", "answered"), rows)  # fmt: skip


def _by_size(score: PipelineScore, space: LabelSpace) -> Table:
    names = [name for name in questions(space) if name in score.attributes]
    rows = [
        (span(size.from_px, size.upto_px), *(_share(size.attributes.get(name)) for name in names))
        for size in score.sizes if size.found
    ]  # fmt: skip
    return Table("The same by size, % (95 %)", ("px", *names), rows)


def _share(field: AttributeScore | None) -> str:
    if field is None:
        return "-"
    return f"{percent(field.right / field.known)} ({interval(*wilson(field.right, field.known))})"

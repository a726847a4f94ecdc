"""Scores as tables: columns and rows of text, which the console prints and the report sets in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from aerial_runtime.card import ModelCard
from aerial_train.evaluation.choose import Choice
from aerial_train.evaluation.classification import HeadScore
from aerial_train.evaluation.objects import SizeScore
from aerial_train.evaluation.orientation import OrientationScore
from aerial_train.evaluation.scores import ClassifierScore, SizeAccuracy
from aerial_train.evaluation.segmentation import SegmenterScore

MISTAKEN_PAIRS: Final = 6  # of a head


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of text; the first column is a name. notes: lines below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Aligned text, several lines."""
        lines = [tuple(self.columns), *map(tuple, self.rows)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.columns))]
        text = [
            "  ".join(
                cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([self.title, *(f"  {line}" for line in text), *(f"  {note}" for note in self.notes)])


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share 0..1 in percent, a dash for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(low: float, high: float) -> str:
    """Return an interval of shares in percent."""
    return f"{100 * low:.1f}-{100 * high:.1f}"


def classifier_tables(score: ClassifierScore) -> list[Table]:
    """Return the summary of a classifier."""
    rows = [
        (head.name, str(head.count), percent(head.accuracy), interval(head.low, head.high), percent(head.majority),
         percent(head.macro["f1"]), percent(head.majority_f1), number(head.mcc))
        for head in score.heads
    ]  # fmt: skip
    if score.orientation is not None:
        o = score.orientation
        rows.append((o.name, str(o.count), percent(o.accuracy), interval(o.low, o.high), percent(o.majority), *"---"))
        rows.append((f"{o.name} raw", str(o.count), percent(o.raw), interval(o.raw_low, o.raw_high), *"----"))
    if score.all_right is not None:
        rows.append(("all heads", str(score.all_known), percent(score.all_right), "-", percent(score.all_majority),
                     *"---"))  # fmt: skip
    t = score.target
    rows.append(("target", str(t.count), percent(t.accuracy), interval(t.low, t.high), percent(t.majority), *"---"))
    columns = ("accuracy, %", "labels", "accuracy", "95 %", "majority", "macro F1", "majority F1", "MCC")
    notes = [f"target at {t.threshold:g}: precision {percent(t.precision)} % (baseline {percent(t.base)}), "
             f"recall {percent(t.recall)} %, AUROC {number(t.auroc)} (0.5), average precision "
             f"{number(t.average_precision)} ({t.base:.3f})"]  # fmt: skip
    if score.orientation is not None and score.orientation.error_mean_deg is not None:
        o = score.orientation
        notes.append(
            f"{o.name}: error mean {number(o.error_mean_deg, 1)}, median {number(o.error_median_deg, 1)}, 95 % under "
            f"{number(o.error_p95_deg, 1)} degrees; a constant direction {number(o.constant_deg, 1)}"
        )
        if o.raw_limit is not None:
            notes.append(
                f"{o.name} raw: at most {percent(o.raw_limit)} % can be right, for symmetric letters lie on symmetric "
                "shapes"
            )
    return [Table(f"{score.crops} crops, {score.targets} targets", columns, rows, notes), mistaken_table(score.heads),
            _coverage(score)]  # fmt: skip


def mistaken_table(heads: Sequence[HeadScore]) -> Table:
    """Return how many labels of each head are wrong, and which classes were taken for each other most, both ways."""
    rows = []
    for head in heads:
        counts = {
            (a, b): head.confusion[a][b] + head.confusion[b][a] for a, b in combinations(range(len(head.classes)), 2)
        }
        worst = sorted(counts, key=lambda pair: -counts[pair])[:MISTAKEN_PAIRS]
        names = [f"{head.classes[a].name}/{head.classes[b].name} {counts[a, b]}" for a, b in worst if counts[a, b]]
        rows.append((head.name, str(sum(counts.values())), ", ".join(names) or "-"))
    return Table("Taken for each other, both ways", ("head", "wrong", "most often"), rows)


def _coverage(score: ClassifierScore) -> Table:
    heads: list[HeadScore | OrientationScore] = [*score.heads]
    heads += [score.orientation] if score.orientation is not None else []
    calibrated = {item.name: item for item in score.calibration}
    rows: list[Sequence[str]] = []
    for name in [*(head.name for head in heads), "target"]:
        cover = [percent(item.coverage) for head in heads if head.name == name for item in head.coverage] or list("---")
        found = calibrated.get(name)
        before, after = (number(found.ece), number(found.ece_after)) if found else ("-", "-")
        rows.append((name, *cover, before, after, number(found.temperature if found else None)))
    columns = ("answered, %", "at 1 % error", "at 2 %", "at 5 %", "ECE", "ECE calibrated", "temperature")
    return Table(
        "When unsure answers are withheld, and calibration (fitted on one half, ECE of the other)", columns, rows
    )


def segmenter_tables(score: SegmenterScore, sizes: Sequence[SizeScore]) -> list[Table]:
    """Return the summary of a segmenter."""
    c, o = score.cells, score.objects
    columns = ("cells, %", "Dice", "Jaccard", "precision", "recall", "accuracy")
    cells = Table(
        f"{score.frames} frames at the mask threshold {c.threshold:g}", columns,
        [("model", *(percent(v) for v in (c.dice, c.jaccard, c.precision, c.recall, c.accuracy))),
         ("all background", "0.0", "0.0", "-", "0.0", percent(c.background))],
    )  # fmt: skip
    rows = [
        ("match rule", str(o.labels), str(o.found), percent(o.recall), interval(o.low, o.high), percent(o.precision),
         str(o.extras)),
        ("IoU 0.5", str(o.labels), str(round(o.strict_recall * o.labels)), percent(o.strict_recall), "-",
         percent(o.strict_precision), "-"),
    ]  # fmt: skip
    of_objects = ("objects, %", "labels", "found", "recall", "95 %", "precision", "extras")
    per_frame = f"{o.extras / o.complete_frames:.2f} extras a frame" if o.complete_frames else "no extras are counted"
    note = f"{o.complete_frames} frames with every target labelled: {per_frame}; finding nothing has a recall of 0"
    return [cells, Table("Labels from 17 px that no edge cuts", of_objects, rows, [note]), size_table(sizes)]


def size_table(sizes: Sequence[SizeScore]) -> Table:
    """Return the certificate of the smallest target."""
    rows = [
        (span(s.from_px, s.upto_px), str(s.labels), str(s.found), percent(s.found / s.labels),
         interval(s.low, s.high), percent(s.strict_found / s.labels))
        for s in sizes if s.labels
    ]  # fmt: skip
    return Table("Smallest target: recall by size", ("px", "labels", "found", "recall", "95 %", "IoU 0.5"), rows)


def accuracy_by_size(score: ClassifierScore) -> Table:
    """Return accuracy by the size of the target in its frame, a column per head, over the baseline of all sizes."""
    sizes = score.sizes
    names = list(dict.fromkeys(item.name for item in sizes))
    baselines = {head.name: head.majority for head in score.heads}
    if score.orientation is not None:
        baselines[score.orientation.name] = score.orientation.majority
    rows = []
    for low, high in dict.fromkeys((item.from_px, item.upto_px) for item in sizes):
        cells = [item for item in sizes if item.from_px == low]
        if any(item.count for item in cells):
            rows.append((span(low, high), *map(_accuracy, cells)))
    return Table(
        "Accuracy by size of the target in its frame, % (95 %)",
        ("px", *names),
        [*rows, ("majority", *(percent(baselines.get(name)) for name in names))],
    )


def class_table(head: HeadScore) -> Table:
    """Return the scores of every class of a head that occurs or was answered."""
    rows = [
        (c.name, str(c.support), str(c.predicted), percent(c.recall), interval(c.recall_low, c.recall_high),
         *(percent(v) for v in (c.precision, c.specificity, c.accuracy, c.f1, c.jaccard)), number(c.mcc))
        for c in head.classes if c.support or c.predicted
    ]  # fmt: skip
    macro, micro = head.macro, head.micro
    rows.append(("macro", str(head.count), "", percent(macro["recall"]), "", percent(macro["precision"]),
                 percent(macro["specificity"]), "", percent(macro["f1"]), percent(macro["jaccard"]),
                 number(macro["mcc"])))  # fmt: skip
    rows.append(("micro", str(head.count), "", percent(micro["recall"]), "", percent(micro["precision"]),
                 percent(micro["specificity"]), "", percent(micro["f1"]), percent(micro["jaccard"]),
                 number(head.mcc)))  # fmt: skip
    rows.append((f"always {head.majority_class}", str(head.count), "", percent(head.majority), "", "", "", "",
                 percent(head.majority_f1), "", "0.000"))  # fmt: skip
    columns = ("class, %", "support", "answered", "recall", "95 %", "precision", "specificity", "accuracy", "F1",
               "TP/(TP+FN+FP)", "MCC")  # fmt: skip
    note = (
        f"Class frequency against F1: r {number(head.frequency_r, 2)} (log support), rank r "
        f"{number(head.frequency_rank_r, 2)}. The baseline's F1 is its macro mean."
    )
    return Table(head.name, columns, rows, [note])


def choice_table(choice: Choice, card: ModelCard) -> Table:
    """Return what `--write` puts into the card beside what is in it."""
    rows: list[Sequence[str]] = []
    if card.kind == "segmenter":
        m = choice.mask
        measured = f"recall {percent(m.recall)}, precision {percent(m.precision)}" if m else "-"
        rows.append(("mask threshold", f"{card.thresholds.mask:g}", f"{choice.thresholds.mask:g}", measured))
    else:
        rows.append(("target threshold", f"{card.thresholds.target:g}", f"{choice.thresholds.target:g}", "-"))
    for item in choice.abstentions:
        measured = f"{percent(item.coverage)} answered, {percent(item.error)} of it wrong"
        before = f"{card.thresholds.abstain.get(item.name, 0.0):g}"
        rows.append((f"{item.name}: withhold under", before, f"{item.threshold:g}", measured))
    for name, value in choice.temperature.items():
        rows.append((f"{name}: temperature", number(card.temperature.get(name, 1.0)), number(value), "-"))
    columns = ("for the card", "now", "chosen", "on the other half, %")
    return Table("Chosen on one half of the data (--write puts it into a checkpoint)", columns, rows, choice.notes)


def _accuracy(item: SizeAccuracy) -> str:
    if item.count == 0:
        return "-"
    return f"{percent(item.right / item.count)} ({interval(item.low, item.high)}, n {item.count})"


def span(low: int, high: int | None) -> str:
    """Return a range of sizes in words."""
    return f"{low}-{high - 1}" if high else f"from {low}"

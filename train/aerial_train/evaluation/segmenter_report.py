"""The report of a segmenter."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Final

from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8, Box
from aerial_runtime.segment import find_candidates, mask_level
from aerial_train.evaluation.choose import Choice
from aerial_train.evaluation.gather import EPOCH, FrameOutcome
from aerial_train.evaluation.objects import LabelOutcome, Objects, SizeScore
from aerial_train.evaluation.pictures import frame_pictures, target_tiles
from aerial_train.evaluation.plots import size_plot, threshold_plot
from aerial_train.evaluation.report import Card, Gallery, Section, write_report
from aerial_train.evaluation.segmentation import SegmenterScore, frame_errors
from aerial_train.evaluation.sources import Source
from aerial_train.evaluation.tables import choice_table, segmenter_tables

WORST_FRAMES: Final = 12  # at most: three pictures each
SURE_EXTRA, UNSEEN = 0.8, 0.1  # of the map: an unlabelled target is suspected from here on, a label up to here


def write_segmenter_report(
    args: argparse.Namespace,
    card: ModelCard,
    source: Source,
    frames: Sequence[FrameOutcome],
    objects: Objects,
    score: SegmenterScore,
    sizes: Sequence[SizeScore],
    choice: Choice,
    facts: dict[str, str],
) -> None:
    """Write the report into args.out. Raises ResourceError."""
    show = _Pictures(source, frames, card)
    missed = [label for label in objects.labels if label.scored and not label.found]
    missed.sort(key=lambda label: -label.target.size_px)
    extras = sorted(objects.extras, key=lambda extra: -extra.confidence)
    most = args.pictures
    sections = [
        Section("Scores", tables=segmenter_tables(score, sizes)),
        Section("Worst frames", "Most labels missed and objects beside labels first, then most cells wrong. Green: "
                "labels; orange: found; grey shade: nobody knows.",
                galleries=[Gallery("", show.worst(objects, min(most, WORST_FRAMES)))]),
        Section("Missed labels", "The largest first; image and map around each.",
                galleries=[Gallery("", [show.label(label) for label in missed[:most]])]),
        Section("Found without a label", "The surest first.",
                galleries=[Gallery("", [show.extra(e.frame, e.box, e.confidence) for e in extras[:most]])]),
        Section("Smallest target", "Recall by the longer side of the label's box, labels cut by an edge left out; "
                "intervals of 95 % (Wilson).", plots=[size_plot(sizes)]),
        *_suspects(show, source, missed, objects, most),
        Section("Thresholds", "Cells and objects at every threshold of the mask; the dashed line is the card's.",
                plots=[threshold_plot(score)], tables=[choice_table(choice, card)]),
    ]  # fmt: skip
    numbers = {"segmenter": score, "sizes": sizes, "chosen": choice}
    write_report(args.out, f"{card.name} on {source.facts['data']}", facts, sections, numbers)


class _Pictures:
    """Shows frames and parts of them; a frame is made again when it is wanted."""

    def __init__(self, source: Source, frames: Sequence[FrameOutcome], card: ModelCard) -> None:
        self.source, self.frames = source, frames
        self.stride, self.threshold = card.stride or 1, card.thresholds.mask

    def image(self, number: int) -> U8:
        image: U8 = self.source.data.sample(EPOCH, self.frames[number].index).image_bgr
        return image

    def worst(self, objects: Objects, most: int) -> list[Card]:
        missed = Counter(label.frame for label in objects.labels if label.scored and not label.found)
        extra = Counter(item.frame for item in objects.extras)
        cells = [frame_errors(frame, self.threshold) for frame in self.frames]
        order = sorted(range(len(self.frames)), key=lambda k: (-(missed[k] + extra[k]), -cells[k]))
        return [self._frame(k, missed[k], extra[k], cells[k]) for k in order[:most] if missed[k] + extra[k] + cells[k]]

    def _frame(self, number: int, missed: int, extra: int, cells: int) -> Card:
        frame, level = self.frames[number], mask_level(self.threshold)
        found = find_candidates(frame.probability, level, self.stride, frame.width, frame.height).candidates
        pictures = frame_pictures(
            self.image(number), frame, [t.box for t in frame.targets], [c.box for c in found], self.stride
        )
        name = f"{frame.name}: {missed} missed, {extra} extra, {cells} cells wrong"
        return Card(name, list(zip(("image", "truth", "output"), pictures, strict=True)))

    def label(self, label: LabelOutcome) -> Card:
        box = label.target.box
        name = f"{self._place(label.frame, box)}, map at most {label.peak:.2f}"
        return Card(name, self._tiles(label.frame, box))

    def extra(self, number: int, box: Box, confidence: float) -> Card:
        return Card(f"{self._place(number, box)}, map {confidence:.2f}", self._tiles(number, box))

    def _place(self, number: int, box: Box) -> str:
        return f"{self.frames[number].name} x={box.x} y={box.y} {box.width}x{box.height}"

    def _tiles(self, number: int, box: Box) -> list[tuple[str, str]]:
        tiles = target_tiles(self.image(number), self.frames[number], box, self.stride)
        return list(zip(("image", "output"), tiles, strict=True))


def _suspects(
    show: _Pictures, source: Source, missed: Sequence[LabelOutcome], objects: Objects, most: int
) -> list[Section]:
    """Live scenes are labelled by whoever drew them: there is nothing to suspect."""
    if source.drawn:
        return []
    unlabelled = [e for e in objects.extras if e.confidence >= SURE_EXTRA]
    unseen = [label for label in missed if label.peak < UNSEEN]
    galleries = [
        Gallery(f"Surely seen, not labelled (map from {SURE_EXTRA})",
                [show.extra(e.frame, e.box, e.confidence) for e in unlabelled[:most]]),
        Gallery(f"Labelled, nothing seen (map under {UNSEEN})", [show.label(label) for label in unseen[:most]]),
    ]  # fmt: skip
    text = f"{len(unlabelled)} objects and {len(unseen)} labels. Look at each: the label may be wrong, or the model."
    return [Section("Suspected label errors", text, galleries=galleries)]

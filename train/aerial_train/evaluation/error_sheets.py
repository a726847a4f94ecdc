"""The worst errors as pictures: sheets for a person to look at, with what is true and what was said beneath each.

Of real photographs they hold other people's pictures, so they belong into a folder that no repository keeps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from aerial_runtime.contract import U8, Attribute, Box, Target
from aerial_runtime.crop import cut_crop
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.label_file import LabelledBox
from aerial_runtime.say import say
from aerial_runtime.score import place
from aerial_train.data.labels import questions
from aerial_train.evaluation.pair import Pair
from aerial_train.evaluation.pictures import FOUND_BGR, TRUTH_BGR, surroundings
from aerial_train.evaluation.readings import Reading
from aerial_train.evaluation.real_crops import CropReading, truth
from aerial_train.sheet import Tile, fitted, write_sheet

SIDE_PX: Final = 160
COLUMNS: Final = 4
NAME_LETTERS: Final = 44  # that fit beneath two pictures
ON_A_SHEET: Final = 48


@dataclass(frozen=True)
class Error:
    """badness: what puts it before others. draw: makes its tile when it is wanted."""

    badness: float
    draw: Callable[[], Tile]


def add_error_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options about pictures of errors."""
    add = parser.add_argument
    add("--errors", type=Path, metavar="DIR", help="folder to write pictures of the worst errors to, such as errors/")
    add("--pictures", type=int, default=ON_A_SHEET, metavar="N", help=f"errors on a sheet ({ON_A_SHEET})")


def check_error_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError for what cannot be."""
    if args.pictures < 1:
        raise UsageError(f"--pictures must be at least 1, is {args.pictures}")
    if args.errors is not None and args.errors.exists() and not args.errors.is_dir():
        raise UsageError(f"--errors {args.errors} is a file; give a folder")


def write_errors(folder: Path, name: str, errors: Sequence[Error], most: int) -> None:
    """Write the worst errors into folder/name.png, of one kind. Raises ResourceError."""
    worst = sorted(errors, key=lambda error: -error.badness)[:most]
    if not worst:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make the folder {folder} ({error.strerror}); choose another --errors") from error
    write_sheet(folder / f"{name}.png", [error.draw() for error in worst], COLUMNS)
    say(f"wrote {folder / name}.png: {len(worst)} of {len(errors)}")


def crop_errors(pair: Pair, readings: Sequence[CropReading]) -> list[Error]:
    """Return the crops with a label that is wrong or withheld, the surest mistakes first."""
    heads = pair.label_space.heads
    errors = []
    for reading in readings:
        true = {head.name: truth(reading, head) for head in heads}
        badness = _badness(pair, true, reading.target.attributes)
        if badness is not None:
            errors.append(Error(badness, partial(_crop_tile, pair, reading, true)))
    return errors


def frame_errors(pair: Pair, readings: Sequence[Reading], picture: Callable[[int], U8]) -> dict[str, list[Error]]:
    """Return what was missed (the largest first), extra and wrongly labelled (the surest first).

    picture: number of a reading -> its frame, uint8 [H, W, 3].
    """
    missed, extra, labels = [], [], []
    for number, reading in enumerate(readings):
        show = _Shown(pair, reading, number, picture)
        for label in reading.missed:
            missed.append(Error(label.size_px, partial(show.missed, label)))
        for target in (reading.targets[k] for k in reading.extras):
            extra.append(Error(target.confidence, partial(show.found, target)))
        for k, index in reading.matches.items():
            label, target = reading.frame.targets[k], reading.targets[index]
            badness = _badness(pair, label.attributes, target.attributes)
            if badness is not None:
                labels.append(Error(badness, partial(show.found, target, label)))
    return {"missed": missed, "extra": extra, "labels": labels}


@dataclass(frozen=True)
class _Shown:
    """Draws what happened in one frame."""

    pair: Pair
    reading: Reading
    number: int
    picture: Callable[[int], U8]

    def missed(self, label: LabelledBox) -> Tile:
        said = [self.reading.why_missed(label), *_answers(self.pair, label.attributes, {})]
        return self._tile(label.box, {TRUTH_BGR: label.box}, said)

    def found(self, target: Target, label: LabelledBox | None = None) -> Tile:
        boxes = {FOUND_BGR: target.box} | ({TRUTH_BGR: label.box} if label is not None else {})
        true: Mapping[str, Any] = label.attributes if label is not None else {}
        said = [f"target {target.confidence:.2f}", *_answers(self.pair, true, target.attributes)]
        return self._tile(target.box, boxes, said)

    def _tile(self, box: Box, drawn: Mapping[tuple[int, int, int], Box], lines: Sequence[str]) -> Tile:
        image = self.picture(self.number)
        around = surroundings(image, box, SIDE_PX, drawn)
        name = place(self.reading.frame.image, box)[-NAME_LETTERS:]
        return Tile(_beside(around, _crop(self.pair, image, box)), (name, *lines))


def _crop_tile(pair: Pair, reading: CropReading, true: Mapping[str, str | None]) -> Tile:
    crop = _crop(pair, reading.image_bgr, reading.target.box)
    said = f"{'found' if reading.found else 'read whole'}, target {reading.target.confidence:.2f}"
    lines = (reading.photo.name[-NAME_LETTERS:], said, *_answers(pair, true, reading.target.attributes))
    return Tile(_beside(fitted(reading.image_bgr, SIDE_PX), crop), lines)


def _crop(pair: Pair, image_bgr: U8, box: Box) -> U8:
    """What the classifier was given."""
    side = pair.classify.backend.card.crop_size or 1
    crop = np.empty((side, side, 3), np.uint8)
    cut_crop(image_bgr, box, pair.margin, crop)
    return fitted(crop, SIDE_PX)


def _beside(left: U8, right: U8) -> U8:
    return np.asarray(np.hstack((left, right)), np.uint8)


def _answers(pair: Pair, true: Mapping[str, str | None], said: Mapping[str, Attribute]) -> list[str]:
    """Return a line per question: X before a wrong one, the truth (? = unknown), the answer, how sure it is.

    An answer that is withheld stands in brackets, with what it would have been where that is known.
    """
    lines = []
    for name in questions(pair.label_space):
        right, answer = true.get(name), said.get(name)
        if answer is None:
            lines.append(f"  {name}: {right or '?'}")
            continue
        given = answer.label is not None and pair.gives(name, answer)
        word = str(answer.label) if given else f"[{answer.label or 'withheld'}]"
        mark = " " if right is None or (given and answer.label == right) else "X"
        lines.append(f"{mark} {name}: {right or '?'} -> {word} {answer.confidence:.2f}")
    return lines


def _badness(pair: Pair, true: Mapping[str, str | None], said: Mapping[str, Attribute]) -> float | None:
    """Return how sure the surest wrong answer of a head is, less 1 where it is withheld; None where all are right."""
    worst = None
    for head in pair.label_space.heads:
        label, answer = true.get(head.name), said[head.name]
        given = answer.label is not None and pair.gives(head.name, answer)
        if label is not None and not (given and answer.label == label):
            badness = answer.confidence - (0 if given else 1)
            worst = badness if worst is None else max(worst, badness)
    return worst

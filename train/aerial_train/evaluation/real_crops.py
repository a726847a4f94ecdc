"""Crops that other people cut, read twice: the board found in each as in flight, and each whole as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from aerial_runtime.card import Head
from aerial_runtime.contract import U8, Box, Target
from aerial_runtime.segment import Candidate, mask_level
from aerial_train.data.photo_crops import inner_box
from aerial_train.data.photos import Photo, checked_picture
from aerial_train.evaluation.calibration import expected_error, reliability
from aerial_train.evaluation.pair import Pair
from aerial_train.evaluation.significance import bootstrap

Manner = Literal["found", "whole"]
Floats = npt.NDArray[np.float64]

# Longer side in pixels to which a crop shrinks before its board is looked for. Close-ups of a thousand pixels hold
# boards as no flight shows them, and the segmenter sees 187 px around a cell; at 160 px a board is within the sizes
# that training draws, is seen whole, and still has twice the pixels of a 64 px crop.
LOOK_PX: Final = 160
NEAR_MIDDLE: Final = 0.25  # of the picture's side: how far from its middle the middle of the board may be
LEAST_LABELS: Final = 10  # of a head, for a source to count by itself
REST: Final = "the rest"


@dataclass(frozen=True)
class CropReading:
    """One crop, read one way. image_bgr: what the classifier's crop was cut from around `target.box`.

    target: with every label, whatever the veto. found: both models saw the board, else the whole picture was read.
    """

    photo: Photo
    image_bgr: U8
    target: Target
    found: bool


@dataclass(frozen=True)
class GroupCount:
    """Labelled crops of one source. right: and given; right_if_forced: whether given or withheld."""

    source: str
    labels: int
    right: int
    answered: int
    right_if_forced: int


@dataclass(frozen=True)
class CropHeadScore:
    """One head. accuracy, answered, right_if_forced: means over the sources; a label that is withheld is wrong, but in
    right_if_forced, which says what withholding none would give. ece: of all its labelled crops, none withheld.

    Intervals are of 95 %, drawn anew within each source.
    """

    name: str
    labels: int
    accuracy: float
    low: float
    high: float
    answered: float
    right_if_forced: float
    ece: float
    ece_low: float
    ece_high: float
    sources: list[GroupCount]


@dataclass(frozen=True)
class CropsScore:
    """All crops, read one way. found: boards that both models saw; vetoed: crops that the classifier rejects, though
    their labels count all the same."""

    manner: Manner
    crops: int
    found: int
    vetoed: int
    heads: list[CropHeadScore]


def read_crop(pair: Pair, photo: Photo, manner: Manner) -> CropReading:
    """Read one crop. Raises InputError for its picture, ModelError."""
    image = checked_picture(photo)
    if manner == "found":
        small = shrunk(image, LOOK_PX)
        target = find_board(pair, small)
        if target is not None and target.confidence >= pair.conf:
            return CropReading(photo, small, target, found=True)
    box = inner_box(photo, pair.margin)
    return CropReading(photo, image, pair.classify(image, [Candidate(box, box.area_px)])[0], found=False)


def shrunk(picture: U8, side_px: int) -> U8:
    """Return a picture whose longer side is at most `side_px`; a smaller one as it is."""
    scale = side_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def find_board(pair: Pair, image_bgr: U8) -> Target | None:
    """Return the candidate that is most of all the board, near the middle and of the highest sum of the map, as the
    classifier reads it in its best framing."""
    height, width = image_bgr.shape[:2]
    segmentation = pair.segment(image_bgr)
    near = [candidate for candidate in segmentation.candidates if _is_near_middle(candidate.box, width, height)]
    if not near:
        return None
    level = mask_level(pair.mask_threshold)
    board = max(near, key=lambda one: _weight(segmentation.probability, one.box, pair.segment.stride, level))
    framings = pair.classify(image_bgr, [board], partial(pair.segment.reframe, image_bgr, segmentation))
    return max(framings, key=lambda target: target.confidence)


def score_crops(pair: Pair, readings: Sequence[CropReading], manner: Manner) -> CropsScore:
    """Score all crops. pair: the one that read them."""
    heads = [_score_head(pair, readings, head) for head in pair.label_space.heads]
    return CropsScore(
        manner=manner,
        crops=len(readings),
        found=sum(reading.found for reading in readings),
        vetoed=sum(reading.target.confidence < pair.conf for reading in readings),
        heads=[head for head in heads if head is not None],
    )


def truth(reading: CropReading, head: Head) -> str | None:
    """Return the label of a head, None where it is not known."""
    index = reading.photo.targets[0].labels[head.name]
    return head.classes[index] if index >= 0 else None


def _score_head(pair: Pair, readings: Sequence[CropReading], head: Head) -> CropHeadScore | None:
    known = [reading for reading in readings if truth(reading, head) is not None]
    if not known:
        return None
    answers = [reading.target.attributes[head.name] for reading in known]
    right = np.array([answer.label == truth(reading, head) for answer, reading in zip(answers, known, strict=True)])
    given = np.array([pair.gives(head.name, answer) for answer in answers])
    rows = np.column_stack((right & given, given, right)).astype(float)  # [N, 3]
    of_source = _grouped([reading.photo.source for reading in known])
    groups = [rows[members] for members in of_source.values()]
    accuracy, answered, forced = (float(np.mean([g[:, k].mean() for g in groups])) for k in range(3))
    low, high = bootstrap(groups, _macro)
    sure = np.column_stack(([answer.confidence for answer in answers], right)).astype(float)
    ece_low, ece_high = bootstrap([sure], _ece, noise_raises=True)
    return CropHeadScore(
        head.name, len(known), accuracy, low, high, answered, forced, _ece([sure]), ece_low, ece_high,
        [_count(source, rows[members]) for source, members in of_source.items()],
    )  # fmt: skip


def _grouped(sources: Sequence[str]) -> dict[str, list[int]]:
    """Return source -> places; those of few labels together."""
    counts = Counter(sources)
    groups: dict[str, list[int]] = {source: [] for source, n in counts.most_common() if n >= LEAST_LABELS}
    for place, source in enumerate(sources):
        groups.setdefault(source if counts[source] >= LEAST_LABELS else REST, []).append(place)
    return groups


def _count(source: str, rows: Floats) -> GroupCount:
    right, given, forced = (int(n) for n in rows.sum(axis=0))
    return GroupCount(source, len(rows), right, given, forced)


def _macro(groups: Sequence[npt.NDArray[Any]]) -> float:
    return float(np.mean([group[:, 0].mean() for group in groups]))


def _ece(groups: Sequence[npt.NDArray[Any]]) -> float:
    return expected_error(reliability(groups[0][:, 0], groups[0][:, 1] > 0))


def _is_near_middle(box: Box, width: int, height: int) -> bool:
    off_x = abs(box.x + box.width / 2 - width / 2) / width
    off_y = abs(box.y + box.height / 2 - height / 2) / height
    return max(off_x, off_y) <= NEAR_MIDDLE


def _weight(probability: U8, box: Box, stride: int, level: int) -> int:
    """Return the sum of the map over a candidate's cells: how large it is, and how sure."""
    rows = slice(box.y // stride, -(-(box.y + box.height) // stride))
    part = probability[rows, box.x // stride : -(-(box.x + box.width) // stride)]
    return int(part[part >= level].sum(dtype=np.int64))

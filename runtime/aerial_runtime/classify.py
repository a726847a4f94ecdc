"""Candidates -> targets: one batch of crops through the classifier, then what is doubtful, framed otherwise."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from aerial_runtime.backends import Backend
from aerial_runtime.backends.base import Array
from aerial_runtime.card import Head, Heading, LabelSpace, ModelCard
from aerial_runtime.contract import F32, U8, Attribute, Target
from aerial_runtime.crop import cut_crop
from aerial_runtime.errors import ModelError, UsageError
from aerial_runtime.segment import Candidate
from aerial_runtime.views import answers

DIGITS = 4  # of a confidence: more is noise that every message would carry
EVERY_HEAD: Final = "*"  # as a head's name: each that has no threshold of its own
FIRST_CROPS = 16  # room before the buffer grows
# Confidence of `target` between which a candidate is doubtful: under it hardly any framing helps, over it none must.
DOUBTFUL: Final = (0.01, 0.98)
SAME_SHARE: Final = 0.3  # of the smaller of two boxes that the other holds, from which both frame one thing

Reframe = Callable[[Sequence[Candidate]], Sequence[Candidate]]


class Classifier:
    """Tell targets from other things and read their attributes with a classifier model.

    probabilities: of the last call's targets: head, or "heading" -> float32 [targets, classes], over all views.
    abstain: head or heading name -> confidence under which its label is withheld.
    """

    def __init__(self, backend: Backend, conf: float | None = None, abstain: Mapping[str, float] | None = None) -> None:
        """Prepare a classifier.

        conf: confidence 0..1 from which a crop is a target; None: the card's. abstain: head or heading name, or
        EVERY_HEAD -> confidence 0..1 under which its label is withheld; the card's for those that it leaves out.
        Raises ModelError where the model is no classifier of the graph contract, UsageError for a head it has not.
        """
        card = backend.card
        if card.kind != "classifier" or card.crop_size is None:
            raise ModelError(f"{backend.name} is a {card.kind}; give it as --{card.kind}")
        _check_outputs(backend.name, card)
        self.backend = backend
        self._space = card.label_space
        self.abstain = _abstain_under(card, abstain or {})
        self.probabilities: dict[str, F32] = {}
        # In the label space's order, whatever the model's: who joins frames tells classes by their place.
        self._answers = [name for name in expected_outputs(card.label_space) if name != "target"]
        self._margin = card.crop_margin
        self._conf = card.thresholds.target if conf is None else conf
        self._crops: U8 = np.empty((FIRST_CROPS, card.crop_size, card.crop_size, 3), np.uint8)

    def __call__(self, image_bgr: U8, candidates: Sequence[Candidate], reframe: Reframe | None = None) -> list[Target]:
        """Return the targets among the candidates, in their order, or with `reframe` from top to bottom.

        image_bgr: uint8 [H, W, 3]. reframe: given the doubtful candidates, the likeliest targets first, returns what
        else may frame them; of those that frame one thing the likeliest target stays. Raises ModelError.
        """
        self.probabilities = {}
        if not candidates:
            return []
        outputs: Mapping[str, Array] = answers(self.backend, self._cut(image_bgr, candidates))
        if reframe is not None:
            candidates, outputs = self._look_again(image_bgr, candidates, outputs, reframe)
        # Thresholds stand against the rounded numbers, those that the message shows.
        confidences = _confidences(outputs)
        rows = [row for row, confidence in enumerate(confidences) if confidence >= self._conf]
        self.probabilities = {name: outputs[name][rows] for name in self._answers}
        return [
            Target(candidates[row].box, candidates[row].area_px, confidences[row], attributes)
            for row, attributes in zip(rows, self._attributes(), strict=True)
        ]

    def _look_again(
        self, image_bgr: U8, candidates: Sequence[Candidate], outputs: Mapping[str, Array], reframe: Reframe
    ) -> tuple[Sequence[Candidate], Mapping[str, Array]]:
        """Return the candidates and what is said of them, the doubtful ones in their best framing."""
        confidences = _confidences(outputs)
        doubtful = [row for row, confidence in enumerate(confidences) if DOUBTFUL[0] <= confidence < DOUBTFUL[1]]
        doubtful.sort(key=lambda row: -confidences[row])
        others = reframe([candidates[row] for row in doubtful]) if doubtful else []
        if not others:
            return candidates, outputs
        first = {name: said.copy() for name, said in outputs.items()}  # they are valid until the next call
        looks = self.backend.infer(self._cut(image_bgr, others))
        every = [*candidates, *others]
        rows = _best_framings(every, [*confidences, *_confidences(looks)], len(candidates))
        stay = [row for row in rows if row < len(candidates)]
        better = [every[row] for row in rows if row >= len(candidates)]
        outputs = {name: said[stay] for name, said in first.items()}
        if better:  # only these are turned, too
            again = answers(self.backend, self._cut(image_bgr, better))
            outputs = {name: np.concatenate((said, again[name])) for name, said in outputs.items()}
        kept = [*(every[row] for row in stay), *better]
        order = sorted(range(len(kept)), key=lambda row: (kept[row].box.y, kept[row].box.x))
        return [kept[row] for row in order], {name: said[order] for name, said in outputs.items()}

    def _cut(self, image_bgr: U8, candidates: Sequence[Candidate]) -> U8:
        """Return the crops, uint8 [N, S, S, 3], in a buffer that the next call reuses."""
        count = len(candidates)
        if count > len(self._crops):
            self._crops = np.empty((2 * count, *self._crops.shape[1:]), np.uint8)
        for crop, candidate in zip(self._crops, candidates, strict=False):
            cut_crop(image_bgr, candidate.box, self._margin, crop)
        return self._crops[:count]

    def _attributes(self) -> list[dict[str, Attribute]]:
        """Return what each head says of each target. A head answers for all at once."""
        columns = {
            head.name: head_attributes(self.probabilities[head.name], head, self.abstain[head.name])
            for head in self._space.heads
        }
        heading = self._space.heading
        if heading is not None:
            vectors, under = self.probabilities["heading"].tolist(), self.abstain[heading.name]
            columns[heading.name] = [heading_attribute(vector, heading, under) for vector in vectors]
        return [dict(zip(columns, attributes, strict=True)) for attributes in zip(*columns.values(), strict=True)]


def _best_framings(candidates: Sequence[Candidate], confidences: Sequence[float], first: int) -> list[int]:
    """Return the rows of the candidates without those that a likelier one frames better.

    The `first` candidates are of one mask and never drive each other out: they are things of their own.
    """
    kept: list[int] = []
    for row in sorted(range(len(candidates)), key=lambda row: (-confidences[row], -candidates[row].box.area_px)):
        box = candidates[row].box
        rivals = (candidates[other].box for other in kept if max(row, other) >= first)
        if all(box.shared_px(rival) <= SAME_SHARE * min(box.area_px, rival.area_px) for rival in rivals):
            kept.append(row)
    return sorted(kept)


def _confidences(outputs: Mapping[str, Array]) -> list[float]:
    return _probabilities(outputs["target"][:, 0])


def head_attributes(probabilities: Array, head: Head, abstain_under: float = 0.0) -> list[Attribute]:
    """Turn one head's answers into attributes.

    probabilities: float32 [N, classes]. label: the likeliest class, null under a confidence of `abstain_under`.
    """
    best, confidences = probabilities.argmax(axis=1).tolist(), _probabilities(probabilities.max(axis=1))
    return [
        Attribute(head.classes[index] if confidence >= abstain_under else None, confidence)
        for index, confidence in zip(best, confidences, strict=True)
    ]


def heading_attribute(vector: Sequence[float], heading: Heading, abstain_under: float = 0.0) -> Attribute:
    """Turn the vector of letter-up into an attribute.

    vector: x right and y down in image axes; its length, at most 1, is the confidence.
    degrees: clockwise from image-up. label: the sector it falls in, null under a confidence of `abstain_under`.
    """
    x, y = vector
    degrees = math.degrees(math.atan2(x, -y)) % 360
    confidence = round(min(1.0, math.hypot(x, y)), DIGITS)
    label = sector_of(degrees, heading.sectors) if confidence >= abstain_under else None
    return Attribute(label, confidence, degrees=round(degrees, 1) % 360)  # 359.97 becomes 0, not 360


def sector_of(degrees: float, sectors: tuple[str, ...]) -> str:
    """Return the sector that holds a direction; all are of equal width, the first centred on image-up."""
    return sectors[int(degrees / 360 * len(sectors) + 0.5) % len(sectors)]


def _probabilities(values: Array) -> list[float]:
    """Return plain numbers within 0..1 of float32 [N]: a softmax may exceed 1 by a rounding error."""
    rounded: list[float] = np.round(values.astype(np.float64).clip(0, 1), DIGITS).tolist()
    return rounded


def _abstain_under(card: ModelCard, wanted: Mapping[str, float]) -> dict[str, float]:
    """Return head or heading name -> confidence under which its label is withheld. Raises UsageError."""
    space = card.label_space
    names = [head.name for head in space.heads] + ([space.heading.name] if space.heading else [])
    for name in sorted(wanted.keys() - {EVERY_HEAD, *names}):
        near = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
        raise UsageError(f"--abstain names the head {name!r}, which this classifier has not; the nearest is {near!r}")
    of_card = card.thresholds.abstain
    return {name: wanted.get(name, wanted.get(EVERY_HEAD, of_card.get(name, 0.0))) for name in names}


def _check_outputs(name: str, card: ModelCard) -> None:
    """Raise ModelError unless the outputs are those of the label space: target, one per head, heading if any."""
    promised = {spec.name: (spec.dtype, spec.shape[-1]) for spec in card.outputs if spec.shape}
    expected = {output: ("float32", size) for output, size in expected_outputs(card.label_space).items()}
    if promised != expected:
        raise ModelError(
            f"the outputs of the classifier {name} are {promised}, but its label space "
            f"{card.label_space.name!r} needs {expected}; export it again"
        )


def expected_outputs(space: LabelSpace) -> dict[str, int]:
    """Return output name -> length of its last axis for a classifier of this label space."""
    outputs = {"target": 1} | {head.name: len(head.classes) for head in space.heads}
    return outputs if space.heading is None else outputs | {"heading": 2}

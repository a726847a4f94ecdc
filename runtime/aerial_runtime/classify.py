"""Candidates -> targets: one batch of crops through the classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aerial_runtime.backends import Backend
from aerial_runtime.backends.base import Array
from aerial_runtime.card import Heading, LabelSpace, ModelCard
from aerial_runtime.contract import F32, U8, Attribute, Target
from aerial_runtime.crop import cut_crop
from aerial_runtime.errors import ModelError
from aerial_runtime.segment import Candidate

DIGITS = 4  # of a confidence: more is noise that every message would carry
FIRST_CROPS = 16  # room before the buffer grows


class Classifier:
    """Tell targets from other things and read their attributes with a classifier model."""

    def __init__(self, backend: Backend, conf: float | None = None) -> None:
        """conf: confidence 0..1 from which a crop is a target; None: the card's. Raises ModelError."""
        card = backend.card
        if card.kind != "classifier" or card.crop_size is None:
            raise ModelError(f"{backend.name} is a {card.kind}; give it as --{card.kind}")
        _check_outputs(backend.name, card)
        self.backend = backend
        self._space = card.label_space
        self._abstain = card.thresholds.abstain
        self._margin = card.crop_margin
        self._conf = card.thresholds.target if conf is None else conf
        self._crops: U8 = np.empty((FIRST_CROPS, card.crop_size, card.crop_size, 3), np.uint8)

    def __call__(self, image_bgr: U8, candidates: Sequence[Candidate]) -> list[Target]:
        """Return the targets among the candidates, in their order.

        image_bgr: uint8 [H, W, 3]. Raises ModelError for what the model computes.
        """
        if not candidates:
            return []
        outputs = self.backend.infer(self._cut(image_bgr, candidates))
        # Thresholds stand against the rounded numbers, those that the message shows.
        confidences = [_probability(value) for value in outputs["target"][:, 0]]
        return [
            Target(candidate.box, candidate.area_px, confidence, self._attributes(outputs, row))
            for row, (candidate, confidence) in enumerate(zip(candidates, confidences, strict=True))
            if confidence >= self._conf
        ]

    def _cut(self, image_bgr: U8, candidates: Sequence[Candidate]) -> U8:
        """Return the crops, uint8 [N, S, S, 3], in a buffer that the next call reuses."""
        count = len(candidates)
        if count > len(self._crops):
            self._crops = np.empty((2 * count, *self._crops.shape[1:]), np.uint8)
        for crop, candidate in zip(self._crops, candidates, strict=False):
            cut_crop(image_bgr, candidate.box, self._margin, crop)
        return self._crops[:count]

    def _attributes(self, outputs: dict[str, Array], row: int) -> dict[str, Attribute]:
        attributes: dict[str, Attribute] = {}
        for head in self._space.heads:
            probabilities = outputs[head.name][row]
            best = int(probabilities.argmax())
            confidence = _probability(probabilities[best])
            keep = confidence >= self._abstain.get(head.name, 0.0)
            attributes[head.name] = Attribute(head.classes[best] if keep else None, confidence)
        heading = self._space.heading
        if heading is not None:
            abstain_under = self._abstain.get(heading.name, 0.0)
            attributes[heading.name] = heading_attribute(outputs["heading"][row], heading, abstain_under)
        return attributes


def heading_attribute(vector: F32, heading: Heading, abstain_under: float = 0.0) -> Attribute:
    """Turn the vector of letter-up into an attribute.

    vector: float32 [2], x right and y down in image axes; its length, at most 1, is the confidence.
    degrees: clockwise from image-up. label: the sector it falls in, null under a confidence of `abstain_under`.
    """
    x, y = float(vector[0]), float(vector[1])
    degrees = math.degrees(math.atan2(x, -y)) % 360
    confidence = _probability(math.hypot(x, y))
    label = sector_of(degrees, heading.sectors) if confidence >= abstain_under else None
    return Attribute(label, confidence, degrees=round(degrees, 1) % 360)  # 359.97 becomes 0, not 360


def sector_of(degrees: float, sectors: tuple[str, ...]) -> str:
    """Return the sector that holds a direction; all are of equal width, the first centred on image-up."""
    return sectors[int(degrees / 360 * len(sectors) + 0.5) % len(sectors)]


def _probability(value: float) -> float:
    """Return a plain number within 0..1: a float32 softmax may exceed 1 by a rounding error."""
    return round(min(1.0, max(0.0, float(value))), DIGITS)


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

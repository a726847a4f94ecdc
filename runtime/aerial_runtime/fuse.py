"""What all sightings of one target say together: sums of log-probabilities, a sum of headings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import Heading, LabelSpace
from aerial_runtime.classify import DIGITS, heading_attribute
from aerial_runtime.contract import F32, FusedAttribute

FLOOR: Final = 1e-3  # of a probability: one sighting that is sure and wrong must not decide for all
CUT_WEIGHT: Final = 0.2  # of a sighting at the frame's edge, where a part of the target is missing


class Belief:
    """The attributes of one target over its sightings.

    Sightings are summed as if they were independent, which neighbouring frames are not: `confidence` is too sure for
    many sightings, and `agreement` stands beside it. Directions are in the axes of the last sighting's frame.
    """

    def __init__(self, space: LabelSpace, abstain: Mapping[str, float]) -> None:
        """abstain: head or heading name -> confidence under which its label is withheld."""
        self._space, self._abstain = space, abstain
        # Of all heads' classes, one behind the other; where each head's begin.
        ends = np.cumsum([len(head.classes) for head in space.heads])
        self._parts = {
            head.name: slice(end - len(head.classes), end) for head, end in zip(space.heads, ends, strict=True)
        }
        self._logs, self._votes = np.zeros(ends[-1]), np.zeros(ends[-1])
        self._chances = softmax(self._logs, self._parts)
        self._heading = self._direction = 0j  # x + iy: sums of the vectors, and of the same at length 1
        self._turned = 1 + 0j  # by the camera, since the last sighting
        self._weight = 0.0

    def add(self, rows: Mapping[str, F32], index: int, is_cut: bool) -> None:
        """Add one sighting: row `index` of each head's probabilities; nothing where there are none."""
        if not rows:
            return
        weight = CUT_WEIGHT if is_cut else 1.0
        row = np.concatenate([rows[name][index] for name in self._parts]).astype(np.float64)
        self._logs += weight * np.log(np.clip(row, FLOOR, 1))
        for part in self._parts.values():
            self._votes[part][row[part].argmax()] += weight
        self._chances = softmax(self._logs, self._parts)
        if self._space.heading is not None:
            self._add_heading(self._space.heading, complex(*rows["heading"][index].tolist()), weight)
        self._weight += weight

    def _add_heading(self, space: Heading, heading: complex, weight: float) -> None:
        """Add a direction. Of a letter that looks the same upside down, either end may have been taken for its top."""
        letter = self._space.head(space.head).classes[int(self._logs[self._parts[space.head]].argmax())]
        self._heading, self._direction = self._heading * self._turned, self._direction * self._turned
        self._turned = 1 + 0j
        if letter in space.half_turn and (heading * self._heading.conjugate()).real < 0:
            heading = -heading
        self._heading += weight * heading
        self._direction += weight * heading / (abs(heading) or 1)

    def turn(self, direction: complex) -> None:
        """Follow the camera, which has turned the picture by this number of length 1."""
        self._turned *= direction

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Return the probabilities of all heads' classes, one behind the other [sum of classes]."""
        return self._chances

    def attributes(self) -> dict[str, FusedAttribute]:
        """Return head -> what the sightings say together."""
        found: dict[str, FusedAttribute] = {}
        if not self._weight:
            return found
        for head in self._space.heads:
            part = self._parts[head.name]
            chances, votes = self._chances[part], self._votes[part]
            best = int(chances.argmax())
            confidence = round(float(chances[best]), DIGITS)
            label = head.classes[best] if confidence >= self._abstain.get(head.name, 0.0) else None
            found[head.name] = FusedAttribute(label, confidence, round(float(votes[best]) / self._weight, DIGITS))
        heading = self._space.heading
        if heading is not None:
            mean, agreement = self._heading / self._weight, abs(self._direction) / self._weight
            of_mean = heading_attribute((mean.real, mean.imag), heading, self._abstain.get(heading.name, 0.0))
            found[heading.name] = FusedAttribute(
                of_mean.label, of_mean.confidence, round(min(1.0, agreement), DIGITS), degrees=of_mean.degrees
            )
        return found


def softmax(logs: npt.NDArray[np.float64], parts: Mapping[str, slice]) -> npt.NDArray[np.float64]:
    """Return the probabilities of sums of logarithms; the parts, which follow one another, each have the sum 1."""
    starts = [part.start for part in parts.values()]
    sizes = [part.stop - part.start for part in parts.values()]
    powers = np.exp(logs - np.repeat(np.maximum.reduceat(logs, starts), sizes))
    return np.asarray(powers / np.repeat(np.add.reduceat(powers, starts), sizes))

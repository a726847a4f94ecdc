"""Pictures that are there twice: the same pixels, or the same view re-encoded, brightened or scaled."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import cv2
import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_train.data.findings import Findings

THUMB = 16  # side of the small copy that is compared
# Correlation of the small copies. None of 12 million pairs of different drawn frames reaches it, nor of different drawn
# crops (at most 0.83 of 180,000); copies of one picture (JPEG 60, brightened, scaled to 0.6) nearly always do.
ALIKE = 0.95
FLAT = 1.0  # grey levels: what is left of a picture that shows next to nothing is noise
COMPARED = 10_000  # pictures that are compared each with each; the pixels of all are hashed
ROWS = 512


class Duplicates:
    """Takes pictures one by one; `report` notes the pairs."""

    def __init__(self) -> None:
        self._first: dict[tuple[tuple[int, ...], bytes], int] = {}
        self._names: list[str] = []
        self._sides: list[tuple[str, str]] = []
        self._same: list[tuple[int, int]] = []
        self._thumbs: list[F32] = []
        self._thumb_of: list[int] = []

    def add(self, name: str, picture: U8, split: str = "", source: str = "") -> None:
        """Take one picture, uint8 [H, W, 3]; split: train, val or "" where it has none yet."""
        number = len(self._names)
        self._names.append(name)
        self._sides.append((split, source))
        key = picture.shape, hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        first = self._first.setdefault(key, number)
        if first != number:
            self._same.append((first, number))
        elif len(self._thumbs) < COMPARED:
            small = _small_copy(picture)
            length = float(np.linalg.norm(small))
            if length > FLAT * small.size**0.5:
                self._thumbs.append(small / np.float32(length))
                self._thumb_of.append(number)

    def report(self, findings: Findings) -> None:
        """Note all pairs; those across the split are errors."""
        for one, other in self._same:
            self._note(findings, one, other, "the same picture")
        for one, other in self._alike():
            self._note(findings, one, other, "nearly the same picture")
        if len(self._first) > COMPARED:
            findings.add("note", f"only the first {COMPARED} pictures were searched for those nearly the same")

    def _alike(self) -> list[tuple[int, int]]:
        if not self._thumbs:
            return []
        thumbs, pairs = np.stack(self._thumbs), []
        for start in range(0, len(thumbs), ROWS):
            found = thumbs[start : start + ROWS] @ thumbs[start:].T
            rows, columns = np.nonzero(found >= ALIKE)
            pairs += [(start + r, start + c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if c > r]
        return [(self._thumb_of[one], self._thumb_of[other]) for one, other in pairs]

    def _note(self, findings: Findings, one: int, other: int, what: str) -> None:
        place = f"{self._names[one]} = {self._names[other]}"
        (split, source), (other_split, other_source) = self._sides[one], self._sides[other]
        if {split, other_split} == {"train", "val"}:
            findings.add("error", f"{what} in train and in val", place)
        elif not split and source != other_source:
            findings.add("warning", f"{what} in two sources, which may come to lie in train and in val", place)
        else:
            findings.add("warning", f"{what} twice", place)


def _small_copy(picture: U8) -> F32:
    """Return the picture reduced, less the smooth part of each channel: float32 [THUMB * THUMB * 3].

    Without its mean, slope and curvature, the vignette of one lens does not make all pictures of a lawn alike.
    """
    small = cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    smooth = _smooth()
    return np.asarray((small - smooth @ (smooth.T @ small)).reshape(-1), np.float32)


@lru_cache(maxsize=1)
def _smooth() -> F32:
    """An orthonormal basis of the quadratic surfaces over a small copy: float32 [THUMB * THUMB, 6]."""
    y, x = (axis.reshape(-1) for axis in np.mgrid[-1 : 1 : THUMB * 1j, -1 : 1 : THUMB * 1j])
    surfaces = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=1)
    return np.asarray(np.linalg.qr(surfaces).Q, np.float32)

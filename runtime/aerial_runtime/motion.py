"""How the camera has moved between two frames: by a small grey picture of each, or by targets seen in both.

Points are complex numbers, x + iy in pixels from the frame's middle, so a similarity is `a * z + b`: the angle of `a`
is the rotation (clockwise in the picture), its length the scale, `b` the translation. What is not known is None.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from aerial_runtime.contract import U8

Points = npt.NDArray[np.complex128]
Mask = npt.NDArray[np.bool_]

SMALL_PX: Final = 480  # width of the grey picture: at half of it a meadow shows too little
FEATURES, PATCH_PX = 200, 21  # of one size: from frame to frame the scale hardly changes
FAST_FLOOR, FAST_CEILING = 3, 40  # threshold of corners: a lawn has no stronger ones, and a field of stubble thousands
INLIER_PX = 2.0  # of the small picture
MIN_INLIERS = 8  # by chance there are two or three
RANSAC_TURNS = 500
MAX_SCALE = 2.0  # between two frames; more is a mistake
MIN_COMMON = 4  # targets that must agree for a motion to be read from them alone
TURN_ERROR = 0.004  # standard error of a measured turn, at least
MIN_SHARE = 0.6  # of the targets that could agree
VOTERS = 8  # tracks that propose motions
VOTES = 300_000  # pairs of targets that are looked at for all proposals: bounds the cost of a frame full of targets


@dataclass(frozen=True)
class Motion:
    """A similarity z -> turn * z + shift. is_known: measured, and not only gone on with; turn_error: how well."""

    turn: complex = 1 + 0j
    shift: complex = 0j
    is_known: bool = False
    turn_error: float = TURN_ERROR

    def __call__(self, points: Points) -> Points:
        """Return where points of the earlier frame are in the later one."""
        return np.asarray(self.turn * points + self.shift)

    def over(self, times: float) -> Motion:
        """Return the motion that goes on in the same way for so many times as long; not known."""
        return Motion(self.turn**times, self.shift * times)


def checked(turn: complex, shift: complex, turn_error: float = TURN_ERROR) -> Motion | None:
    """Return a measured motion, None where it is not finite or cannot be one."""
    if not (cmath.isfinite(turn) and cmath.isfinite(shift)) or not 1 / MAX_SCALE < abs(turn) < MAX_SCALE:
        return None
    return Motion(turn, shift, is_known=True, turn_error=max(TURN_ERROR, turn_error))


class ImageMotion:
    """Motion from one frame to the next, by ORB features of a picture SMALL_PX wide: any angle, two ms.

    Most of that would go into weak corners that stronger ones then displace, so the threshold follows the ground: it
    rises as long as there are corners enough.
    """

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self._orb = cv2.ORB_create(  # type: ignore[attr-defined]
            FEATURES, nlevels=1, edgeThreshold=PATCH_PX, patchSize=PATCH_PX
        )
        self._threshold = FAST_FLOOR
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
        self._before: _View | None = None
        self._now: _View | None = None

    def look(self, image_bgr: U8) -> None:
        """Take the next frame, uint8 [H, W, 3], only read."""
        height, width = image_bgr.shape[:2]
        factor = max(1.0, width / SMALL_PX)
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        # Linear, not by area: it reads four pixels for one and not all, a fifth of the time for the same motions.
        grey = cv2.cvtColor(cv2.resize(image_bgr, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2GRAY)
        self._before, self._now = self._now, _View(grey, (width, height), factor)

    def measure(self) -> Motion | None:
        """Return the motion between the last two frames; None where it is not known, as of black or blurred ones."""
        before, now = self._before, self._now
        if before is None or now is None or before.frame_size != now.frame_size:
            return None
        old_points, old_words = self._features(before)
        points, words = self._features(now)
        if old_words is None or words is None:
            return None
        matches = self._matcher.match(old_words, words)
        if len(matches) < MIN_INLIERS:
            return None
        source = old_points[[match.queryIdx for match in matches]]
        target = points[[match.trainIdx for match in matches]]
        matrix, inliers = cv2.estimateAffinePartial2D(
            source, target, ransacReprojThreshold=INLIER_PX, maxIters=RANSAC_TURNS
        )
        if matrix is None or int(inliers.sum()) < MIN_INLIERS:
            return None
        height, width = now.grey.shape
        middle = complex(width - 1, height - 1) / 2
        turn, moved = complex(matrix[0, 0], matrix[1, 0]), complex(matrix[0, 2], matrix[1, 2])
        # Points that lie close together say little of a rotation.
        agreed = target[inliers.ravel() > 0]
        spread_px = float(np.hypot(*agreed.std(axis=0))) or 1.0
        turn_error = INLIER_PX / (spread_px * math.sqrt(len(agreed)))
        return checked(turn, (turn * middle + moved - middle) * now.factor, turn_error)

    def _features(self, view: _View) -> tuple[Any, Any]:
        """Return points [N, 2] and descriptors of a view, found when they are first asked for; None: no corners."""
        if view.features is None:
            found, words = self._detected(view)
            if len(found) < FEATURES / 2 and self._threshold > FAST_FLOOR:  # the ground has changed
                self._threshold = FAST_FLOOR
                found, words = self._detected(view)
            self._threshold += 1 if len(found) >= FEATURES else -2
            self._threshold = min(max(self._threshold, FAST_FLOOR), FAST_CEILING)
            view.features = cv2.KeyPoint.convert(found), words
        return view.features

    def _detected(self, view: _View) -> tuple[Any, Any]:
        self._orb.setFastThreshold(self._threshold)
        found, words = self._orb.detectAndCompute(view.grey, None)
        return found, words


class _View:
    """A small grey picture, and its features once they were found."""

    def __init__(self, grey: Any, frame_size: tuple[int, int], factor: float) -> None:
        self.grey, self.frame_size, self.factor = grey, frame_size, factor
        self.features: tuple[Any, Any] | None = None


def motion_of_targets(
    old: Points, new: Points, alike: Mask, guess: Motion, tolerance_px: float, least: int = MIN_COMMON
) -> Motion | None:
    """Return the motion that most targets of two frames agree on; None where they are few, or two motions would do.

    old: [N], those of the earlier frame; new: [M]; alike: [N, M], which could be the same. guess: roughly the motion.
    tolerance_px: by which the guess may turn them wrong. least: that must agree.
    """
    moved = guess(old)
    rows, columns = np.nonzero(alike[:VOTERS])
    if len(rows) == 0 or min(len(old), len(new)) < least:
        return None
    shifts = new[columns] - moved[rows]
    most = max(1, VOTES // (len(old) * len(new)))  # of a crowd that looks alike those nearest to the guess
    shifts = shifts[np.abs(shifts).argsort(kind="stable")[:most]]
    # [shifts, N, M]: which target would then be where one was found
    close = (np.abs(moved[None, :, None] + shifts[:, None, None] - new[None, None, :]) < tolerance_px) & alike
    votes = np.minimum(close.any(axis=2).sum(axis=1), close.any(axis=1).sum(axis=1))
    best = int(votes.argmax())
    others = votes[np.abs(shifts - shifts[best]) > 2 * tolerance_px]
    enough = max(least, MIN_SHARE * min(len(old), len(new)))
    if votes[best] < enough or (len(others) and others.max() > votes[best] / 2):
        return None
    far = np.where(close[best], np.abs(moved[:, None] + shifts[best] - new[None, :]), np.inf)
    nearest = far.argmin(axis=1)
    paired = np.isfinite(far.min(axis=1)) & (far[:, nearest].argmin(axis=0) == np.arange(len(old)))
    return fitted(old[paired], new[nearest[paired]]) if int(paired.sum()) >= least else None


def fitted(old: Points, new: Points) -> Motion | None:
    """Return the similarity of least squares between two or more points; None where they do not tell it."""
    if len(old) < 2:
        return None
    old_middle, new_middle = complex(old.mean()), complex(new.mean())
    spread = float((np.abs(old - old_middle) ** 2).sum())
    if not spread > 0:  # NaN neither
        return None
    turn = complex((np.conj(old - old_middle) * (new - new_middle)).sum()) / spread
    return checked(turn, new_middle - turn * old_middle)

"""One board is one target: detections of many frames -> tracks, while the camera moves over the ground.

Tracks are carried along with the camera's motion, with an error that grows, so one that was out of sight is known again
as long as its place is known better than LOST of the frame. Positions are complex, as in motion.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from aerial_runtime.assign import F64, assign
from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import FlightTargets, Frame, Target, TargetEvent, TrackedTarget
from aerial_runtime.fuse import Belief
from aerial_runtime.motion import ImageMotion, Mask, Motion, Points, motion_of_targets
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.sightings import Indices, Seen, Track

MAX_LIVE: Final = 500  # tracks that may still be seen again; beyond it the one unseen for longest ends
MAX_TARGETS: Final = 10_000  # kept for the summary, those seen most: 20 MB

# Standard errors of a motion from frame to frame: shares of the frame's diagonal, of the shift, of the distance from
# the frame's middle. A measured motion says itself how well its turn is known.
KNOWN_DIAGONAL = 0.002
GUESSED_DIAGONAL, GUESSED_SHIFT, GUESSED_LEVER = 0.03, 0.5, 0.1
LOST: Final = 0.15  # of the diagonal: error of a place at which a track ends, for it would take up strangers
# Frames without targets are passed over for so long, while the picture moves by less than this share of the diagonal.
PASSED_OVER_NS, PASSED_OVER = 200_000_000, 0.1
VOTE_TOLERANCE: Final = 0.02  # of the diagonal, by which a guess may turn targets wrong
MAX_STEPS: Final = 5.0  # that a motion is taken to go on after a gap

GATE: Final = 16.0  # sum of squared errors in standard errors: 4 of them
SIZE_ERROR: Final = 0.2  # of the logarithm of a size
LOOK_FLOOR, LOOK_WEIGHT = 0.05, 2.0  # probability that labels are the same; weight of its logarithm
ALIKE: Final = 4.0  # difference in size and look up to which two may be the same where nothing is known of places


class Tracker:
    """Follows targets from frame to frame; for one thread.

    frames: taken so far. Memory is bounded: MAX_LIVE tracks, MAX_TARGETS that have ended.
    """

    def __init__(self, space: LabelSpace, abstain: Mapping[str, float] | None = None) -> None:
        """abstain: head or heading name -> confidence under which a fused label is withheld."""
        self.frames = 0
        self._space, self._abstain = space, abstain or {}
        self._camera = ImageMotion()
        self._motion, self._step_ns = Motion(), 0
        self._before_ns: int | None = None
        self._looked = 0  # the frame that was last looked at
        self._tracks: list[Track] = []
        # Beside them: where each is now, the square of the error of that in pixels, and the root of its area.
        self._places: Points = np.zeros(0, np.complex128)
        self._errors2: F64 = np.zeros(0)
        self._sizes: F64 = np.zeros(0)
        self._ended: list[tuple[int, int, TrackedTarget]] = []  # a heap of those seen most
        self._count = self._left_out = 0

    def __call__(self, frame: Frame, result: PipelineResult) -> tuple[list[Target], list[TargetEvent]]:
        """Take the next frame; return its targets with their track ids, and what is new of tracks."""
        self.frames += 1
        seen = Seen(frame, result)
        pairs = self._follow(frame, seen)
        events: list[TargetEvent] = []
        ids: list[int | msgspec.UnsetType] = [msgspec.UNSET] * len(result.targets)
        for row, column in pairs:
            self._improve(column, seen, row)
            ids[row] = self._tracks[column].track_id
            events += self._tracks[column].news()
        taken = [column for _, column in pairs]
        begun = [row for row, found in enumerate(ids) if found is msgspec.UNSET and not self._is_part(seen, row, taken)]
        for row in begun:
            ids[row] = self._begin(seen, row)
            events.append(TargetEvent("new", self._tracks[-1].target()))
        events += self._end(np.sqrt(self._errors2) > LOST * seen.diagonal_px)
        targets = [msgspec.structs.replace(t, track_id=i) for t, i in zip(result.targets, ids, strict=True)]
        return targets, events

    def finish(self) -> list[TargetEvent]:
        """End all tracks; return the events of that."""
        return self._end(np.ones(len(self._tracks), bool))

    def flight(self, source: str) -> FlightTargets:
        """Return all targets up to now, also those that may still be seen again."""
        targets = [target for *_, target in self._ended] + [track.target() for track in self._tracks]
        return FlightTargets(source, self.frames, self._left_out, sorted(targets, key=lambda target: target.track_id))

    def _follow(self, frame: Frame, seen: Seen) -> list[tuple[int, int]]:
        """Move all tracks with the camera; return (detection, track) pairs."""
        before_ns = frame.captured_mono_ns if self._before_ns is None else self._before_ns
        step_ns = frame.captured_mono_ns - before_ns
        steps = min(MAX_STEPS, step_ns / self._step_ns) if min(step_ns, self._step_ns) > 0 else 1.0
        guess = self._motion.over(steps)
        if self._may_pass_over(seen, guess, step_ns):
            return []
        self._camera.look(frame.image_bgr)
        looked, self._looked = self._looked, self.frames
        self._before_ns, self._step_ns = frame.captured_mono_ns, step_ns
        if not self._tracks:
            self._motion = Motion()  # nobody needs it, and to go on with an old one would be wrong
            return []
        motion = self._measured(seen, guess, looked)
        self._places, self._sizes = motion(self._places), self._sizes * abs(motion.turn)
        self._errors2 = self._errors2 + _motion_error2(motion, self._places, seen)
        self._motion = motion
        for track in self._tracks:
            track.belief.turn(motion.turn / abs(motion.turn))
        return self._pairs(seen)

    def _may_pass_over(self, seen: Seen, guess: Motion, step_ns: int) -> bool:
        """Tell whether a frame without targets need not be looked at: the next still shows the ground of the last."""
        if len(seen.places):
            return False
        if not self._tracks:
            return True
        if not self._motion.is_known or not 0 < step_ns < PASSED_OVER_NS:
            return False
        of_middle, of_corner = abs(guess.shift), abs(guess.turn - 1) * seen.diagonal_px / 2
        return of_middle + of_corner < PASSED_OVER * seen.diagonal_px

    def _measured(self, seen: Seen, guess: Motion, looked: int) -> Motion:
        """Return the motion since frame `looked`: by many targets, by the picture, by few targets, or the guess."""
        rows = [i for i, track in enumerate(self._tracks) if track.last_frame == looked and not track.is_cut]
        whole = np.flatnonzero(~seen.is_cut)
        old, new = self._places[rows], seen.places[whole]
        alike = self._differences(seen, whole, np.array(rows, int)) < ALIKE
        tolerance_px = VOTE_TOLERANCE * seen.diagonal_px
        return (
            motion_of_targets(old, new, alike, guess, tolerance_px)
            or self._camera.measure()
            or motion_of_targets(old, new, alike, guess, tolerance_px, least=2)
            or guess
        )

    def _differences(self, seen: Seen, rows: Indices, columns: Indices) -> F64:
        """Return by how much tracks and detections differ in size and look, in squared errors [tracks, detections]."""
        ratios = np.log(np.maximum(seen.sizes[rows][None, :], 1) / np.maximum(self._sizes[columns][:, None], 1))
        # Of what was cut by the edge, less is seen than there is.
        ratios = np.where(seen.is_cut[rows][None, :], np.maximum(ratios, 0), ratios)
        was_cut = np.array([self._tracks[column].is_cut for column in columns], bool)
        ratios = np.where(was_cut[:, None], np.minimum(ratios, 0), ratios)
        cost = (ratios / SIZE_ERROR) ** 2
        if seen.looks.shape[1] and len(columns):
            looks = np.array([self._tracks[column].look for column in columns])
            same = looks @ seen.looks[rows].T / len(self._space.heads)  # probability that a label is the same, 0..1
            cost += -LOOK_WEIGHT * np.log(np.clip(same, LOOK_FLOOR, 1))
        return np.asarray(cost)

    def _pairs(self, seen: Seen) -> list[tuple[int, int]]:
        """Return (detection, track): the assignment of least squared errors of place, size and look."""
        distance2 = np.abs(seen.places[:, None] - self._places[None, :]) ** 2
        cost = distance2 / (seen.errors2[:, None] + self._errors2[None, :])
        near = np.flatnonzero((cost < GATE).any(axis=0))
        cost = cost[:, near] + self._differences(seen, np.arange(len(seen.places)), near).T
        # Of two tracks that both could be meant, the surer one: a place that is hardly known fits everything.
        cost += np.log1p(self._errors2[near][None, :] / seen.errors2[:, None])
        return [(row, int(near[column])) for row, column in assign(cost, GATE)]

    def _improve(self, column: int, seen: Seen, row: int) -> None:
        """Take a detection as a sighting of a track."""
        gain = self._errors2[column] / (self._errors2[column] + seen.errors2[row])
        self._places[column] += gain * (seen.places[row] - self._places[column])
        self._errors2[column] *= 1 - gain
        if not seen.is_cut[row] or self._tracks[column].is_cut:
            self._sizes[column] = seen.sizes[row]
        self._tracks[column].add(seen, row)
        self._tracks[column].last_frame = self.frames

    def _begin(self, seen: Seen, row: int) -> int:
        """Begin a track with a detection; return its id."""
        self._count += 1
        track = Track(self._count, seen, row, Belief(self._space, self._abstain))
        track.last_frame = self.frames
        self._tracks.append(track)
        self._places = np.append(self._places, seen.places[row])
        self._errors2 = np.append(self._errors2, seen.errors2[row])
        self._sizes = np.append(self._sizes, seen.sizes[row])
        return track.track_id

    def _is_part(self, seen: Seen, row: int, taken: Sequence[int]) -> bool:
        """Tell whether a detection is a piece of a target that was seen beside it, or several known ones as one."""
        distances = np.abs(self._places - seen.places[row])
        is_piece = bool((distances[list(taken)] < self._sizes[list(taken)] / 2).any())
        is_sure = self._errors2 < (self._sizes / 2) ** 2
        return is_piece or int((is_sure & (distances < seen.sizes[row] / 2)).sum()) > 1

    def _end(self, is_over: Mask) -> list[TargetEvent]:
        """End these tracks, and those that are too many."""
        surplus = len(self._tracks) - int(is_over.sum()) - MAX_LIVE
        if surplus > 0:
            last = [0 if over else track.last_frame for track, over in zip(self._tracks, is_over, strict=True)]
            is_over = is_over.copy()
            is_over[np.argsort(last, kind="stable")[: len(self._tracks) - MAX_LIVE]] = True
        ended = [track.target() for track, over in zip(self._tracks, is_over, strict=True) if over]
        for target in ended:
            heapq.heappush(self._ended, (target.sightings, -target.track_id, target))
            if len(self._ended) > MAX_TARGETS:
                heapq.heappop(self._ended)
                self._left_out += 1
        self._tracks = [track for track, over in zip(self._tracks, is_over, strict=True) if not over]
        self._places, self._errors2, self._sizes = (
            self._places[~is_over], self._errors2[~is_over], self._sizes[~is_over],
        )  # fmt: skip
        return [TargetEvent("final", target) for target in ended]


def _motion_error2(motion: Motion, places: Points, seen: Seen) -> F64:
    """Return the squares of the errors that a motion adds to places, in pixels."""
    if motion.is_known:
        return np.asarray((KNOWN_DIAGONAL * seen.diagonal_px) ** 2 + (motion.turn_error * np.abs(places)) ** 2)
    middle_px = GUESSED_DIAGONAL * seen.diagonal_px + GUESSED_SHIFT * abs(motion.shift)
    return np.asarray(middle_px**2 + (GUESSED_LEVER * np.abs(places)) ** 2)

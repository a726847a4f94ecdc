"""Score the targets of a whole flight: found once, doubled, missed; attributes after fusion.

The rules: the label file gives one target the same `id` in all frames; in each frame detections are matched to labels
as in score.py, and a target has the tracks of the detections that were matched to it. Targets that no frame shows whole
and with 17 px or more count neither way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import Detections, FlightTargets
from aerial_runtime.label_file import LabelledBox, LabelledFrame
from aerial_runtime.score import Score, attribute_lines, match_targets, score_attributes, unlabelled


@dataclass
class TargetScore:
    """targets: in the truth. once, doubled, missed: those with one track, with more, with none.

    mixed: tracks on two targets. extra: tracks on none. wrong: a line for each target that is not right. fused: the
    attributes.
    """

    targets: int = 0
    once: int = 0
    doubled: int = 0
    missed: int = 0
    mixed: int = 0
    extra: int = 0
    wrong: list[str] = field(default_factory=list)
    fused: Score = field(default_factory=Score)


def score_targets(
    labels: Sequence[LabelledFrame],
    detections: Iterable[Detections],
    flight: FlightTargets | None,
    space: LabelSpace,
    min_frames: int = 1,
) -> TargetScore:
    """Score a flight with track ids; `flight` gives the fused attributes, which are not scored without.

    min_frames: in which a target must be whole for it to count.
    """
    seen = {message.frame.name: message for message in detections}
    whole: Counter[int] = Counter()
    tracks: dict[int, Counter[int]] = defaultdict(Counter)  # target -> track -> frames
    views: dict[tuple[int, str], LabelledBox] = {}
    astray: set[int] = set()  # tracks with a detection on nothing, by the rule of score.py
    for frame in labels:
        targets = seen[frame.image].targets if frame.image in seen else []
        matches = match_targets(frame.targets, targets)
        ids = {index: target.track_id for index, target in enumerate(targets) if target.track_id is not msgspec.UNSET}
        astray.update(ids[index] for index in unlabelled(frame, targets, matches) if index in ids)
        for index, label in enumerate(frame.targets):
            if label.id is None:
                continue
            whole[label.id] += label.scored
            views[label.id, frame.image] = label
            if matches.get(index) in ids:
                tracks[label.id][ids[matches[index]]] += 1
    score = TargetScore()
    counted = sorted(number for number, frames in whole.items() if frames >= max(1, min_frames))
    for number in counted:
        _count(score, number, tracks[number])
    users = Counter(track for found in tracks.values() for track in found)
    score.mixed = sum(count > 1 for count in users.values())
    score.extra = len(astray - set(users))
    if flight is not None:
        _score_fused(score.fused, counted, tracks, views, flight, space)
    return score


def has_ids(labels: Sequence[LabelledFrame], detections: Iterable[Detections]) -> bool:
    """Tell whether targets can be followed: labels have ids, and detections track ids."""
    is_labelled = any(label.id is not None for frame in labels for label in frame.targets)
    return is_labelled and any(
        target.track_id is not msgspec.UNSET for message in detections for target in message.targets
    )


def _count(score: TargetScore, number: int, tracks: Counter[int]) -> None:
    score.targets += 1
    score.once += len(tracks) == 1
    score.missed += not tracks
    score.doubled += len(tracks) > 1
    if not tracks:
        score.wrong.append(f"missed target {number}")
    if len(tracks) > 1:
        score.wrong.append(f"doubled target {number}: tracks {', '.join(map(str, sorted(tracks)))}")


def _score_fused(
    score: Score,
    counted: Sequence[int],
    tracks: dict[int, Counter[int]],
    views: dict[tuple[int, str], LabelledBox],
    flight: FlightTargets,
    space: LabelSpace,
) -> None:
    """Score the attributes of the track that was on a target in most frames, by the label of its last frame.

    Where that frame is not labelled, by another's, without the direction: that one is of the frame.
    """
    heading = space.heading.name if space.heading is not None else None
    others = {
        number: replace(label, attributes={name: word for name, word in label.attributes.items() if name != heading})
        for (number, _), label in views.items()
    }
    fused = {target.track_id: target for target in flight.targets}
    for number in counted:
        best = max(tracks[number], key=lambda track: tracks[number][track], default=None)
        if best is None or best not in fused:
            continue
        target = fused[best]
        label = views.get((number, target.last.frame_name), others[number])
        score_attributes(score, label, target.attributes, space)


def format_targets(score: TargetScore) -> str:
    """Return the score as a text of a few lines."""
    lines = [
        f"targets of the flight {score.targets}: once {score.once}  doubled {score.doubled}  missed {score.missed}   "
        f"tracks on two {score.mixed}, on none {score.extra}",
    ]
    return "\n".join([*lines, *attribute_lines(score.fused)])

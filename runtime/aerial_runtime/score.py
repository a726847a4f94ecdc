"""Score detections against labelled frames: found, missed, extra, and how many attributes are right.

The rules, the same for demo flights and real photographs:
- one detection a label, greedy by confidence; a match is IoU >= 0.25, or the detection's centre in the label's box
  with areas within a factor of 4;
- labels that are truncated, to be ignored or under 17 px count neither as missed, nor their detections as extra;
- a label that is null or "none" (nothing there to read) is not scored; an abstention counts as wrong, and coverage
  (share answered) stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from aerial_runtime.card import LabelSpace, load_label_space
from aerial_runtime.contract import DECODE_ERRORS, Attribute, Box, Detections, FusedAttribute, Target
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import MIN_LABEL_PX, NOTHING_THERE, LabelledBox, LabelledFrame

MIN_IOU = 0.25
MAX_AREA_RATIO = 4.0
SIZE_BINS_PX = (17, 25, 40, 80, 160)  # lower edges of the recall-by-size table


def read_detections(path: Path) -> list[Detections]:
    """Read a JSONL file of `aerial.detections/1`; a last line that a crash cut short is left out. Raises InputError."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"cannot read the detections {path} ({error.strerror}); check the path") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(msgspec.json.decode(line, type=Detections))
        except DECODE_ERRORS as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise InputError(
                f"{path}, line {number}, is not a detections message ({error}); give what aerial-runtime --output wrote"
            ) from error
    return rows


@dataclass
class AttributeScore:
    """Counts over matched labels whose attribute is known."""

    known: int = 0
    answered: int = 0
    right: int = 0
    right_raw: int = 0  # without forgiving symmetric letters; differs for the orientation only


@dataclass
class Score:
    """What a flight found.

    by_size: lower edge of the bin in px -> [found, labels]. warnings: what makes the score doubtful.
    """

    frames: int = 0
    complete_frames: int = 0
    labels: int = 0
    found: int = 0
    extra: int = 0
    ignored: int = 0
    all_known: int = 0
    all_right: int = 0
    attributes: dict[str, AttributeScore] = field(default_factory=dict)
    by_size: dict[int, list[int]] = field(default_factory=lambda: {edge: [0, 0] for edge in SIZE_BINS_PX})
    missed: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Share of scored labels that were found, 0..1; 1 where there are none."""
        return self.found / self.labels if self.labels else 1.0

    @property
    def extras_per_frame(self) -> float:
        """Detections without a label, a frame whose every target is labelled."""
        return self.extra / self.complete_frames if self.complete_frames else 0.0


def score_flight(
    labels: Sequence[LabelledFrame], detections: Iterable[Detections], space: LabelSpace | None = None
) -> Score:
    """Score the detections of each labelled frame (matched by file name); frames without labels are left out."""
    space = space or load_label_space("suas")
    messages = list(detections)
    seen = {message.frame.name: message for message in messages}
    score = Score()
    for frame in labels:
        message = seen.get(frame.image)
        score.frames += 1
        score.complete_frames += frame.complete
        _score_frame(score, frame, message.targets if message else [], space)
    unseen = sum(frame.image not in seen for frame in labels)
    if unseen:
        score.warnings.append(f"{unseen} labelled frames have no detections message; all in them counts as missed")
    if len(seen) < len(messages):
        score.warnings.append(f"{len(messages) - len(seen)} messages share a frame name; only the last of each counts")
    strange = {name for frame in labels for label in frame.targets for name in label.attributes} - set(_answers(space))
    if strange:
        score.warnings.append(f"{sorted(strange)} are not in the label space {space.name!r}; give --label-space")
    score.warnings += _unknown_words(labels, space)
    return score


def _score_frame(score: Score, frame: LabelledFrame, targets: Sequence[Target], space: LabelSpace) -> None:
    matches = match_targets(frame.targets, targets)
    for index, label in enumerate(frame.targets):
        if not label.scored:
            score.ignored += 1
            continue
        size_bin = max(edge for edge in SIZE_BINS_PX if edge <= label.size_px)
        score.labels += 1
        score.by_size[size_bin][1] += 1
        if index in matches:
            score.found += 1
            score.by_size[size_bin][0] += 1
            score_attributes(score, label, targets[matches[index]].attributes, space)
        else:
            score.missed.append(place(frame.image, label.box))
    extras = unlabelled(frame, targets, matches)
    score.extra += len(extras)
    score.extras += [place(frame.image, targets[index].box) for index in extras]


def _unknown_words(labels: Sequence[LabelledFrame], space: LabelSpace) -> list[str]:
    """Return a warning that names the labels which no answer can match, nothing where there are none."""
    answers = _answers(space)
    words = {
        f"{name} {word!r}"
        for frame in labels
        for label in frame.targets
        for name, word in label.attributes.items()
        if word is not None and word not in (*answers.get(name, (word,)), NOTHING_THERE)
    }
    if not words:
        return []
    return [f"no classes of the label space {space.name!r}: {', '.join(sorted(words))}; they count as wrong"]


def _answers(space: LabelSpace) -> dict[str, tuple[str, ...]]:
    """Return head or heading name -> what can be answered."""
    answers = {head.name: head.classes for head in space.heads}
    return answers if space.heading is None else answers | {space.heading.name: space.heading.sectors}


def place(image: str, box: Box) -> str:
    """Return a box in words."""
    return f"{image} x={box.x} y={box.y} {box.width}x{box.height}"


def unlabelled(frame: LabelledFrame, targets: Sequence[Target], matches: Mapping[int, int]) -> list[int]:
    """Return the detections that are extra; none where not every target is labelled. matches: of `match_targets`."""
    if not frame.complete:
        return []
    taken = set(matches.values())
    unscored = [label.box for label in frame.targets if not label.scored]
    return [
        index
        for index, target in enumerate(targets)
        if index not in taken and not any(boxes_match(box, target.box) for box in unscored)
    ]


def match_targets(labels: Sequence[LabelledBox], targets: Sequence[Target]) -> dict[int, int]:
    """Return label index -> detection index: by falling confidence, each detection takes its best free scored label."""
    matches: dict[int, int] = {}
    for index in sorted(range(len(targets)), key=lambda i: -targets[i].confidence):
        box = targets[index].box
        free = [
            (iou(label.box, box), number)
            for number, label in enumerate(labels)
            if label.scored and number not in matches and boxes_match(label.box, box)
        ]
        if free:
            matches[max(free)[1]] = index
    return matches


def iou(a: Box, b: Box) -> float:
    """Return the intersection over the union of two boxes, 0..1."""
    common = a.shared_px(b)
    return common / (a.area_px + b.area_px - common) if common else 0.0


def boxes_match(label: Box, found: Box) -> bool:
    """Whether a box that was found is the label's: the match rule above."""
    if iou(label, found) >= MIN_IOU:
        return True
    x, y = found.x + found.width / 2, found.y + found.height / 2
    inside = label.x <= x < label.x + label.width and label.y <= y < label.y + label.height
    ratio = found.area_px / label.area_px if label.area_px else float("inf")
    return inside and 1 / MAX_AREA_RATIO <= ratio <= MAX_AREA_RATIO


def score_attributes(
    score: Score, label: LabelledBox, attributes: Mapping[str, Attribute | FusedAttribute], space: LabelSpace
) -> None:
    """Count which attributes of a target that was found are right."""
    names = [head.name for head in space.heads]
    verdicts = []
    for name, classes in _answers(space).items():
        truth = label.attributes.get(name)
        if truth is None or (truth == NOTHING_THERE and truth not in classes):
            continue
        answer = attributes.get(name)
        said = answer.label if answer else None
        right = said == truth
        forgiven = right or (name not in names and said is not None and _same_by_symmetry(space, label, truth, said))
        counts = score.attributes.setdefault(name, AttributeScore())
        counts.known += 1
        counts.answered += said is not None
        counts.right_raw += right
        counts.right += forgiven
        if name in names:
            verdicts.append(right)
    if len(verdicts) == len(names):
        score.all_known += 1
        score.all_right += all(verdicts)


def _same_by_symmetry(space: LabelSpace, label: LabelledBox, truth: str, said: str) -> bool:
    """Whether the two sectors cannot be told apart for this label's letter."""
    heading = space.heading
    letter = label.attributes.get(heading.head) if heading else None
    if heading is None or letter is None:
        return False
    if letter in heading.any_angle:
        return True
    sectors = heading.sectors
    turned = (sectors.index(truth) - sectors.index(said)) % len(sectors) if {truth, said} <= set(sectors) else 0
    return letter in heading.half_turn and 2 * turned == len(sectors)


def format_score(score: Score) -> str:
    """Return the score as a text of a few lines."""
    lines = [
        f"frames {score.frames}, labels {score.labels} (and {score.ignored} not scored: truncated or under "
        f"{MIN_LABEL_PX} px)",
        f"found {score.found}  missed {score.labels - score.found}  extra {score.extra}   "
        f"recall {100 * score.recall:.1f} %   extras/frame {score.extras_per_frame:.2f}",
    ]
    lines += [f"WARNING: {warning}" for warning in score.warnings]
    sizes = [*SIZE_BINS_PX, None]
    for low, high in zip(SIZE_BINS_PX, sizes[1:], strict=True):
        found, labels = score.by_size[low]
        if labels:
            span = f"{low}-{high - 1} px" if high else f"from {low} px"
            lines.append(f"  recall {span:<12} {found:>4} of {labels:<4} {100 * found / labels:5.1f} %")
    return "\n".join([*lines, *attribute_lines(score)])


def attribute_lines(score: Score) -> list[str]:
    """Return a line per head."""
    lines = []
    for name, counts in score.attributes.items():
        share, coverage = 100 * counts.right / counts.known, 100 * counts.answered / counts.known
        raw = f"   raw {100 * counts.right_raw / counts.known:5.1f} %" if counts.right_raw != counts.right else ""
        lines.append(
            f"  {name:<14} right {counts.right:>4} of {counts.known:<4} {share:5.1f} %   "
            f"answered {coverage:5.1f} %{raw}"
        )
    if score.all_known:
        lines.append(
            f"  all heads      right {score.all_right:>4} of {score.all_known:<4} "
            f"{100 * score.all_right / score.all_known:5.1f} %"
        )
    return lines

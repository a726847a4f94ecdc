"""`aerial-diff A B`: in what two flights over the same frames differ, target by target."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from mcap.writer import MCAP0_MAGIC

from aerial_runtime import __version__
from aerial_runtime.config import Parser
from aerial_runtime.console import labels_of
from aerial_runtime.contract import DECODE_ERRORS, Detections, Target
from aerial_runtime.errors import CheckError, InputError, run_command
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import DETECTIONS
from aerial_runtime.say import say
from aerial_runtime.score import MIN_IOU, iou, read_detections

GAINED, LOST, RELABELLED, MOVED = "gained", "lost", "re-labelled", "otherwise"
Key = tuple[str, int]  # name of a frame, and which of those of that name it is


@dataclass(frozen=True)
class Difference:
    """A target of one frame that is not the same in both. before: in A, after: in B; None where it is not there."""

    kind: str
    frame: str
    before: Target | None
    after: Target | None


@dataclass
class Comparison:
    """What two flights have in common, and what not. same: targets whose labels are equal.

    only_a, only_b: frames that the other has no message of.
    """

    frames: int = 0
    same: int = 0
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """Return how many differences are of a kind."""
        return sum(difference.kind == kind for difference in self.differences)

    def differs(self, exact: bool, common: bool) -> bool:
        """Whether the flights differ. exact: numbers count too; common: frames of one flight alone do not."""
        kinds = {difference.kind for difference in self.differences} - (set() if exact else {MOVED})
        return bool(kinds) or (not common and bool(self.only_a or self.only_b))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-diff", lambda: diff(_parser().parse_args(argv)))


def diff(options: argparse.Namespace) -> int:
    """Print the differences and their summary; return 0 where there are none. Raises InputError or CheckError."""
    found = compare(read_flight(options.a), read_flight(options.b))
    if not found.frames:
        raise InputError(f"{options.a} and {options.b} have no frame in common; give two flights over the same frames")
    shown = [one for one in found.differences if options.exact or one.kind != MOVED]
    if not options.quiet:
        for difference in shown:
            say(difference_line(difference))
    say(summary(found, options.exact))
    if found.differs(options.exact, options.common):
        raise CheckError(f"{options.a} and {options.b} differ; the summary says in what")
    return 0


def read_flight(path: Path) -> list[Detections]:
    """Return the detections of a recording or of a file of --output, in order. Raises InputError."""
    try:
        with path.open("rb") as file:
            is_recording = file.read(len(MCAP0_MAGIC)) == MCAP0_MAGIC
    except OSError as error:
        raise InputError(f"cannot read the flight {path} ({error.strerror}); check the path") from error
    if not is_recording:
        return read_detections(path)
    decoder = msgspec.json.Decoder(Detections)
    try:
        return [decoder.decode(payload) for _, payload in Recording(path).messages(DETECTIONS)]
    except DECODE_ERRORS as error:
        raise InputError(f"{path} holds what is no detections message ({error}); record it again") from error


def compare(before: Sequence[Detections], after: Sequence[Detections]) -> Comparison:
    """Compare two flights frame by frame; frames go by their names, and where one repeats by their order."""
    flown, others = dict(_keyed(before)), dict(_keyed(after))
    found = Comparison(
        only_a=[key[0] for key in flown if key not in others], only_b=[key[0] for key in others if key not in flown]
    )
    for key, message in flown.items():
        if key in others:
            found.frames += 1
            _compare_frame(found, key[0], message.targets, others[key].targets)
    return found


def _keyed(flight: Sequence[Detections]) -> Iterator[tuple[Key, Detections]]:
    seen: Counter[str] = Counter()
    for message in flight:
        name = message.frame.name
        yield (name, seen[name]), message
        seen[name] += 1


def _compare_frame(found: Comparison, name: str, before: Sequence[Target], after: Sequence[Target]) -> None:
    pairs = pair_targets(before, after)
    for index, target in enumerate(before):
        if index not in pairs:
            found.differences.append(Difference(LOST, name, target, None))
            continue
        other = after[pairs[index]]
        if labels(target) != labels(other):
            found.differences.append(Difference(RELABELLED, name, target, other))
            continue
        found.same += 1
        if target != other:
            found.differences.append(Difference(MOVED, name, target, other))
    gained = sorted(set(range(len(after))) - set(pairs.values()))
    found.differences += [Difference(GAINED, name, None, after[index]) for index in gained]


def pair_targets(before: Sequence[Target], after: Sequence[Target]) -> dict[int, int]:
    """Return position in `before` -> position in `after` of the same target: the boxes that overlap most go first."""
    overlaps = sorted((-iou(one.box, other.box), i, j) for i, one in enumerate(before) for j, other in enumerate(after))
    pairs: dict[int, int] = {}
    for overlap, i, j in overlaps:
        if -overlap >= MIN_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def labels(target: Target) -> dict[str, str | None]:
    """Return head name -> label."""
    return {name: attribute.label for name, attribute in target.attributes.items()}


def difference_line(difference: Difference) -> str:
    """Return one line for one target."""
    before, after = difference.before, difference.after
    target = before or after
    if target is None:
        raise ValueError("a difference of nothing")
    place = f"{target.box.width}x{target.box.height} px at {target.box.x},{target.box.y}"
    both = [f"{one.confidence:.2f} {labels_of(one)}" for one in (before, after) if one is not None]
    return f"{difference.kind:<11}  {difference.frame}  {place}  {'  ->  '.join(both)}"


def summary(found: Comparison, exact: bool) -> str:
    """Return the summary, several lines."""
    heads: Counter[str] = Counter()
    for one in found.differences:
        if one.kind == RELABELLED and one.before is not None and one.after is not None:
            before, after = labels(one.before), labels(one.after)
            heads.update(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    by_head = ", ".join(f"{name} {count}" for name, count in sorted(heads.items()))
    moved = found.count(MOVED)
    lines = [
        f"frames    {found.frames} in both, {len(found.only_a)} only in A, {len(found.only_b)} only in B",
        f"targets   {found.same} with the same labels, {found.count(GAINED)} gained, {found.count(LOST)} lost, "
        f"{found.count(RELABELLED)} re-labelled" + (f" ({by_head})" if by_head else ""),
    ]
    if moved:
        lines.append(f"numbers   {moved} differ in box, area, confidence or degrees" + ("" if exact else " (--exact)"))
    return "\n".join(lines)


def _parser() -> Parser:
    parser = Parser(
        prog="aerial-diff",
        description="In what two flights over the same frames differ, target by target; exit code 6 where they do.",
        allow_abbrev=False,
    )
    for name in ("a", "b"):
        help = "a flight: what --record or --output of aerial-runtime wrote"
        parser.add_argument(name, metavar=name.upper(), type=Path, help=help)
    parser.add_argument("--exact", action="store_true", help="numbers count too: boxes, areas, confidences, degrees")
    parser.add_argument("--common", action="store_true", help="compare the frames that both have; others do not count")
    parser.add_argument("--quiet", action="store_true", help="no line per target, only the summary")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser

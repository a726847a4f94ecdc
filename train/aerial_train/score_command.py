"""`aerial-train score LABELS.json DETECTIONS.jsonl`: what a flight found, by the rules of aerial_runtime.score."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerial_runtime.card import load_label_space
from aerial_runtime.errors import CheckError, InputError, UsageError
from aerial_runtime.label_file import read_labels
from aerial_runtime.score import format_score, read_detections, score_flight
from aerial_runtime.score_targets import format_targets, has_ids, score_targets
from aerial_runtime.targets_file import read_targets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train score`."""
    parser.add_argument("labels", type=Path, metavar="LABELS.json", help="labelled frames")
    parser.add_argument("detections", type=Path, metavar="DETECTIONS.jsonl", help="what aerial-runtime --output wrote")
    parser.add_argument(
        "--label-space", default="suas", metavar="L", help="class tables: a file or a shipped name (suas)"
    )
    parser.add_argument("--targets", type=Path, metavar="FILE.json", help="what aerial-runtime --targets wrote")
    parser.add_argument(
        "--min-frames", type=int, default=1, metavar="N", help="frames in which a target must be whole to count (1)"
    )
    parser.add_argument(
        "--max-doubled", type=int, metavar="N", help="exit with 6 where more targets have two tracks or more"
    )
    parser.add_argument("--list", action="store_true", help="also name what was missed, extra or doubled")
    parser.add_argument("--min-recall", type=float, metavar="X", help="exit with 6 where recall is lower, 0..1")
    parser.add_argument("--max-extras", type=float, metavar="X", help="exit with 6 where extras a frame are more")


def run(args: argparse.Namespace) -> int:
    """Print the score; return the exit code. Raises UsageError, InputError, CheckError."""
    # Comparisons with NaN are false, and a gate of that would let everything pass.
    if args.min_recall is not None and not 0 <= args.min_recall <= 1:
        raise UsageError(f"--min-recall must be within 0..1, is {args.min_recall}")
    if args.max_extras is not None and not args.max_extras >= 0:
        raise UsageError(f"--max-extras must be 0 or more, is {args.max_extras}")
    space = load_label_space(args.label_space)
    labels, detections = read_labels(args.labels), read_detections(args.detections)
    score = score_flight(labels, detections, space)
    print(format_score(score))
    flight = read_targets(args.targets) if args.targets is not None else None
    of_targets = None
    if has_ids(labels, detections):
        of_targets = score_targets(labels, detections, flight, space, args.min_frames)
        print(format_targets(of_targets))
    elif flight is not None or args.max_doubled is not None:
        raise InputError(
            "the targets of a flight are scored by the ids of labels and the track ids of detections, and one of them "
            "is missing; label targets with an id, and fly without --no-track"
        )
    if args.list:
        rows = [*(f"missed {row}" for row in score.missed), *(f"extra  {row}" for row in score.extras)]
        print("\n".join(rows + (of_targets.wrong if of_targets else [])))
    if args.min_recall is not None and not score.labels:
        raise InputError(f"{args.labels} has no target that counts, so no recall; leave --min-recall out")
    if args.min_recall is not None and score.recall < args.min_recall:
        raise CheckError(f"recall is {score.recall:.3f}, less than --min-recall {args.min_recall}")
    if args.max_extras is not None and score.extras_per_frame > args.max_extras:
        raise CheckError(f"extras a frame are {score.extras_per_frame:.2f}, more than --max-extras {args.max_extras}")
    if of_targets is not None and args.max_doubled is not None and of_targets.doubled > args.max_doubled:
        raise CheckError(f"{of_targets.doubled} targets are doubled, more than --max-doubled {args.max_doubled}")
    return 0

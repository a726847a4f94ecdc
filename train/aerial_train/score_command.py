"""`aerial-train score LABELS.json DETECTIONS.jsonl`: what a flight found, by the rules of aerial_runtime.score."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerial_runtime.card import load_label_space
from aerial_runtime.errors import CheckError
from aerial_runtime.score import format_score, read_detections, read_labels, score_flight


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train score`."""
    parser.add_argument("labels", type=Path, metavar="LABELS.json", help="labelled frames")
    parser.add_argument("detections", type=Path, metavar="DETECTIONS.jsonl", help="what aerial-runtime --output wrote")
    parser.add_argument(
        "--label-space", default="suas", metavar="L", help="class tables: a file or a shipped name (suas)"
    )
    parser.add_argument("--list", action="store_true", help="also name every missed label and every extra detection")
    parser.add_argument("--min-recall", type=float, metavar="X", help="exit with 6 where recall is lower, 0..1")
    parser.add_argument("--max-extras", type=float, metavar="X", help="exit with 6 where extras a frame are more")


def run(args: argparse.Namespace) -> int:
    """Print the score; return the exit code. Raises InputError, CheckError."""
    space = load_label_space(args.label_space)
    score = score_flight(read_labels(args.labels), read_detections(args.detections), space)
    print(format_score(score))
    if args.list:
        print("\n".join([*(f"missed {row}" for row in score.missed), *(f"extra  {row}" for row in score.extras)]))
    if args.min_recall is not None and score.recall < args.min_recall:
        raise CheckError(f"recall is {score.recall:.3f}, less than --min-recall {args.min_recall}")
    if args.max_extras is not None and score.extras_per_frame > args.max_extras:
        raise CheckError(f"extras a frame are {score.extras_per_frame:.2f}, more than --max-extras {args.max_extras}")
    return 0

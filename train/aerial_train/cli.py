"""`aerial-train`: scenes, datasets, training and scoring, a subcommand each."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from aerial_runtime import __version__
from aerial_runtime.errors import run_command

# Subcommand -> module with add_arguments(parser) and run(args), and what it does. Modules are imported when
# they are asked for: torch takes seconds, and drawing scenes does not need it.
COMMANDS: dict[str, tuple[str, str]] = {
    "scenes": ("aerial_train.sheet", "draw a contact sheet of labelled scenes"),
    "dataset": ("aerial_train.dataset", "write a labelled dataset to disk"),
    "demo-flight": ("aerial_train.demo_flight", "render the demo flight and its truth"),
    "segmenter": ("aerial_train.fit_segmenter", "train a segmenter"),
    "classifier": ("aerial_train.fit_classifier", "train a classifier"),
    "score": ("aerial_train.score_command", "score detections against labelled frames"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aerial-train`; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="aerial-train", description=__doc__)
    parser.add_argument("--version", action="version", version=f"aerial {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only the subcommand that was named is imported and filled with its options.
    named = next((word for word in arguments if not word.startswith("-")), None)
    for name, (where, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == named:
            importlib.import_module(where).add_arguments(command)
    args = parser.parse_args(arguments)
    module = importlib.import_module(COMMANDS[args.command][0])
    return run_command(f"aerial-train {args.command}", lambda: int(module.run(args)))

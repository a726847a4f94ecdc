"""`aerial-train`: scenes, datasets, training and scoring, a subcommand each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from aerial_runtime import __version__
from aerial_runtime.config import Parser
from aerial_runtime.errors import ResourceError, run_command

# Subcommand -> module with add_arguments(parser) and run(args), and what it does. Modules are imported when
# they are asked for: torch takes seconds, and drawing scenes does not need it.
COMMANDS: dict[str, tuple[str, str]] = {
    "scenes": ("aerial_train.sheet", "draw a contact sheet of labelled scenes"),
    "dataset": ("aerial_train.data.write", "write a labelled dataset to disk"),
    "inspect": ("aerial_train.data.inspect_command", "look for what is wrong with a dataset, photos or scenes"),
    "demo-flight": ("aerial_train.demo_flight", "render the demo flight and its truth"),
    "segmenter": ("aerial_train.fit_segmenter", "train a segmenter"),
    "classifier": ("aerial_train.fit_classifier", "train a classifier"),
    "average": ("aerial_train.average", "make one network of several that have one origin"),
    "find-lr": ("aerial_train.find_lr", "find a learning rate to begin with"),
    "overfit": ("aerial_train.overfit", "check that a network can learn one batch by heart"),
    "sweep": ("aerial_train.sweep", "vary options over many runs and rank them"),
    "evaluate": ("aerial_train.evaluation.evaluate", "score a model on labelled data, with a report"),
    "compare": ("aerial_train.evaluation.compare", "what one model gains and loses against another"),
    "real": ("aerial_train.evaluation.real", "measure the whole pipeline on labelled photographs and crops"),
    "certificate": (
        "aerial_train.evaluation.certificate",
        "the smallest target that both models find and read",
    ),
    "mine": ("aerial_train.mine", "collect what both models wrongly take for targets, to learn from"),
    "score": ("aerial_train.score_command", "score detections against labelled frames"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aerial-train`; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Only the subcommand that is named is imported and filled with its options.
    named = next((word for word in words if not word.startswith("-")), "")
    return run_command(f"aerial-train {named}" if named in COMMANDS else "aerial-train", lambda: _run(words, named))


def _run(words: list[str], named: str) -> int:
    parser = Parser(prog="aerial-train", description=__doc__)
    parser.add_argument("--version", action="version", version=f"aerial {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    module: Any = None
    for name, (where, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == named:
            module = _import(where)
            module.add_arguments(command)
    args = parser.parse_args(words)  # raises UsageError where no known subcommand is named
    return int(module.run(args))


def _import(module: str) -> Any:
    """Import a subcommand. Raises ResourceError where a package of the ground is missing, as on the aircraft."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("aerial_"):
            raise
        raise ResourceError(
            f"this command needs the package {error.name}; in the checkout, pip install '.[train]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())

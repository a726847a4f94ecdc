"""Both trainings by name, for the commands that do something else with them than train them once."""

from __future__ import annotations

import argparse

from aerial_runtime.errors import UsageError
from aerial_train.fit import Job
from aerial_train.fit_classifier import ClassifierOptions, classifier_job
from aerial_train.fit_segmenter import SegmenterOptions, segmenter_job
from aerial_train.options import FitOptions
from aerial_train.run_options import add_options

OPTIONS: dict[str, type[FitOptions]] = {"segmenter": SegmenterOptions, "classifier": ClassifierOptions}


def add_task_arguments(parser: argparse.ArgumentParser, *, named: bool) -> list[argparse.ArgumentParser]:
    """Add a subcommand a training, with its options; return them. named: whether the command needs --name."""
    tasks = parser.add_subparsers(dest="task", required=True, metavar="segmenter|classifier")
    commands = []
    for name, options in OPTIONS.items():
        command = tasks.add_parser(name, help=f"for a {name}", allow_abbrev=False)
        add_options(command, options, can_resume=False)
        if not named:
            command.set_defaults(name="check")
        commands.append(command)
    return commands


def make_job(options: FitOptions) -> Job:
    """Return task and data of a run. Raises AerialError."""
    if isinstance(options, SegmenterOptions):
        return segmenter_job(options)
    if isinstance(options, ClassifierOptions):
        return classifier_job(options)
    raise UsageError(f"there is no training for {type(options).__name__}")

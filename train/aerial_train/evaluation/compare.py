"""`aerial-train compare A B DATA`: what model B gains and loses against model A, target by target."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from aerial_runtime.backends.base import Backend
from aerial_runtime.errors import InputError
from aerial_runtime.say import say
from aerial_train.evaluation.differences import (
    Difference,
    classifier_differences,
    lone_extras,
    segmenter_differences,
)
from aerial_train.evaluation.gather import gather_crops, gather_frames
from aerial_train.evaluation.objects import SIZE_EDGES_PX, find_objects
from aerial_train.evaluation.sources import (
    add_data_arguments,
    check_data_arguments,
    choose_seed,
    joint_provenance,
    open_source,
)
from aerial_train.evaluation.tables import Table, percent
from aerial_train.torch_backend import open_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train compare`."""
    parser.add_argument("a", type=Path, metavar="A", help="the model to beat: a checkpoint (.pt), ONNX file or engine")
    parser.add_argument("b", type=Path, metavar="B", help="the other model, of the same kind")
    add_data_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print and report; return the exit code. Ctrl-C writes nothing. Raises AerialError."""
    check_data_arguments(args)
    with open_model(args.a, args.device, args.threads) as a, open_model(args.b, args.device, args.threads) as b:
        _check_pair(args, a, b)
        choose_seed(args, a.card, b.card)  # one for both
        if a.card.kind == "segmenter":
            _compare_segmenters(args, a, b)
        else:
            _compare_classifiers(args, a, b)
    return 0


def difference_table(rows: Sequence[Difference]) -> Table:
    """Return a line per question: what each has right, and what changes from A to B."""
    lines = [
        (row.name, str(row.count), percent(row.first), percent(row.second), f"{100 * (row.second - row.first):+.1f}",
         f"+{len(row.gained)}", f"-{len(row.lost)}", str(row.neither), f"{row.p:.3g}")
        for row in rows
    ]  # fmt: skip
    columns = ("right, %", "n", "A", "B", "change", "gained", "lost", "neither", "p (McNemar)")
    return Table("B against A", columns, lines)


def _check_pair(args: argparse.Namespace, a: Backend, b: Backend) -> None:
    if a.card.kind != b.card.kind:
        raise InputError(f"{args.a} is a {a.card.kind} and {args.b} a {b.card.kind}; give two models of one kind")
    if a.card.label_space != b.card.label_space:
        raise InputError(
            f"{args.a} was trained for the label space {a.card.label_space.name!r} and {args.b} in "
            f"{b.card.label_space.name!r}, or their classes differ; give two models of one label space"
        )


def _compare_classifiers(args: argparse.Namespace, a: Backend, b: Backend) -> None:
    # Each model cuts its own crops: their sizes may differ.
    sources = [open_source(args, backend.card) for backend in (a, b)]
    first, second = (gather_crops(model, s.data, s.count) for model, s in zip((a, b), sources, strict=True))
    thresholds = a.card.thresholds.target, b.card.thresholds.target
    rows = classifier_differences(a.card.label_space, first, second, thresholds)
    table = difference_table(rows)
    say(str(table))
    if args.out is not None:
        from aerial_train.evaluation.compare_report import write_classifier_comparison

        facts = joint_provenance({"A": a, "B": b}, sources[0].facts)
        write_classifier_comparison(
            args, a.card.label_space, sources[1], (first, second), thresholds, rows, table, facts
        )


def _compare_segmenters(args: argparse.Namespace, a: Backend, b: Backend) -> None:
    source = open_source(args, a.card)
    strides = [model.card.stride or 1 for model in (a, b)]
    frames = [list(gather_frames(model, source.data, source.count)) for model in (a, b)]
    first, second = (
        find_objects(seen, model.card.thresholds.mask, stride)
        for seen, model, stride in zip(frames, (a, b), strides, strict=True)
    )
    rows = segmenter_differences(first, second, SIZE_EDGES_PX)
    extras = lone_extras(first, second)
    note = (
        f"objects without a label: A {len(first.extras)}, B {len(second.extras)}; "
        f"{len(extras[0])} of A's and {len(extras[1])} of B's the other has not"
    )
    table = difference_table(rows)
    table.notes.append(note)
    say(str(table))
    if args.out is not None:
        from aerial_train.evaluation.compare_report import write_segmenter_comparison

        facts = joint_provenance({"A": a, "B": b}, source.facts)
        write_segmenter_comparison(args, source, frames, strides, first, rows, extras, table, facts)

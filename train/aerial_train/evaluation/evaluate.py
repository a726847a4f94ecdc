"""`aerial-train evaluate MODEL DATA`: scores of a checkpoint, an ONNX file or an engine, and a report with pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from aerial_runtime.backends.base import Backend
from aerial_runtime.card import VIEWS
from aerial_runtime.errors import UsageError
from aerial_runtime.say import say
from aerial_train.evaluation.choose import Choice, as_chosen, as_it_is, choose_classifier, choose_segmenter
from aerial_train.evaluation.gather import gather_crops, gather_frames
from aerial_train.evaluation.legibility import legibility_table
from aerial_train.evaluation.objects import find_objects, score_objects, score_sizes
from aerial_train.evaluation.scores import ClassifierScore, classifier_numbers, score_classifier, segmenter_numbers
from aerial_train.evaluation.segmentation import cell_histograms, score_cells, score_segmenter
from aerial_train.evaluation.sources import (
    Source,
    add_data_arguments,
    check_data_arguments,
    open_source,
    provenance,
)
from aerial_train.evaluation.tables import Table, choice_table, classifier_tables, segmenter_tables
from aerial_train.scenes.crops import CropScenes
from aerial_train.scenes.symmetry import orientation_limit
from aerial_train.torch_backend import measured_checkpoint, open_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train evaluate`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a checkpoint (.pt), ONNX file or engine")
    add_data_arguments(parser)
    parser.add_argument("--write", action="store_true", help="put temperatures, thresholds and scores into the card of "
        "the checkpoint MODEL; export it again afterwards")  # fmt: skip
    parser.add_argument("--keep-thresholds", action="store_true", help="with --write: scores alone, at the "
        "temperatures and thresholds that the card has, as after `certificate --write`")  # fmt: skip
    parser.add_argument("--abstain-error", type=float, default=0.05, metavar="X", help="share of wrong answers that is "
        "borne: the thresholds below which labels are withheld are chosen for it, 0..1 (0.05)")  # fmt: skip
    parser.add_argument("--views", type=int, choices=VIEWS, metavar="N", help="quarter turns of each crop whose "
        "answers are averaged, here and with --write in flight, 1 to 4 (the card's)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print scores, write what was asked for; return the exit code. Ctrl-C writes nothing. Raises AerialError."""
    check_data_arguments(args)
    if not 0 <= args.abstain_error < 1:
        raise UsageError(f"--abstain-error must be within 0..1, is {args.abstain_error}")
    if args.write and args.model.suffix != ".pt":
        raise UsageError(
            f"--write changes checkpoints only, and {args.model} is none: evaluate the .pt, then export it"
        )
    if args.keep_thresholds and not args.write:
        raise UsageError("--keep-thresholds says what --write leaves as it is: give both")
    if args.keep_thresholds and args.views is not None:
        raise UsageError("--keep-thresholds keeps the card's views, too, for which they were chosen: leave out --views")
    with open_model(args.model, args.device, args.threads) as backend:
        if args.views is not None:
            if backend.card.kind == "segmenter":
                raise UsageError("--views is for classifiers; segmenters see a frame once")
            backend.card = msgspec.structs.replace(backend.card, views=args.views)
        source = open_source(args, backend.card)
        say(f"measured on {source.count} pictures of {args.data}, split {source.facts['split']}")
        if args.write and source.facts["split"] != "val":
            say("warning: what the model may have learnt from is no ground for temperatures and thresholds; if it has, "
                "give --split val")  # fmt: skip
        evaluate = evaluate_segmenter if backend.card.kind == "segmenter" else evaluate_classifier
        numbers, choice = evaluate(args, backend, source)
    if args.write:
        write_card(args.model, backend, numbers, choice, source)
        say(f"wrote the card of {args.model}; export it again for what flies")
    return 0


def evaluate_segmenter(args: argparse.Namespace, backend: Backend, source: Source) -> tuple[dict[str, float], Choice]:
    """Score a segmenter, print and report; return the scores for its card and what was chosen for it."""
    card, stride = backend.card, backend.card.stride or 1
    frames = list(gather_frames(backend, source.data, source.count))
    score = score_segmenter(frames, card.thresholds.mask, stride)
    objects = find_objects(frames, card.thresholds.mask, stride)
    sizes = score_sizes(objects)
    choice = as_it_is(card) if args.keep_thresholds else choose_segmenter(card, frames, stride)
    _print(segmenter_tables(score, sizes), choice_table(choice, card))
    if args.out is not None:
        from aerial_train.evaluation.segmenter_report import write_segmenter_report

        facts = provenance(backend, source.facts)
        write_segmenter_report(args, card, source, frames, objects, score, sizes, choice, facts)
    threshold = choice.thresholds.mask  # the card's scores are of the thresholds that stand beside them
    cells = score_cells(cell_histograms(frames), threshold)
    return segmenter_numbers(cells, score_objects(find_objects(frames, threshold, stride), frames)), choice


def evaluate_classifier(args: argparse.Namespace, backend: Backend, source: Source) -> tuple[dict[str, float], Choice]:
    """Score a classifier, print and report; return the scores for its card and what was chosen for it."""
    card = backend.card
    outcomes = gather_crops(backend, source.data, source.count)
    score = _with_limit(score_classifier(outcomes, card.label_space, card.thresholds), source)
    choice = as_it_is(card) if args.keep_thresholds else choose_classifier(card, outcomes, score, args.abstain_error)
    letters = legibility_table(outcomes)
    _print([*classifier_tables(score), *([letters] if letters is not None else [])], choice_table(choice, card))
    if args.out is not None:
        from aerial_train.evaluation.classifier_report import write_classifier_report

        facts = provenance(backend, source.facts)
        write_classifier_report(args, card, source, outcomes, score, choice, facts)
    of_card = score_classifier(as_chosen(card, outcomes, choice), card.label_space, choice.thresholds)
    return classifier_numbers(of_card), choice


def _with_limit(score: ClassifierScore, source: Source) -> ClassifierScore:
    """Add what drawn scenes leave of the orientation."""
    if score.orientation is None or not isinstance(source.data, CropScenes):
        return score
    limit = orientation_limit(source.space, source.data.recipe.style)
    return replace(score, orientation=replace(score.orientation, raw_limit=limit))


def write_card(path: Path, model: Backend, numbers: dict[str, float], choice: Choice, source: Source) -> None:
    """Put what was measured of a model and chosen into its checkpoint's card, whole or not at all.

    Raises ResourceError, and ModelError where the file was replaced meanwhile.
    """
    from aerial_train.checkpoint import save_checkpoint

    checkpoint, views = measured_checkpoint(path, model), model.card.views
    card = checkpoint.card
    # Cards travel with the model: names of folders only, no paths of this machine.
    facts = {name: Path(text).name if name in ("data", "backgrounds") else text for name, text in source.facts.items()}
    training: dict[str, Any] = {**card.training, "evaluated": facts}
    scores = dict(card.scores)
    if (views, choice.temperature, choice.thresholds) != (card.views, card.temperature, card.thresholds):
        # What was measured of the whole pipeline is not of these any more.
        measured = tuple(f"{name}_" for name in training.pop("measured", {}))
        scores = {name: value for name, value in scores.items() if not name.startswith(measured)}
    card = msgspec.structs.replace(
        card,
        views=views,
        temperature=choice.temperature,
        thresholds=choice.thresholds,
        scores={**scores, **numbers},
        training=training,
    )
    save_checkpoint(path, checkpoint.network, card)


def _print(tables: Sequence[Table], chosen: Table) -> None:
    say("\n\n".join(map(str, [*tables, chosen])))

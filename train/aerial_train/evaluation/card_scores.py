"""`--write` of what measures a whole pipeline: its figures, and how they were got, in the cards of both checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

import msgspec

from aerial_runtime.backends.base import Backend
from aerial_runtime.errors import UsageError
from aerial_runtime.say import say
from aerial_train.checkpoint import save_checkpoint
from aerial_train.evaluation.readings import PipelineScore
from aerial_train.evaluation.real_crops import CropsScore, Manner
from aerial_train.torch_backend import measured_checkpoint

# The threshold of each kind of model, and the scores that are of it.
OF_THRESHOLD: Final = {
    "segmenter": ("mask", ("dice", "jaccard", "pixel_accuracy", "object_recall", "object_precision")),
    "classifier": ("target", ("target_accuracy", "mean_accuracy")),
}


def add_write_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--write`."""
    parser.add_argument("--write", action="store_true", help="put the scores into the cards of the checkpoints "
        "--segmenter and --classifier; export both again afterwards")  # fmt: skip


def check_write_argument(args: argparse.Namespace) -> None:
    """Raise UsageError unless the models can be written to."""
    files = (args.segmenter, args.classifier)
    if args.write and any(path is None or path.suffix != ".pt" for path in files):
        raise UsageError("--write changes checkpoints only: give both --segmenter FILE.pt and --classifier FILE.pt")


def pipeline_numbers(prefix: str, score: PipelineScore) -> dict[str, float]:
    """Return name -> score 0..1, or a frame, of what was found and read on frames."""
    numbers = {f"{prefix}_recall": score.found / max(1, score.labels), f"{prefix}_extras_a_frame": score.extras_a_frame}
    for size in score.sizes:
        if size.labels:
            upto = "up" if size.upto_px is None else str(size.upto_px - 1)
            numbers[f"{prefix}_recall_{size.from_px}_{upto}_px"] = size.found / size.labels
    for name, field in score.attributes.items():
        numbers[f"{prefix}_{name}_right"] = field.right / field.known
    if score.fields_known:
        numbers[f"{prefix}_fields_right"] = score.fields_right / score.fields_known
    return numbers


def crops_numbers(prefix: str, scores: Mapping[Manner, CropsScore]) -> dict[str, float]:
    """Return name -> accuracy 0..1, mean over the sources, of crops read in each manner."""
    return {
        f"{prefix}_{manner}_{head.name}_accuracy": head.accuracy
        for manner, score in scores.items()
        for head in score.heads
    }


def write_scores(
    args: argparse.Namespace,
    models: Mapping[str, Backend],
    name: str,
    numbers: Mapping[str, float],
    facts: Mapping[str, str],
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Put scores into both checkpoints' cards, and under `measured` of their training what they are of.

    models: kind -> what was measured. name: of the measurement. facts: no paths of this machine, for cards travel.
    thresholds: by kind of model, of the mask and of `target`; a card that gets another loses the scores that were of
    its own. Raises ResourceError, and ModelError where one of the files was replaced meanwhile: neither is written.
    """
    files = {"segmenter": args.segmenter, "classifier": args.classifier}
    checkpoints = {path: measured_checkpoint(path, models[kind]) for kind, path in files.items()}
    facts = {**facts, **{checkpoint.card.kind: checkpoint.card.name for checkpoint in checkpoints.values()}}
    for path, checkpoint in checkpoints.items():
        card, scores = checkpoint.card, dict(checkpoint.card.scores)
        threshold, of_it = OF_THRESHOLD[card.kind]
        chosen = msgspec.structs.replace(card.thresholds, **{threshold: thresholds[card.kind]} if thresholds else {})
        if chosen != card.thresholds:
            scores = {score: value for score, value in scores.items() if score not in of_it}
        measured = {**card.training.get("measured", {}), name: facts}
        card = msgspec.structs.replace(
            card,
            thresholds=chosen,
            scores={**scores, **numbers},
            training={**card.training, "measured": measured},
        )
        save_checkpoint(path, checkpoint.network, card)
    say(f"wrote the cards of {args.segmenter} and {args.classifier}; export both again for what flies")

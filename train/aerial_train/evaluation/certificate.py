"""`aerial-train certificate`: the smallest target, on drawn full-size frames that no training saw.

Frames are drawn, flown and forgotten one by one; only what was said of them is kept, and the worst are drawn again for
their pictures.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.errors import UsageError
from aerial_runtime.label_file import LabelledFrame
from aerial_runtime.say import say
from aerial_runtime.score import match_targets, unlabelled
from aerial_train.data import FrameData
from aerial_train.data.base import HELD_OUT_SEED_OFFSET
from aerial_train.data.labels import questions
from aerial_train.data.opening import open_backgrounds
from aerial_train.data.progress import progress
from aerial_train.evaluation.card_scores import (
    add_write_argument,
    check_write_argument,
    pipeline_numbers,
    write_scores,
)
from aerial_train.evaluation.choose import RECALL_BETA
from aerial_train.evaluation.classification import f_score
from aerial_train.evaluation.contrast import ContrastReading, contrast_table, contrasts, score_contrasts
from aerial_train.evaluation.error_sheets import add_error_arguments, check_error_arguments, frame_errors, write_errors
from aerial_train.evaluation.gather import EPOCH
from aerial_train.evaluation.pair import Pair, add_model_arguments, open_pair
from aerial_train.evaluation.plots import certificate_plot, uri
from aerial_train.evaluation.readings import PipelineScore, Reading, read_frame, scene_label, score_readings
from aerial_train.evaluation.real_tables import pipeline_tables
from aerial_train.evaluation.report import Section, write_report
from aerial_train.evaluation.sources import add_run_arguments, check_run_arguments, joint_provenance
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

Floats = npt.NDArray[np.floating[Any]]

FRAME_PX: Final = (1920, 1080)
SIZE_PX: Final = (12.0, 120.0)  # of the drawn targets, log-uniform
EDGES_PX: Final = (12, 17, 25, 40, 60)  # lower edges of the ranges in the table
TARGETS, DISTRACTORS = (4, 12), (0, 5)  # a frame: targets more than in flight, to count many; other things as trained
CHOOSING_FRAMES: Final = 250  # of another seed, which the thresholds are chosen on before
MASKS: Final = (0.15, 0.3, 0.45)  # thresholds that are tried beside the card's own: each costs as many frames
PLOT: Final = "certificate.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train certificate`."""
    add = parser.add_argument
    add("--frames", type=int, default=1000, metavar="N", help="frames to draw (1000)")
    add("--backgrounds", type=Path, metavar="DIR", help="folder of photos under the scenes; procedural terrain without")
    add("--seed", type=int, default=0, metavar="N", help="of the scenes, which a training with it never sees (0)")
    add_model_arguments(parser)
    add_run_arguments(parser)
    add_error_arguments(parser)
    add_write_argument(parser)
    add("--others", type=float, default=8.0, metavar="X", help="candidates of your flights that are no target, for "
        "each that is: --write chooses the thresholds of the mask and of `target` for it (8)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the certificate, write what was asked for; return the exit code. Raises AerialError."""
    check_run_arguments(args)
    check_error_arguments(args)
    check_write_argument(args)
    if args.frames < 1 or args.seed < 0:
        raise UsageError(f"--frames must be at least 1 and --seed at least 0, they are {args.frames} and {args.seed}")
    if not 0 < args.others < math.inf:
        raise UsageError(f"--others must be more than 0, is {args.others}")
    with open_pair(args) as pair:
        backgrounds = open_backgrounds(args.backgrounds, "val")
        if args.write:
            mask, conf = choose_thresholds(
                pair, certificate_scenes(pair.label_space, backgrounds, args.seed + 1), args.others
            )
            say(f"thresholds, chosen on {CHOOSING_FRAMES} other frames: mask {mask:g} instead of "
                f"{pair.mask_threshold:g}, target {conf:g} instead of {pair.conf:g}")  # fmt: skip
            pair = pair.with_mask(mask)
            pair.conf = conf
        scenes = certificate_scenes(pair.label_space, backgrounds, args.seed)
        readings, levels = fly_scenes(pair, scenes, args.frames)
        score, by_contrast = score_readings(readings, pair.label_space, EDGES_PX), score_contrasts(readings, levels)
        tables = [*pipeline_tables(score, pair.label_space), contrast_table(by_contrast)]
        say("\n" + "\n\n".join(map(str, tables)))
        if args.errors is not None:
            errors = frame_errors(pair, readings, lambda number: scenes.sample(EPOCH, number).image_bgr)
            for name, found in errors.items():
                write_errors(args.errors, f"certificate-{name}", found, args.pictures)
        if args.out is not None:
            _report(args, pair, score, by_contrast)
    if args.write:
        facts = {"frames": str(args.frames), "seed": str(args.seed), "backgrounds": _folder(args.backgrounds)}
        thresholds = {"segmenter": pair.mask_threshold, "classifier": pair.conf}
        write_scores(args, pair.models, "certificate", pipeline_numbers("certificate", score), facts, thresholds)
    return 0


def _folder(backgrounds: Path | None) -> str:
    return backgrounds.resolve().name if backgrounds else "procedural terrain"


def certificate_scenes(space: LabelSpace, backgrounds: Backgrounds, seed: int) -> FrameScenes:
    """Return the frames of the certificate: scenes as trained on, but full-size, with sizes and numbers of its own.

    Every target shows a letter: a blank board is for training, for nobody could tell it from a tarpaulin.
    """
    flight = FRAME_RECIPES["flight"]
    style = replace(flight.style, no_letter=0.0)
    recipe = replace(flight, size_px=SIZE_PX, targets=TARGETS, distractors=DISTRACTORS, style=style)
    return FrameScenes(space, recipe, backgrounds, seed + HELD_OUT_SEED_OFFSET).with_size(*FRAME_PX)


def choose_thresholds(
    pair: Pair, scenes: FrameData, others: float, count: int = CHOOSING_FRAMES
) -> tuple[float, float]:
    """Return the thresholds of the mask and of `target` with which both models together have the best F2 score.

    Neither model's own score will do: a segmenter does not know what the classifier rejects, and what it hands on is
    harder than drawn crops that hold no target. others: candidates that are no target, for each that is, of the pair as
    it is. Its own thresholds where its candidates are all of one kind, and where no other is better.
    """
    best, best_f, weight = (pair.mask_threshold, pair.conf), -1.0, 0.0
    for mask in dict.fromkeys((pair.mask_threshold, *MASKS)):
        labels, hits, alarms = _confidences(pair.with_mask(mask), scenes, count)
        if mask == pair.mask_threshold:
            if not (len(hits) and len(alarms)):
                return best
            weight = others * len(hits) / len(alarms)  # of each false alarm
        thresholds = np.unique(np.concatenate((hits, alarms)))
        found, false = (len(part) - np.searchsorted(np.sort(part), thresholds) for part in (hits, alarms))
        f = f_score(found / np.maximum(found + weight * false, 1e-12), found / labels, RECALL_BETA)
        if f.max() > best_f:
            best, best_f = (mask, float(thresholds[np.flatnonzero(f == f.max())[-1]])), float(f.max())
    return best


def _confidences(pair: Pair, scenes: FrameData, count: int) -> tuple[int, Floats, Floats]:
    """Return how many targets count, and the confidences of the candidates on them and of those on nothing."""
    labels, hits, alarms = 0, [], []
    for reading in fly_scenes(pair, scenes, count)[0]:
        matches = match_targets(reading.frame.targets, reading.seen)
        scored = [k for k, label in enumerate(reading.frame.targets) if label.scored]
        labels += len(scored)
        hits += [reading.seen[matches[k]].confidence for k in scored if k in matches]
        alarms += [reading.seen[index].confidence for index in unlabelled(reading.frame, reading.seen, matches)]
    return labels, np.array(hits), np.array(alarms)


def fly_scenes(pair: Pair, scenes: FrameData, count: int) -> tuple[list[Reading], list[list[float]]]:
    """Draw and fly the first `count` frames; return what was read, and of each frame its targets' contrasts.

    Raises InputError for a background, ModelError.
    """
    readings: list[Reading] = []
    levels: list[list[float]] = []
    with progress("flown", count) as show:
        for index in range(count):
            sample = scenes.sample(EPOCH, index)
            labels = [scene_label(target, pair.label_space, EDGES_PX[0]) for target in sample.targets]
            frame = LabelledFrame(sample.name, labels, sample.complete)
            readings.append(read_frame(pair, sample.image_bgr, frame))
            levels.append(contrasts(sample))
            show(index + 1)
    return readings, levels


def _report(args: argparse.Namespace, pair: Pair, score: PipelineScore, by_contrast: list[ContrastReading]) -> None:
    plot = certificate_plot(score.sizes, [name for name in questions(pair.label_space) if name in score.attributes])
    facts = {
        "frames": f"{args.frames} of {FRAME_PX[0]}x{FRAME_PX[1]}, {TARGETS[0]}-{TARGETS[1]} targets of "
        f"{SIZE_PX[0]:g}-{SIZE_PX[1]:g} px and {DISTRACTORS[0]}-{DISTRACTORS[1]} other things each",
        "backgrounds": str(args.backgrounds or "procedural terrain"),
        "seed": str(args.seed),
    }
    text = "Intervals are of 95 %. Targets that an edge cuts count neither way."
    tables = [*pipeline_tables(score, pair.label_space), contrast_table(by_contrast)]
    section = Section("Smallest target", text, tables=tables, plots=[uri(plot)])
    title = "The smallest target that both models find and read"
    provenance = joint_provenance(pair.models, facts)
    write_report(args.out, title, provenance, [section], {"certificate": score, "contrast": by_contrast}, {PLOT: plot})

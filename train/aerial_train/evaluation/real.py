"""`aerial-train real DATA...`: the whole pipeline on photographs and crops that other people took and labelled."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from aerial_runtime.errors import UsageError
from aerial_runtime.label_file import LabelledFrame
from aerial_runtime.say import say
from aerial_runtime.score import SIZE_BINS_PX
from aerial_train.data.photos import Photo, PhotoSet, check_labels, checked_picture
from aerial_train.data.progress import progress
from aerial_train.data.reading import read_photos
from aerial_train.evaluation.card_scores import (
    add_write_argument,
    check_write_argument,
    crops_numbers,
    pipeline_numbers,
    write_scores,
)
from aerial_train.evaluation.error_sheets import (
    Error,
    add_error_arguments,
    check_error_arguments,
    crop_errors,
    frame_errors,
    write_errors,
)
from aerial_train.evaluation.pair import Pair, add_model_arguments, open_pair
from aerial_train.evaluation.readings import Reading, photo_label, read_frame, score_readings
from aerial_train.evaluation.real_crops import CropReading, Manner, read_crop, score_crops
from aerial_train.evaluation.real_tables import crop_tables, missed_tables, pipeline_tables
from aerial_train.evaluation.report import Section, write_report
from aerial_train.evaluation.sources import add_run_arguments, check_run_arguments, joint_provenance
from aerial_train.evaluation.tables import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train real`."""
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="labelled frames or crops: a label list, "
        "COCO JSON or a YOLO export, or the folder of one")  # fmt: skip
    add_model_arguments(parser)
    add_run_arguments(parser)
    add_error_arguments(parser)
    add_write_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print scores, write what was asked for; return the exit code. Raises AerialError."""
    check_run_arguments(args)
    check_error_arguments(args)
    check_write_argument(args)
    sections: list[Section] = []
    numbers: dict[str, Any] = {}
    for_cards: dict[str, float] = {}
    with open_pair(args) as pair:
        sets = [read_photos(path, pair.label_space) for path in args.data]
        for photos in sets:
            check_labels(photos.photos)
        names = [_folder_name(photos.path) for photos in sets]  # of the sheets of errors
        if (args.errors is not None or args.write) and len(set(names)) < len(names):
            raise UsageError(f"two folders have one name among {', '.join(names)}; --errors and --write go by them: "
                             "measure one by one")  # fmt: skip
        facts = joint_provenance(pair.models, {"data": ", ".join(map(str, args.data))})
        for path, name, photos in zip(args.data, names, sets, strict=True):
            measure = measure_crops if photos.kind == "crops" else measure_frames
            tables, scores, errors = measure(pair, photos)
            say(f"\n{path}\n" + "\n\n".join(map(str, tables)))
            sections.append(Section(str(path), tables=tables))
            numbers[str(path)] = scores
            numbers_of = crops_numbers if photos.kind == "crops" else pipeline_numbers
            for_cards |= numbers_of(f"real_{name}", scores)
            for kind, found in errors.items() if args.errors is not None else ():
                write_errors(args.errors, f"{name}-{kind}", found, args.pictures)
    if args.out is not None:
        write_report(args.out, "The whole pipeline on labelled photographs", facts, sections, {"real": numbers})
    if args.write:
        write_scores(args, pair.models, "real", for_cards, {"data": ", ".join(names)})
    return 0


Measured = tuple[list[Table], Any, dict[str, list[Error]]]


def measure_crops(pair: Pair, photos: PhotoSet) -> Measured:
    """Read crops in both manners; return tables, scores and errors. Raises InputError, ModelError."""
    tables: list[Table] = []
    scores, errors = {}, {}
    for manner in get_args(Manner):
        readings = _read_crops(pair, photos.photos, manner)
        scores[manner] = score_crops(pair, readings, manner)
        tables += crop_tables(scores[manner])
        errors[manner] = crop_errors(pair, readings)
    return tables, scores, errors


def measure_frames(pair: Pair, photos: PhotoSet) -> Measured:
    """Fly frames; return tables, scores and errors. Raises InputError, ModelError."""
    readings: list[Reading] = []
    with progress("flown", len(photos.photos)) as show:
        for photo in photos.photos:
            labels = [photo_label(target, pair.label_space) for target in photo.targets]
            frame = LabelledFrame(photo.name, labels, photo.complete)
            readings.append(read_frame(pair, checked_picture(photo), frame))
            show(len(readings))
    score = score_readings(readings, pair.label_space, SIZE_BINS_PX)
    tables = [*pipeline_tables(score, pair.label_space), *missed_tables(score)]
    return tables, score, frame_errors(pair, readings, lambda number: checked_picture(photos.photos[number]))


def _folder_name(path: Path) -> str:
    """Return the name of the folder that holds labels: a file of them, or the folder of a YOLO export."""
    return (path if path.is_dir() else path.parent).resolve().name


def _read_crops(pair: Pair, photos: Sequence[Photo], manner: Manner) -> list[CropReading]:
    readings: list[CropReading] = []
    with progress(f"crops read {manner}", len(photos)) as show:
        for photo in photos:
            readings.append(read_crop(pair, photo, manner))
            show(len(readings))
    return readings

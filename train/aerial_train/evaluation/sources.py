"""The options that say which data a model is measured on, and the data they name."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Final

from aerial_runtime import __version__
from aerial_runtime.backends.base import Backend
from aerial_runtime.card import LabelSpace, ModelCard, load_label_space
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.data import CropData, FrameData, Split, open_crops, open_frames
from aerial_train.data.opening import own_split

SCENES: Final = "scenes"
DRAWN: Final = {"segmenter": 512, "classifier": 4096}  # of endless data, where no --count is given


@dataclass(frozen=True)
class Source:
    """Data and how much of it. data: FrameData for a segmenter, CropData for a classifier. drawn: live scenes, whose
    labels are right by construction. facts: what a report says of it."""

    data: Any
    count: int
    drawn: bool
    space: LabelSpace
    facts: dict[str, str]


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATA and the options about data, engine and report that evaluate and compare share."""
    add = parser.add_argument
    add("data", metavar="DATA", help="`scenes`, a written dataset, COCO JSON, a YOLO export or a label list")
    add("--count", type=int, metavar="N", help="pictures (all; of `scenes` 512 frames or 4096 crops)")
    add("--split", choices=("train", "val", "all"), help="part of the data (val where the data says what that is, else "
        "all; of `scenes` val: the scenes that a training with the same --seed is held to)")  # fmt: skip
    add("--recipe", default="flight", metavar="RECIPE", help="what `scenes` hold: flight, r256, r32, r32-any (flight)")
    add("--backgrounds", type=Path, metavar="DIR", help="folder of photos under `scenes`; procedural terrain without")
    add("--seed", type=int, metavar="N", help="of `scenes` (0), and of which sources are held out (the training's)")
    add("--label-space", metavar="L", help="class tables of DATA: a file or a shipped name (the model's own)")
    add_run_arguments(parser)
    add("--pictures", type=int, default=24, metavar="N", help="pictures in each list of the report (24)")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options about engine and report that everything that measures shares."""
    add = parser.add_argument
    add_engine_arguments(parser)
    add("--out", type=Path, metavar="DIR", help="folder to write report.html and scores.json to")
    add("--overwrite", action="store_true", help="replace an earlier report in --out")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options about what computes."""
    add = parser.add_argument
    add("--device", default="auto", metavar="D", help="auto, cpu or cuda:N; a named device never falls back (auto)")
    add("--threads", type=int, metavar="N", help="CPU threads of the engine (every core)")


def check_data_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError for what cannot be, before anything is opened."""
    check_run_arguments(args)
    if args.count is not None and args.count < 1:
        raise UsageError(f"--count must be at least 1, is {args.count}")
    if (args.seed or 0) < 0 or args.pictures < 0:
        raise UsageError(f"--seed and --pictures cannot be negative, they are {args.seed or 0} and {args.pictures}")
    if args.data != SCENES and not Path(args.data).exists():
        if "=" in args.data or "," in args.data:
            raise UsageError(f"a model is measured on one kind of data at a time, not on the mixture {args.data!r}")
        raise InputError(f"there is no data {args.data}; give `{SCENES}`, a dataset's folder or a file of labels")


def check_run_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError or ResourceError for an engine or a report that cannot be."""
    check_engine_arguments(args)
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file; give a folder")
    if args.out is not None and not os.access(next(p for p in (args.out, *args.out.parents) if p.exists()), os.W_OK):
        raise ResourceError(f"cannot write to {args.out}; choose another --out")  # now, not after the work
    if args.out is not None and (args.out / "report.html").exists() and not args.overwrite:
        raise UsageError(f"{args.out} holds a report; give --overwrite, or another --out")


def check_engine_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError for an engine that cannot be."""
    if not re.fullmatch(r"auto|cpu|cuda:[0-9]+", args.device):
        raise UsageError(f"--device must be auto, cpu or cuda:N, is {args.device!r}")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads must be at least 1, is {args.threads}")


def choose_seed(args: argparse.Namespace, *cards: ModelCard) -> None:
    """Set --seed where none is given: that of the models' training, by which it has divided photos, else 0.

    Raises InputError where each model has held out something else of DATA.
    """
    if args.seed is not None:
        return
    args.seed = 0
    if args.data == SCENES or args.split in (None, "all"):
        return
    trainings = [part for card in cards for part in _trainings(card.training)]
    seeds = sorted({int(training.get("seed", 0)) for training in trainings})
    if len(seeds) > 1 and own_split(Path(args.data), cards[0].label_space) == "all":
        raise InputError(
            f"the trainings of these models divided {args.data} by the seeds {' and '.join(map(str, seeds))}, so each "
            "has learnt what the other held out; compare them on other data, or give the --seed to divide it by"
        )
    args.seed = seeds[0]


def _trainings(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a card says of how the model was made; of a mean of several, also of means, of each of them."""
    parts = training.get("mean_of", [])
    return [one for part in parts for one in _trainings(part["training"])] or [training]


def open_source(args: argparse.Namespace, card: ModelCard) -> Source:
    """Open DATA for a model of this card. Raises InputError, UsageError."""
    choose_seed(args, card)
    space = load_label_space(args.label_space) if args.label_space is not None else card.label_space
    if card.kind == "classifier" and space != card.label_space:
        raise InputError(
            f"the classifier answers in its own label space {card.label_space.name!r}, --label-space "
            f"{args.label_space} has other classes; leave it out"
        )
    drawn = args.data == SCENES
    split: Split = args.split or ("val" if drawn else own_split(Path(args.data), space))
    common: dict[str, Any] = {
        "space": space,
        "split": split,
        "recipe": args.recipe,
        "backgrounds": args.backgrounds,
        "seed": args.seed,
    }
    data: FrameData | CropData
    if card.kind == "segmenter":
        data = open_frames(args.data, **common, size=None, stride=card.stride or 1)
    else:
        data = open_crops(args.data, **common, crop_size=card.crop_size or 0, margin=card.crop_margin)
    count = args.count or data.count or DRAWN[card.kind]
    if data.count is not None and count > data.count:
        raise UsageError(
            f"{args.data} holds {data.count} pictures, --count {count} is more; give less, or leave it out"
        )
    unit = "frames" if card.kind == "segmenter" else "crops"
    facts = {"data": args.data, "split": split, unit: str(count), "seed": str(args.seed)}
    if drawn:
        facts |= {"recipe": args.recipe, "backgrounds": str(args.backgrounds or "procedural terrain")}
    return Source(data, count, drawn, space, facts)


def provenance(model: Backend, facts: dict[str, str]) -> dict[str, str]:
    """Return what a reader needs to repeat a measurement."""
    card = model.card
    return {
        "model": f"{model.name}, {card.kind} {card.name!r}, label space {card.label_space.name!r}",
        "file": model.sha256,
        "weights": card.weights_sha256 or "not stated",
        "engine": model.provider,
        **facts,
        "versions": f"aerial {__version__}, Python {python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch")),
        "command": shlex.join(["aerial-train", *sys.argv[1:]]),
    }


def joint_provenance(models: Mapping[str, Backend], facts: dict[str, str]) -> dict[str, str]:
    """Return the same of several models: what a reader calls each -> the model."""
    own: dict[str, str] = {}
    for name, model in models.items():
        shared = provenance(model, facts)
        own |= {f"{name}: {key}": shared.pop(key) for key in ("model", "file", "weights", "engine")}
    return own | shared

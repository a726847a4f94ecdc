"""`aerial-train dataset`: labelled scenes, or real photos that were labelled elsewhere, as a dataset on disk.

A dataset is a folder with a `manifest.json` (what it holds, how it was made, statistics). Of frames: `images/`,
`masks/` (of scenes) and `labels.json`, COCO with each head's class under `attributes`. Of crops: shards of a few
thousand, `crops-NNNNN.npy` and `labels-NNNNN.npz`.
"""

from __future__ import annotations

import argparse
import math
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aerial_runtime.card import LabelSpace, load_label_space
from aerial_runtime.errors import INTERRUPTED, AerialError, UsageError
from aerial_runtime.say import say
from aerial_train.data.base import Split
from aerial_train.data.copy_photos import copy_photos
from aerial_train.data.manifest import Kind, Manifest, disk_full, new_folder, write_manifest
from aerial_train.data.opening import chosen_recipe, open_backgrounds, scene_seed
from aerial_train.data.progress import progress
from aerial_train.data.rendering import rendered
from aerial_train.data.splits import VAL_SHARE
from aerial_train.data.write_crops import CropWriter
from aerial_train.data.write_frames import FOLDERS, FrameWriter
from aerial_train.scenes.crops import CROP_RECIPES, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

Part = TypeVar("Part")

OF_SCENES = ("kind", "count", "recipe", "size", "crop_size", "margin", "backgrounds", "workers")
OF_KIND = {"frames": ("size",), "crops": ("crop_size", "margin")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train dataset`. What is not given stays None, since not all fit together."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="new folder of the dataset")
    add("--from", type=Path, dest="photos", metavar="PATH", help="photos labelled elsewhere instead of scenes: COCO "
        "JSON, the folder of a YOLO export, or a label list")  # fmt: skip
    add("--kind", choices=("frames", "crops"), help="what to draw (frames)")
    add("--count", type=int, metavar="N", help="number of pictures (1000)")
    add("--recipe", metavar="RECIPE", help="flight, r256 (frames), r32, r32-any (crops) (flight)")
    add("--size", metavar="WxH", help="pixels of a frame (256x256)")
    add("--crop-size", type=int, metavar="N", help="side of a crop, pixels (the recipe's)")
    add("--margin", type=float, metavar="X", help="side of the crop over the longer side of the box (the recipe's)")
    add("--val", type=float, default=VAL_SHARE, metavar="SHARE", help=f"share that is held out, of photos whole "
        f"sources; 0: none ({VAL_SHARE})")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of the scenes, or of which sources are held out (0)")
    add("--backgrounds", type=Path, metavar="DIR", help="folder of photos; procedural terrain without")
    add("--workers", type=int, metavar="N", help="processes that draw; the dataset is the same with any number (1)")
    add("--label-space", default="suas", metavar="L", help="class tables: a file or a shipped name (suas)")


def run(args: argparse.Namespace) -> int:
    """Write the dataset; return the exit code. Ctrl-C and a full disk leave a smaller dataset. Raises AerialError."""
    if not 0 <= args.val < 1 or args.seed < 0:
        raise UsageError(f"--val must be within 0..1 and --seed at least 0, they are {args.val} and {args.seed}")
    space = load_label_space(args.label_space)
    if args.photos is not None:
        _refuse(args, OF_SCENES, "--from")
        return copy_photos(args.photos, args.out, space, args.val, args.seed)
    kind: Kind = args.kind or "frames"
    count = 1000 if args.count is None else args.count
    _refuse(args, OF_KIND["crops" if kind == "frames" else "frames"], f"--kind {kind}")
    if count < 1 or (args.workers is not None and args.workers < 1):
        raise UsageError(f"--count and --workers must be at least 1, they are {count} and {args.workers}")
    if args.val and not 0 < math.floor(count * args.val) < count:
        raise UsageError(f"--val {args.val} of --count {count} leaves one side empty; give more pictures, or --val 0")
    writer = _frame_writer(args, space) if kind == "frames" else _crop_writer(args, space)
    writer.scenes.preload()
    if args.val:
        writer.held_out_scenes.preload()
    new_folder(args.out, *(FOLDERS if kind == "frames" else ()))
    return write_scenes(writer, count, args.workers or 1)


class Writer(Protocol[Part]):
    """Writes samples into a folder: `make` renders a chunk of them in any process, `add` takes it over in order, and
    after `finish` all that was taken over is a dataset. All may raise OSError."""

    folder: Path
    manifest: Manifest
    chunk: int

    @property
    def count(self) -> int:
        """Samples that are written."""

    def make(self, indices: range) -> Part:
        """Render a chunk."""

    def add(self, part: Part) -> int:
        """Return how many samples were taken over by now."""

    def finish(self) -> None:
        """Write what makes it a dataset."""


def write_scenes(writer: Writer[Any], count: int, workers: int) -> int:
    """Render and write; return the exit code. Raises AerialError where not all could be written; the rest is kept."""
    failed: OSError | AerialError | None = None
    interrupted = False
    try:
        write_manifest(writer.folder, writer.manifest)  # also of what a power cut leaves
        parts = rendered(writer.make, count, writer.chunk, workers)
        with closing(parts), progress("written", count) as show:
            for part in parts:
                show(writer.add(part))
    except KeyboardInterrupt:
        interrupted = True
    except (OSError, AerialError) as error:
        failed = error
    try:
        writer.finish()
    except OSError as error:
        failed = failed or error
    if isinstance(failed, AerialError):
        raise failed
    if failed is not None:
        raise disk_full(writer.folder, f"{writer.count} of {count} {writer.manifest.kind}", failed) from failed
    ending = f", interrupted of {count}" if interrupted else ""
    say(f"{writer.folder}: {writer.count} {writer.manifest.kind}{ending}")
    return INTERRUPTED if interrupted else 0


def _refuse(args: argparse.Namespace, names: tuple[str, ...], beside: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if given:
        raise UsageError(f"{' and '.join(given)} cannot be given with {beside}; leave it out")


def _frame_writer(args: argparse.Namespace, space: LabelSpace) -> FrameWriter:
    name = args.recipe or "flight"
    recipe = chosen_recipe(name, FRAME_RECIPES, "frames")

    def scenes(split: Split) -> FrameScenes:
        found = FrameScenes(space, recipe, open_backgrounds(args.backgrounds, split), scene_seed(args.seed, split))
        return found if args.size is None else found.with_size(*parse_size(args.size))

    train, val = scenes("train"), scenes("val")
    manifest = Manifest(kind="frames", recipe=name, settings=asdict(train.recipe), seed=args.seed, label_space=space)
    return FrameWriter(train, val, args.out, manifest, args.val)


def _crop_writer(args: argparse.Namespace, space: LabelSpace) -> CropWriter:
    name = args.recipe or "flight"
    recipe = chosen_recipe(name, CROP_RECIPES, "crops")
    if args.crop_size is not None:
        recipe = replace(recipe, size=args.crop_size)
    if args.margin is not None:
        recipe = replace(recipe, margin=args.margin)
    train, val = (
        CropScenes(space, recipe, open_backgrounds(args.backgrounds, split), scene_seed(args.seed, split))
        for split in ("train", "val")
    )
    manifest = Manifest(kind="crops", recipe=name, settings=asdict(recipe), seed=args.seed, label_space=space)
    return CropWriter(train, val, args.out, manifest, args.val)


def parse_size(text: str) -> tuple[int, int]:
    """Parse WxH. Raises UsageError."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise UsageError(f"--size must look like 1920x1080, not {text!r}") from error
    if min(width, height) < 16:
        raise UsageError(f"--size must be at least 16x16, not {text}")
    return width, height

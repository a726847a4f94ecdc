"""`aerial-train mine`: what both models take for a target where there is none, as crops to learn from.

Frames without a single target, drawn over the photographs that trainings draw on or photographed over empty ground, are
flown; every candidate that the classifier does not reject at once becomes a crop that is no target. A classifier's next
training mixes them in: `--data scenes=0.9,mined/=0.1`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import U8
from aerial_runtime.crop import cut_crop
from aerial_runtime.errors import INTERRUPTED, InputError, UsageError
from aerial_runtime.say import say
from aerial_train.data.base import Split
from aerial_train.data.manifest import Manifest, disk_full, new_folder, write_manifest
from aerial_train.data.opening import open_backgrounds
from aerial_train.data.packed import pack
from aerial_train.data.progress import progress
from aerial_train.data.splits import VAL_SHARE, is_held_out, source_of, val_sources
from aerial_train.data.write_crops import CropFolder
from aerial_train.evaluation.certificate import DISTRACTORS, FRAME_PX
from aerial_train.evaluation.pair import Pair, add_model_arguments, open_pair
from aerial_train.evaluation.sources import add_engine_arguments, check_engine_arguments
from aerial_train.scenes.backgrounds import photo_files
from aerial_train.scenes.crops import CropSample
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

MINED: Final = "mined"
ABOVE: Final = 0.02  # confidence of `target` from which on a crop is worth learning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train mine`."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="new folder of the crops")
    add("--frames", type=int, default=2000, metavar="N", help="frames to draw and fly (2000)")
    add("--backgrounds", type=Path, metavar="DIR", help="folder of photos under the frames; procedural terrain without")
    add("--empty", type=Path, metavar="DIR", help="fly these photos instead, on none of which is a target")
    add("--above", type=float, default=ABOVE, metavar="X", help=f"confidence of `target` from which on a candidate is "
        f"kept, 0..1 ({ABOVE})")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of the frames (0)")
    add_model_arguments(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fly and write; return the exit code. Ctrl-C keeps what was found by then. Raises AerialError."""
    check_engine_arguments(args)
    if args.frames < 1 or args.seed < 0:
        raise UsageError(f"--frames must be at least 1 and --seed at least 0, they are {args.frames} and {args.seed}")
    if not 0 <= args.above <= 1:
        raise UsageError(f"--above must be within 0..1, is {args.above}")
    if args.empty is not None and args.backgrounds is not None:
        raise UsageError("--backgrounds lie under drawn frames and --empty are frames themselves; give one of them")
    files = photo_files(args.empty, "--empty") if args.empty is not None else []
    with open_pair(args) as pair:
        settings = {"size": pair.models["classifier"].card.crop_size, "margin": pair.margin, "above": args.above}
        manifest = Manifest(kind="crops", recipe=MINED, settings=settings, seed=args.seed, label_space=pair.label_space)
        if files:
            frames = _photos(files, args.empty, args.seed)
        else:
            frames = _drawn(pair.label_space, args.backgrounds, args.seed, args.frames)
        new_folder(args.out)
        folder = CropFolder(pair.label_space, args.out, manifest)
        total = len(files) or args.frames
        try:
            flown = _fly(pair, frames, total, args.above, folder)
        except OSError as error:
            raise disk_full(args.out, f"{folder.count} crops", error) from error
    ending = f", interrupted of {total}" if flown < total else ""
    say(f"{args.out}: {folder.count} crops of {flown} frames without targets{ending}")
    return INTERRUPTED if flown < total else 0


def _fly(pair: Pair, frames: Iterator[tuple[U8, bool]], total: int, above: float, folder: CropFolder) -> int:
    """Write what each frame holds, all of it held out or none: pieces of one parasol are alike.

    Returns how many were flown before Ctrl-C. Raises OSError, AerialError.
    """
    flown = 0
    write_manifest(folder.folder, folder.manifest)  # also of what a power cut leaves
    try:
        with progress("flown", total) as show:
            for image_bgr, held_out in frames:
                samples = candidates(pair, image_bgr, above)
                if samples:
                    folder.add(pack(samples, pair.label_space, [held_out] * len(samples)))
                flown += 1
                show(flown)
    except KeyboardInterrupt:
        pass
    finally:
        folder.finish()
    return flown


def candidates(pair: Pair, image_bgr: U8, above: float) -> list[CropSample]:
    """Return what a frame without targets, uint8 [H, W, 3], holds that the classifier gives at least `above`.

    Each as a crop that is no target. Raises ModelError.
    """
    size = pair.models["classifier"].card.crop_size or 0
    samples = []
    for target in pair.see(image_bgr, ""):
        if target.confidence >= above:
            crop = np.empty((size, size, 3), np.uint8)
            cut_crop(image_bgr, target.box, pair.margin, crop)
            labels = {head.name: -1 for head in pair.label_space.heads}
            longer = float(max(target.box.width, target.box.height))
            samples.append(CropSample(crop, False, labels, np.zeros(2, np.float32), longer))
    return samples


def _drawn(space: LabelSpace, backgrounds: Path | None, seed: int, count: int) -> Iterator[tuple[U8, bool]]:
    """Draw frames without targets as for the certificate; some are held out, on photos that trainings leave out."""
    recipe = replace(FRAME_RECIPES["flight"], targets=(0, 0), distractors=DISTRACTORS)

    def on(split: Split) -> FrameScenes:
        return FrameScenes(space, recipe, open_backgrounds(backgrounds, split), seed).with_size(*FRAME_PX)

    train, val = on("train"), on("val")
    which = [is_held_out(index, VAL_SHARE) for index in range(count)]
    return (((val if held_out else train).sample(0, index).image_bgr, held_out) for index, held_out in enumerate(which))


def _photos(files: list[str], folder: Path, seed: int) -> Iterator[tuple[U8, bool]]:
    """Read photos one by one, whole sources of them held out. Raises InputError."""
    sources = [source_of(str(Path(file).relative_to(folder))) for file in files]
    val = val_sources(Counter(sources), VAL_SHARE, seed)
    for file, source in zip(files, sources, strict=True):
        image = cv2.imread(file, cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"cannot read {file}; remove or repair it")
        yield np.asarray(image, np.uint8), source in val

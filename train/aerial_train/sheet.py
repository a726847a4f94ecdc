"""Contact sheets of labelled pictures for a person to look at, and `aerial-train scenes`, which draws one of scenes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace, load_label_space
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.demo_flight import label_of
from aerial_train.scenes.backgrounds import PHOTO_SUFFIXES, Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropSample, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameSample, FrameScenes

TILE_PX, LINE_PX, COLUMNS, FRAME_COLUMNS = 112, 12, 12, 4
IGNORED_BGR = (90, 40, 160)  # what counts neither way, on a mask
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, uint8 [h, w, 3], with the lines that stand beneath it. Tiles of a sheet are alike, with
    as many lines each."""

    image_bgr: U8
    lines: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train scenes`."""
    recipes = sorted({*CROP_RECIPES, *FRAME_RECIPES})
    parser.add_argument("--sheet", type=Path, required=True, metavar="FILE.png", help="picture to write")
    parser.add_argument("--recipe", default="flight", choices=recipes, help="what to draw (flight)")
    parser.add_argument("--frames", action="store_true", help="draw whole frames with boxes instead of crops")
    parser.add_argument("--count", type=int, default=72, metavar="N", help="pictures on the sheet (72)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the scenes (0)")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of photos; procedural terrain without")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="real crops to set below the drawn ones")
    parser.add_argument(
        "--label-space", default="suas", metavar="L", help="class tables: a file or a shipped name (suas)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the sheet; return the exit code. Raises AerialError."""
    if args.count < 1 or args.seed < 0:
        raise UsageError("--count must be at least 1 and --seed at least 0")
    if args.sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet must end in .png, is {args.sheet}")
    if args.frames and args.beside is not None:
        raise UsageError("--beside sets real crops below drawn ones; leave it or --frames out")
    recipes = FRAME_RECIPES if args.frames else CROP_RECIPES
    if args.recipe not in recipes:
        raise UsageError(
            f"--recipe {args.recipe} draws {'crops' if args.frames else 'frames'} only; choose {list(recipes)}"
        )
    space, backgrounds = load_label_space(args.label_space), Backgrounds(args.backgrounds)
    real = _real_tiles(args.beside) if args.beside is not None else []
    if args.frames:
        frames = FrameScenes(space, FRAME_RECIPES[args.recipe], backgrounds, args.seed)
        tiles = [frame_tile(frames.sample(0, index), space) for index in range(args.count)]
    else:
        crops = CropScenes(space, CROP_RECIPES[args.recipe], backgrounds, args.seed)
        tiles = [crop_tile(crops.sample(0, index), space) for index in range(args.count)] + real
    write_sheet(args.sheet, tiles, FRAME_COLUMNS if args.frames else COLUMNS)
    print(f"{args.sheet}: {len(tiles)} pictures")
    return 0


def write_sheet(path: Path, tiles: Sequence[Tile], columns: int) -> None:
    """Write tiles of one size as a PNG. Raises ResourceError."""
    drawn = [_captioned(tile) for tile in tiles]
    drawn += [np.zeros_like(drawn[0])] * (-len(drawn) % columns)
    rows = [np.hstack(drawn[start : start + columns]) for start in range(0, len(drawn), columns)]
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise ResourceError(f"cannot write {path}; check that its folder is there and the disk not full")


def crop_tile(sample: CropSample, space: LabelSpace) -> Tile:
    """A crop with the line of its heading, over its labels."""
    words = [head.classes[sample.labels[head.name]] if sample.labels[head.name] >= 0 else "-" for head in space.heads]
    image = fitted(sample.image_bgr)
    if not sample.is_target:
        return Tile(image, ("no target", ""))
    if sample.heading.any():
        tip = np.rint(TILE_PX / 2 + sample.heading * TILE_PX * 0.46).astype(int)
        cv2.circle(image, (int(tip[0]), int(tip[1])), 3, WHITE, -1, cv2.LINE_AA)
        cv2.line(image, (TILE_PX // 2, TILE_PX // 2), (int(tip[0]), int(tip[1])), WHITE, 1, cv2.LINE_AA)
    half = len(words) // 2
    return Tile(image, (" ".join(words[:half]), f"{' '.join(words[half:])} {sample.source_px:.0f}px"))


def frame_tile(sample: FrameSample, space: LabelSpace) -> Tile:
    """A frame with its boxes and labels beside its mask; tinted is what counts neither way."""
    image = sample.image_bgr.copy()
    for target in sample.targets:
        box, label = target.box, label_of(target, space)
        words = " ".join(str(label[head.name]) for head in space.heads if label[head.name])
        cv2.rectangle(image, (box.x, box.y), (box.x + box.width, box.y + box.height), WHITE, 1)
        cv2.putText(image, words, (box.x, max(8, box.y - 2)), cv2.FONT_HERSHEY_PLAIN, 0.6, WHITE)
    mask = cv2.cvtColor(sample.mask, cv2.COLOR_GRAY2BGR)
    if sample.ignore is not None:
        mask[(sample.ignore > 0) & (sample.mask == 0)] = IGNORED_BGR
    return Tile(np.asarray(np.hstack((image, mask)), np.uint8))


def _real_tiles(folder: Path) -> list[Tile]:
    files = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES) if folder.is_dir() else []
    )
    if not files:
        raise InputError(f"{folder} holds no pictures to set beside the scenes; check --beside")
    images = [(path.stem, cv2.imread(str(path), cv2.IMREAD_COLOR)) for path in files]
    return [
        Tile(fitted(np.asarray(image, np.uint8)), ("real", name[-18:])) for name, image in images if image is not None
    ]


def fitted(image: U8, side_px: int = TILE_PX) -> U8:
    """Fit a picture into a square."""
    square = np.zeros((side_px, side_px, 3), np.uint8)
    scale = side_px / max(image.shape[:2])
    width, height = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    square[:height, :width] = cv2.resize(image, (width, height), interpolation=interpolation)
    return square


def _captioned(tile: Tile) -> U8:
    """A tile as a picture, its lines drawn beneath."""
    if not tile.lines:
        return tile.image_bgr
    height, width = tile.image_bgr.shape[:2]
    whole = np.zeros((height + LINE_PX * len(tile.lines) + 2, width, 3), np.uint8)
    whole[:height] = tile.image_bgr
    for row, text in enumerate(tile.lines):
        cv2.putText(whole, text, (1, height + 10 + LINE_PX * row), cv2.FONT_HERSHEY_PLAIN, 0.68, (230, 230, 230))
    return whole

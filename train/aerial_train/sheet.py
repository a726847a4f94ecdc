"""`aerial-train scenes`: a contact sheet of what the generator draws, with its labels, for a person to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace, load_label_space
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.demo_flight import label_of
from aerial_train.scenes.backgrounds import PHOTO_SUFFIXES, Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropSample, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

TILE_PX, CAPTION_PX, COLUMNS = 112, 26, 12


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
    recipes = FRAME_RECIPES if args.frames else CROP_RECIPES
    if args.recipe not in recipes:
        raise UsageError(
            f"--recipe {args.recipe} draws {'crops' if args.frames else 'frames'} only; choose {list(recipes)}"
        )
    space, backgrounds = load_label_space(args.label_space), Backgrounds(args.backgrounds)
    real = _real_tiles(args.beside) if args.beside is not None else []
    if args.frames:
        frames = FrameScenes(space, FRAME_RECIPES[args.recipe], backgrounds, args.seed)
        tiles = [_frame_tile(frames, index) for index in range(args.count)]
        columns = 4
    else:
        crops = CropScenes(space, CROP_RECIPES[args.recipe], backgrounds, args.seed)
        tiles = [_crop_tile(crops.sample(0, index), space) for index in range(args.count)]
        columns, tiles = COLUMNS, tiles + real
    if not cv2.imwrite(str(args.sheet), _arrange(tiles, columns)):
        raise ResourceError(f"cannot write {args.sheet}; check that its folder is there and the disk not full")
    print(f"{args.sheet}: {len(tiles)} pictures")
    return 0


def _crop_tile(sample: CropSample, space: LabelSpace) -> U8:
    """A crop, four times as wide as it is, over its labels."""
    words = [head.classes[sample.labels[head.name]] if sample.labels[head.name] >= 0 else "-" for head in space.heads]
    image = sample.image_bgr.copy()
    if not sample.is_target:
        return _captioned(image, "no target", "")
    half = len(words) // 2
    tile = _captioned(image, " ".join(words[:half]), f"{' '.join(words[half:])} {sample.source_px:.0f}px")
    middle, tip = TILE_PX // 2, np.rint(TILE_PX / 2 + sample.heading * TILE_PX * 0.46).astype(int)
    if sample.heading.any():
        cv2.circle(tile, (int(tip[0]), int(tip[1])), 3, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.line(tile, (middle, middle), (int(tip[0]), int(tip[1])), (255, 255, 255), 1, cv2.LINE_AA)
    return tile


def _frame_tile(scenes: FrameScenes, index: int) -> U8:
    sample = scenes.sample(0, index)
    image = sample.image_bgr.copy()
    for target in sample.targets:
        box, label = target.box, label_of(target, scenes.label_space)
        words = " ".join(str(label[head.name]) for head in scenes.label_space.heads if label[head.name])
        cv2.rectangle(image, (box.x, box.y), (box.x + box.width, box.y + box.height), (255, 255, 255), 1)
        cv2.putText(image, words, (box.x, max(8, box.y - 2)), cv2.FONT_HERSHEY_PLAIN, 0.6, (255, 255, 255))
    mask = cv2.cvtColor(sample.mask, cv2.COLOR_GRAY2BGR)
    return np.asarray(np.hstack((image, mask)), np.uint8)


def _real_tiles(folder: Path) -> list[U8]:
    files = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES) if folder.is_dir() else []
    )
    if not files:
        raise InputError(f"{folder} holds no pictures to set beside the scenes; check --beside")
    images = [(path.stem, cv2.imread(str(path), cv2.IMREAD_COLOR)) for path in files]
    return [_captioned(np.asarray(image, np.uint8), "real", name[-18:]) for name, image in images if image is not None]


def _captioned(image: U8, first: str, second: str) -> U8:
    """Fit a picture into a square tile over two lines of text."""
    tile = np.zeros((TILE_PX + CAPTION_PX, TILE_PX, 3), np.uint8)
    scale = TILE_PX / max(image.shape[:2])
    size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
    tile[: size[1], : size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
    for row, text in enumerate((first, second)):
        cv2.putText(tile, text, (1, TILE_PX + 10 + 12 * row), cv2.FONT_HERSHEY_PLAIN, 0.68, (230, 230, 230))
    return tile


def _arrange(tiles: list[U8], columns: int) -> U8:
    blank = np.zeros_like(tiles[0])
    tiles = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), np.uint8)

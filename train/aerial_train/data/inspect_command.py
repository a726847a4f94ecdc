"""`aerial-train inspect DATA`: look for what is wrong with data before anything is trained on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from aerial_runtime.card import SHIPPED_LABEL_SPACE, LabelSpace, load_label_space
from aerial_runtime.errors import CheckError, InputError, UsageError
from aerial_runtime.say import say
from aerial_train.data.base import CropData, FrameData
from aerial_train.data.examine import (
    Examination,
    examine_crop_scenes,
    examine_frame_scenes,
    examine_packed,
    examine_photos,
)
from aerial_train.data.inspect_report import check_sheet_path, report_lines, write_html
from aerial_train.data.manifest import MANIFEST_FILE, Kind, Manifest, read_manifest
from aerial_train.data.opening import SCENES, check_label_space, chosen_recipe, open_crops, open_frames, parse_data
from aerial_train.data.reading import read_photos
from aerial_train.scenes.crops import CROP_RECIPES, CropRecipe
from aerial_train.sheet import COLUMNS, FRAME_COLUMNS, Tile, crop_tile, frame_tile, write_sheet

SHEET_CROPS, SHEET_FRAMES = 72, 24
SHEET_SIZE: Final = (256, 256)  # windows of photos on the sheet
STRIDE: Final = 4  # of masks, which no one learns from here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train inspect`."""
    add = parser.add_argument
    add("data", metavar="DATA", help="scenes, the folder of a dataset, COCO JSON, a YOLO export, a label list")
    add("--sheet", type=Path, metavar="FILE", help="also write pictures with their labels: .png, or .html with all")
    add("--kind", choices=("frames", "crops"), help="what scenes draw, and what of photos the sheet shows (as DATA is)")
    add("--count", type=int, default=200, metavar="N", help="pictures to draw of scenes (200)")
    add("--recipe", default="flight", metavar="RECIPE", help="of scenes: flight, of frames r256, of crops r32, r32-any")
    add("--backgrounds", type=Path, metavar="DIR", help="of scenes: folder of photos; procedural terrain without")
    add("--seed", type=int, default=0, metavar="N", help="of scenes, and of which pictures the sheet shows (0)")
    add("--label-space", metavar="L", help="class tables: a file or a shipped name (the dataset's own, else suas)")


def run(args: argparse.Namespace) -> int:
    """Print statistics and findings, write the sheet; return the exit code.

    Raises InputError for what cannot be read at all, CheckError after an inspection that found errors.
    """
    if args.count < 1 or args.seed < 0:
        raise UsageError(f"--count must be at least 1 and --seed at least 0, they are {args.count} and {args.seed}")
    if len(parse_data(args.data)) > 1:
        raise UsageError(f"{args.data} is a mixture; inspect its parts one by one")
    if args.sheet is not None:
        check_sheet_path(args.sheet)
    manifest = read_manifest(Path(args.data)) if (Path(args.data) / MANIFEST_FILE).is_file() else None
    space = _label_space(args, manifest)
    kind, done = _examine(args, space, manifest)
    say("\n".join(report_lines(args.data, done)))
    errors = done.findings.number("error")
    if args.sheet is not None:
        try:
            _write_sheet(args, kind, space, manifest, done)
        except InputError as error:
            if not errors:
                raise
            say(f"no sheet: {error}")
    if errors:
        raise CheckError(f"{args.data} has {errors} kinds of errors; correct them before anything is trained on it")
    return 0


def _label_space(args: argparse.Namespace, manifest: Manifest | None) -> LabelSpace:
    space = load_label_space(args.label_space or SHIPPED_LABEL_SPACE)
    if manifest is None:
        return space
    if args.label_space:
        check_label_space(manifest.label_space, space, args.data)
    return manifest.label_space


def _examine(args: argparse.Namespace, space: LabelSpace, manifest: Manifest | None) -> tuple[Kind, Examination]:
    """Look at all; return also whether the sheet shall show frames or crops."""
    if args.data == SCENES:
        if args.kind == "crops":
            return "crops", examine_crop_scenes(_crops(args, space, None), args.count)
        return "frames", examine_frame_scenes(_frames(args, space), args.count)
    if manifest is not None and manifest.kind == "crops":
        if args.kind == "frames":
            raise UsageError(f"{args.data} holds crops; leave --kind frames out")
        return "crops", examine_packed(Path(args.data), manifest)
    photos = read_photos(Path(args.data), space)
    return args.kind or photos.kind, examine_photos(photos, manifest, CropRecipe().margin)


def _frames(args: argparse.Namespace, space: LabelSpace) -> FrameData:
    size = None if args.data == SCENES else SHEET_SIZE
    return open_frames(
        args.data,
        space=space,
        split="all",
        recipe=args.recipe,
        backgrounds=args.backgrounds,
        seed=args.seed,
        size=size,
        stride=STRIDE,
    )


def _crops(args: argparse.Namespace, space: LabelSpace, manifest: Manifest | None) -> CropData:
    """Crops as the recipe, or whoever wrote the dataset, wanted them."""
    recipe = chosen_recipe(args.recipe, CROP_RECIPES, "crops") if args.data == SCENES else CropRecipe()
    size, margin = recipe.size, recipe.margin
    if manifest is not None and manifest.kind == "crops":
        size, margin = int(manifest.settings["size"]), float(manifest.settings["margin"])
    return open_crops(
        args.data,
        space=space,
        split="all",
        recipe=args.recipe,
        backgrounds=args.backgrounds,
        seed=args.seed,
        crop_size=size,
        margin=margin,
    )


def _write_sheet(
    args: argparse.Namespace, kind: Kind, space: LabelSpace, manifest: Manifest | None, done: Examination
) -> None:
    tiles: list[Tile]
    if kind == "frames":
        frames = _frames(args, space)
        count = min(SHEET_FRAMES, args.count if frames.count is None else frames.count)
        tiles = [frame_tile(frames.sample(0, index), space) for index in range(count)]
    else:
        crops = _crops(args, space, manifest)
        count = min(SHEET_CROPS, args.count if crops.count is None else crops.count)
        tiles = [crop_tile(crops.sample(0, index), space) for index in range(count)]
    if args.sheet.suffix.lower() == ".html":
        write_html(args.sheet, args.data, done, tiles)
    else:
        write_sheet(args.sheet, tiles, COLUMNS if kind == "crops" else FRAME_COLUMNS)
    say(f"{args.sheet}: {len(tiles)} pictures")

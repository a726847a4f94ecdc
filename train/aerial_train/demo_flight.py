"""Render the demo flight: one straight pass over a procedural field with targets, and the truth of every frame.

The ground and what lies on it are drawn once, in a map; each frame is the map seen from where the aircraft is, with
the targets drawn afresh through the whole homography, so that none is interpolated twice.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace, load_label_space
from aerial_runtime.classify import sector_of
from aerial_runtime.contract import F32, U8
from aerial_runtime.errors import ResourceError, UsageError
from aerial_train.scenes.backgrounds import terrain
from aerial_train.scenes.camera import Camera, expose
from aerial_train.scenes.distractors import paint_distractor
from aerial_train.scenes.frames import LabelledTarget, place_target
from aerial_train.scenes.target import Look, Style, at_pixels, check_drawable, placement, sample_look, warp

FRAME_WIDTH, FRAME_HEIGHT = 1920, 1080
STEP_PX = 290  # ground covered between two frames: a target stays in view for about three
MAP_MARGIN_PX = 420  # the aircraft yaws and drifts
TARGETS, DISTRACTORS = 26 / 24, 40 / 24  # a frame
SIZE_PX = (22.0, 90.0)
FIELD = ("lawn", "dry grass", "meadow", "soil")
STYLE = replace(Style(), pink=0.0, no_letter=0.0, turned_letter=0.0, grass=0.05, min_contrast=120.0)
CAMERA = Camera(
    exposure=0.03, cast=0.012, gamma=0.02, clip=0, haze=0, saturation=(0.97, 1.03), shade=0, vignette=0.5,
    defocus=1, defocus_px=0.7, motion=0.3, motion_px=2.0, sharpen=0.2, noise=3.0, jpeg=0,
)  # fmt: skip
JPEG_QUALITY = 87


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train demo-flight`."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for frames and labels.json")
    parser.add_argument("--frames", type=int, default=24, metavar="N", help="frames of the flight (24)")
    parser.add_argument(
        "--seed",
        type=int,
        default=11,
        metavar="N",
        help="of the field and all that lies on it (11: the shipped flight)",
    )
    parser.add_argument(
        "--label-space", default="suas", metavar="L", help="class tables: a file or a shipped name (suas)"
    )


def run(args: argparse.Namespace) -> int:
    """Render the flight; return the exit code."""
    if args.frames < 1 or args.seed < 0:
        raise UsageError(f"--frames must be at least 1 and --seed at least 0, they are {args.frames} and {args.seed}")
    space = load_label_space(args.label_space)
    check_drawable(space)
    try:
        args.out.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(f"cannot make the folder {args.out} ({error.strerror}); choose another --out") from error
    rows = []
    for name, image, targets in fly(space, args.frames, args.seed):
        if not cv2.imwrite(str(args.out / name), image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)):
            raise ResourceError(f"cannot write {args.out / name}; is the disk full?")
        rows.append(label_row(name, image, targets, space))
        print(f"{name}: {len(targets)} targets", flush=True)
    try:
        (args.out / "labels.json").write_text(json.dumps(rows, indent=1) + "\n")
    except OSError as error:
        raise ResourceError(f"cannot write {args.out / 'labels.json'} ({error.strerror}); is the disk full?") from error
    return 0


def fly(space: LabelSpace, frames: int, seed: int) -> list[tuple[str, U8, list[tuple[int, LabelledTarget]]]]:
    """Return (file name, picture, numbered targets in view) of every frame."""
    rng = np.random.default_rng(seed)
    length = FRAME_HEIGHT + (frames - 1) * STEP_PX + 2 * MAP_MARGIN_PX
    width = FRAME_WIDTH + 2 * MAP_MARGIN_PX
    ground = terrain(rng, length, width, FIELD)
    targets, distractors = max(3, round(frames * TARGETS)), max(3, round(frames * DISTRACTORS))
    places = _places(rng, width, length, targets + distractors)
    for x, y in places[targets:]:
        paint_distractor(rng, ground, x, y, math.exp(rng.uniform(math.log(15), math.log(120))))
    boards = [_board(rng, space, x, y) for x, y in places[:targets]]
    flight = []
    for index in range(frames):
        view = _view(index, length, rng)
        picture = np.asarray(cv2.warpPerspective(ground, view, (FRAME_WIDTH, FRAME_HEIGHT)), np.uint8)
        mask = np.zeros(picture.shape[:2], np.uint8)
        seen = []
        for number, (look, board) in enumerate(boards):
            # Its own generator, started anew, so that a board is made in the same way in every frame.
            target = place_target(np.random.default_rng((seed, number)), picture, mask, look, view @ board)
            if target is not None:
                seen.append((number, target))
        flight.append((f"flight_{index:03d}.jpg", expose(rng, picture, CAMERA), seen))
    return flight


def _places(rng: np.random.Generator, width: int, length: int, count: int) -> list[tuple[float, float]]:
    """Return `count` places on the map, none near another; a map of one frame has room for a dozen."""
    places: list[tuple[float, float]] = []
    while len(places) < count:
        x = rng.uniform(MAP_MARGIN_PX, width - MAP_MARGIN_PX)
        y = rng.uniform(MAP_MARGIN_PX, length - MAP_MARGIN_PX)
        if all(math.hypot(x - px, y - py) > 230 for px, py in places):
            places.append((x, y))
    return places


def _board(rng: np.random.Generator, space: LabelSpace, x: float, y: float) -> tuple[Look, F32]:
    """A target and its homography onto the map."""
    look = sample_look(rng, space, STYLE)
    unit = placement(rng, rng.uniform(0, 2 * math.pi), 0.03)
    extent = warp(unit, look.outline)
    size = math.exp(rng.uniform(math.log(SIZE_PX[0]), math.log(SIZE_PX[1])))
    return look, at_pixels(unit, size / float((extent.max(axis=0) - extent.min(axis=0)).max()), x, y)


def _view(index: int, length: int, rng: np.random.Generator) -> F32:
    """Homography of the map to frame `index`: flying up the map with a little yaw, tilt, drift and climb."""
    yaw, climb = 0.05 * math.sin(index / 3.1), 1 + 0.04 * math.sin(index / 5.3)
    middle_x = FRAME_WIDTH / 2 + MAP_MARGIN_PX + 90 * math.sin(index / 4.7)
    middle_y = length - MAP_MARGIN_PX - FRAME_HEIGHT / 2 - index * STEP_PX
    cos, sin = math.cos(yaw) * climb, math.sin(yaw) * climb
    to_middle = np.array(((1, 0, -middle_x), (0, 1, -middle_y), (0, 0, 1)))
    turn = np.array(((cos, -sin, 0), (sin, cos, 0), (*rng.normal(0, 1.2e-5, 2), 1)))
    to_frame = np.array(((1, 0, FRAME_WIDTH / 2), (0, 1, FRAME_HEIGHT / 2), (0, 0, 1)))
    return np.asarray(to_frame @ turn @ to_middle, np.float32)


def label_row(name: str, image: U8, targets: list[tuple[int, LabelledTarget]], space: LabelSpace) -> dict[str, Any]:
    """One entry of a label file (aerial_runtime.label_file.read_labels) with the board's number as `id`."""
    return {
        "image": name,
        "width": image.shape[1],
        "height": image.shape[0],
        "complete": True,
        "targets": [{"id": number, **label_of(target, space)} for number, target in targets],
    }


def label_of(target: LabelledTarget, space: LabelSpace) -> dict[str, Any]:
    """A target's box, classes and heading as they stand in label files; null = unknown or nothing there."""
    box = target.box
    label: dict[str, Any] = {"x": box.x, "y": box.y, "w": box.width, "h": box.height, "truncated": target.truncated}
    for head in space.heads:
        index = target.labels[head.name]
        label[head.name] = head.classes[index] if index >= 0 else None
    if space.heading and target.degrees is not None:
        label[space.heading.name] = sector_of(target.degrees, space.heading.sectors)
        label["degrees"] = round(target.degrees, 1)
    return label

"""`aerial-train dataset`: labelled scenes on disk, and reading them back.

A dataset is a folder: `images/` (PNG), `masks/` (PNG, frames only), `labels.json` (COCO: boxes, polygons, and under
`attributes` each head's class or null, and the degrees of letter-up), `manifest.json` (kind, count, recipe, seed,
generator version, label space).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from aerial_runtime import __version__
from aerial_runtime.card import LabelSpace, load_label_space
from aerial_runtime.contract import U8, Box
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropBatch, CropSample, CropScenes
from aerial_train.scenes.frames import (
    FRAME_RECIPES,
    FrameBatch,
    FrameSample,
    FrameScenes,
    LabelledTarget,
    mask_to_cells,
)
from aerial_train.scenes.target import NONE, UNKNOWN

DATASET_SCHEMA = "aerial.dataset/1"
ABSENT = "none"  # the attribute's value where there is nothing to read; null is unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train dataset`."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the dataset")
    parser.add_argument("--kind", choices=("frames", "crops"), default="frames", help="what to write (frames)")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="number of pictures (1000)")
    parser.add_argument(
        "--recipe", default="flight", metavar="RECIPE", help="flight, r256 (frames), r32 (crops) (flight)"
    )
    parser.add_argument("--size", default="", metavar="WxH", help="pixels of a frame (256x256)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the scenes (0)")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of photos; procedural terrain without")
    parser.add_argument(
        "--label-space", default="suas", metavar="L", help="class tables: a file or a shipped name (suas)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the dataset; return the exit code. Ctrl-C keeps what is written, as a smaller dataset."""
    recipes = FRAME_RECIPES if args.kind == "frames" else CROP_RECIPES
    if args.recipe not in recipes:
        raise UsageError(f"--recipe {args.recipe!r} is none of the recipes for {args.kind}: {', '.join(recipes)}")
    if args.count < 1 or args.seed < 0:
        raise UsageError(f"--count must be at least 1 and --seed at least 0, they are {args.count} and {args.seed}")
    space, backgrounds = load_label_space(args.label_space), Backgrounds(args.backgrounds)
    scenes: FrameScenes | CropScenes
    if args.kind == "frames":
        scenes = FrameScenes(space, FRAME_RECIPES[args.recipe], backgrounds, args.seed)
        if args.size:
            scenes = scenes.with_size(*_size(args.size))
    else:
        scenes = CropScenes(space, CROP_RECIPES[args.recipe], backgrounds, args.seed)
    try:
        (args.out / "images").mkdir(parents=True)
        if args.kind == "frames":
            (args.out / "masks").mkdir()
    except OSError as error:
        raise ResourceError(f"cannot make the folder {args.out} ({error.strerror}); choose another --out") from error
    written = write_dataset(scenes, args.out, args.count, args.recipe)
    print(f"{args.out}: {written} {args.kind}")
    return 0 if written == args.count else 130


def _size(text: str) -> tuple[int, int]:
    """Parse WxH."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise UsageError(f"--size must look like 1920x1080, not {text!r}") from error
    if min(width, height) < 16:
        raise UsageError(f"--size must be at least 16x16, not {text}")
    return width, height


def write_dataset(scenes: FrameScenes | CropScenes, folder: Path, count: int, recipe: str) -> int:
    """Write `count` samples of epoch 0 into a folder with `images/` (and `masks/`); return how many were written.

    Labels and manifest are written in any case, so that what an interruption or a full disk leaves is a dataset.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    try:
        for index in range(count):
            rows, size = _write_sample(scenes, folder, index)
            images.append({"id": index + 1, "file_name": f"{index:06d}.png", **size})
            annotations += [
                {"id": len(annotations) + number, "image_id": index + 1, "category_id": 1, "iscrowd": 0, **row}
                for number, row in enumerate(rows, 1)  # COCO tools take 0 for "none"
            ]
            if (index + 1) % 500 == 0:
                print(f"{index + 1} of {count}", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted after {len(images)} of {count}")
    finally:
        coco = {"images": images, "categories": [{"id": 1, "name": "target"}], "annotations": annotations}
        (folder / "labels.json").write_text(json.dumps(coco) + "\n")
        manifest = {
            "schema": DATASET_SCHEMA,
            "kind": "frames" if isinstance(scenes, FrameScenes) else "crops",
            "count": len(images),
            "recipe": recipe,
            "settings": asdict(scenes.recipe),
            "seed": scenes.seed,
            "generator": f"aerial {__version__}",
            "label_space": msgspec.to_builtins(scenes.label_space),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return len(images)


def _write_sample(
    scenes: FrameScenes | CropScenes, folder: Path, index: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Write the pictures of one sample; return its annotations, and its size for the list of images."""
    sample = scenes.sample(0, index)
    name = f"{index:06d}.png"
    if isinstance(sample, FrameSample):
        _write_picture(folder / "masks" / name, sample.mask)
        rows = [_annotation(target, scenes.label_space, sample.mask) for target in sample.targets]
    else:
        rows = [_crop_annotation(sample, scenes.label_space)]
    _write_picture(folder / "images" / name, sample.image_bgr)
    height, width = sample.image_bgr.shape[:2]
    return rows, {"width": width, "height": height}


def _write_picture(path: Path, picture: U8) -> None:
    if not cv2.imwrite(str(path), picture):
        raise ResourceError(f"cannot write {path}; is the disk full?")


def _classes(labels: dict[str, int], space: LabelSpace) -> dict[str, str | None]:
    """Class indices as they stand in the file."""
    words: dict[int, str | None] = {UNKNOWN: None, NONE: ABSENT}
    return {h.name: words[labels[h.name]] if labels[h.name] < 0 else h.classes[labels[h.name]] for h in space.heads}


def _annotation(target: LabelledTarget, space: LabelSpace, mask: U8) -> dict[str, Any]:
    box = target.box
    corner = np.array((box.x, box.y))
    part = (mask[box.y : box.y + box.height, box.x : box.x + box.width] > 127).astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return {
        "bbox": [box.x, box.y, box.width, box.height],
        "area": int(part.sum()),
        "segmentation": [(c.reshape(-1, 2) + corner).reshape(-1).tolist() for c in contours if len(c) >= 3],
        "attributes": {**_classes(target.labels, space), "degrees": target.degrees, "truncated": target.truncated},
    }


def _crop_annotation(sample: CropSample, space: LabelSpace) -> dict[str, Any]:
    """A crop is one annotation over the whole picture."""
    side = sample.image_bgr.shape[0]
    x, y = (float(v) for v in sample.heading)
    heading = [x, y] if (x, y) != (0.0, 0.0) else None
    attributes = {**_classes(sample.labels, space), "heading": heading, "target": sample.is_target}
    return {"bbox": [0, 0, side, side], "area": side * side, "segmentation": [], "attributes": attributes}


class Folder:
    """A written dataset, read back: the same interface as live scenes. `count` pictures, then they repeat."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder that is no dataset."""
        self.folder = folder
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            coco = json.loads((folder / "labels.json").read_bytes())
            if manifest["schema"] != DATASET_SCHEMA:
                raise InputError(f"{folder} is a dataset of another version ({manifest['schema']}); write it again")
            self.kind, self.count = manifest["kind"], int(manifest["count"])
            self.label_space = msgspec.convert(manifest["label_space"], LabelSpace)
            self._names = [image["file_name"] for image in coco["images"]]
            self._labels: list[list[dict[str, Any]]] = [[] for _ in self._names]
            for row in coco["annotations"]:
                self._labels[row["image_id"] - 1].append(row)
        except (OSError, KeyError, TypeError, IndexError, json.JSONDecodeError, msgspec.ValidationError) as error:
            raise InputError(f"{folder} is not a readable dataset ({type(error).__name__}: {error})") from error
        if not self._names or len(self._names) != self.count:
            raise InputError(
                f"{folder}: the manifest promises {self.count} pictures, labels.json names {len(self._names)}"
            )

    def _picture(self, part: str, index: int, flags: int) -> U8:
        path = self.folder / part / self._names[index % self.count]
        picture = cv2.imread(str(path), flags)
        if picture is None:
            raise InputError(f"cannot read {path}; write the dataset again")
        return np.asarray(picture, np.uint8)

    def _indices(self, row: dict[str, Any]) -> dict[str, int]:
        """Class indices of one annotation."""
        found = {}
        for head in self.label_space.heads:
            word = row["attributes"][head.name]
            found[head.name] = UNKNOWN if word is None else NONE if word == ABSENT else head.classes.index(word)
        return found


class FrameFolder(Folder):
    """Frames on disk."""

    def __init__(self, folder: Path, stride: int = 4) -> None:
        super().__init__(folder)
        self.stride = stride
        if self.kind != "frames":
            raise InputError(f"{folder} holds {self.kind}; a segmenter learns from frames")

    def sample(self, epoch: int, index: int) -> FrameSample:
        """Read one frame; the epoch makes no difference."""
        targets = []
        for row in self._labels[index % self.count]:
            known = row["attributes"]
            attributes = {head.name: known[head.name] for head in self.label_space.heads}
            targets.append(
                LabelledTarget(Box(*row["bbox"]), attributes, self._indices(row), known["degrees"], known["truncated"])
            )
        image = self._picture("images", index, cv2.IMREAD_COLOR)
        return FrameSample(image, self._picture("masks", index, cv2.IMREAD_GRAYSCALE), tuple(targets))

    def batch(self, epoch: int, indices: Sequence[int]) -> FrameBatch:
        """Read frames with their training truth."""
        samples = [self.sample(epoch, index) for index in indices]
        truths = [mask_to_cells(sample, self.stride) for sample in samples]
        images = np.stack([sample.image_bgr for sample in samples])
        return FrameBatch(images, np.stack([c for c, _ in truths]), np.stack([w for _, w in truths]))


class CropFolder(Folder):
    """Crops on disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if self.kind != "crops":
            raise InputError(f"{folder} holds {self.kind}; a classifier learns from crops")

    def batch(self, epoch: int, indices: Sequence[int]) -> CropBatch:
        """Read crops with their training truth; the epoch makes no difference."""
        rows = [self._labels[index % self.count][0] for index in indices]
        labels = [self._indices(row) for row in rows]
        return CropBatch(
            np.stack([self._picture("images", index, cv2.IMREAD_COLOR) for index in indices]),
            np.array([row["attributes"]["target"] for row in rows], np.uint8),
            {head.name: np.array([label[head.name] for label in labels], np.int64) for head in self.label_space.heads},
            np.array([row["attributes"]["heading"] or (0.0, 0.0) for row in rows], np.float32),
        )


def open_dataset(folder: Path) -> FrameFolder | CropFolder:
    """Open a written dataset of either kind. Raises InputError."""
    return FrameFolder(folder) if Folder(folder).kind == "frames" else CropFolder(folder)

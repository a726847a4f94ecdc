"""Live frames -> a folder: pictures as BMP, masks as TIFF, labels as COCO JSON.

A training must not wait for its data: a 256x256 BMP is read in 0.02 ms, a PNG of half its bytes in 1.2, a seventh of
the time that the default segmenter learns a frame in. Masks are nearly all one value: run lengths (PackBits) make them
small and are read in a third of a PNG's time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import U8
from aerial_train.data.counts import Statistics
from aerial_train.data.labels import ANY_TARGET, names_of
from aerial_train.data.manifest import Manifest, write_manifest, write_whole
from aerial_train.data.splits import is_held_out
from aerial_train.scenes.frames import FrameScenes, LabelledTarget

LABELS_FILE: Final = "labels.json"
FOLDERS: Final = ("images", "masks")
PICTURE_SUFFIX, MASK_SUFFIX = ".bmp", ".tif"
PACK_BITS = (cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_PACKBITS)


@dataclass(frozen=True)
class WrittenFrame:
    """A frame whose pictures are on disk: its row of COCO's `images`, its annotations but for their numbers, and what
    statistics count."""

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    targets: list[tuple[dict[str, int], float]]
    mean_bgr: Sequence[float]


class FrameWriter:
    """Writes live frames into a folder; every so many-th is drawn from the scenes that are held out. What is written
    by then is a dataset once `finish` has been called."""

    chunk = 8  # frames that a process makes at once

    def __init__(
        self, scenes: FrameScenes, held_out: FrameScenes, folder: Path, manifest: Manifest, val_share: float
    ) -> None:
        self.scenes, self.held_out_scenes, self.val_share = scenes, held_out, val_share
        self.folder, self.manifest = folder, manifest
        self.frames: list[WrittenFrame] = []

    def make(self, indices: range) -> list[WrittenFrame]:
        """Render frames and write their pictures, in any process. Raises OSError."""
        return [self._write(index) for index in indices]

    def add(self, frames: list[WrittenFrame]) -> int:
        """Take over what `make` returned, in order; return how many frames there are by now."""
        self.frames += frames
        return self.count

    @property
    def count(self) -> int:
        """Frames that are written."""
        return len(self.frames)

    def finish(self) -> None:
        """Write labels and manifest. Where the disk is full, the last frames make room for them. Raises OSError."""
        self._remove_unfinished()
        while True:
            try:
                self._describe()
                return
            except OSError:
                if not self.frames:
                    raise
                del self.frames[-max(1, len(self.frames) // 100) :]
                self._remove_unfinished()

    def _write(self, index: int) -> WrittenFrame:
        held_out = is_held_out(index, self.val_share)
        sample = (self.held_out_scenes if held_out else self.scenes).sample(0, index)
        name, space = f"{index:06d}{PICTURE_SUFFIX}", self.scenes.label_space
        _write_picture(self.folder / "images" / name, sample.image_bgr)
        _write_picture((self.folder / "masks" / name).with_suffix(MASK_SUFFIX), sample.mask)
        height, width = sample.mask.shape
        return WrittenFrame(
            {
                "file_name": name,
                "width": width,
                "height": height,
                "source": sample.name,
                "split": "val" if held_out else "train",
            },
            [_annotation(target, space, sample.mask) for target in sample.targets],
            [(target.labels, target.size_px) for target in sample.targets],
            cv2.mean(sample.image_bgr)[:3],
        )

    def _remove_unfinished(self) -> None:
        """Remove pictures that an interruption left without labels."""
        kept = {Path(frame.image["file_name"]).stem for frame in self.frames}
        for folder in FOLDERS:
            for path in (self.folder / folder).iterdir():
                if path.stem not in kept:
                    path.unlink()

    def _describe(self) -> None:
        images, annotations = [frame.image for frame in self.frames], [frame.annotations for frame in self.frames]
        write_coco(self.folder / LABELS_FILE, images, annotations)
        statistics = Statistics(self.scenes.label_space)
        for frame in self.frames:
            statistics.add_frame(frame.targets, frame.mean_bgr)
        splits = Counter(image["split"] for image in images)
        changes = {"count": len(images), "splits": dict(splits), "statistics": statistics.result()}
        write_manifest(self.folder, msgspec.structs.replace(self.manifest, **changes))


def write_coco(path: Path, images: Sequence[dict[str, Any]], annotations: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Write COCO JSON; annotations: of each image. All get their numbers here, from 1 on, since COCO tools take 0 for
    "none". Raises OSError."""
    rows = [(number, row) for number, found in enumerate(annotations, 1) for row in found]
    coco = {
        "images": [{"id": number, **image} for number, image in enumerate(images, 1)],
        "categories": [{"id": 1, "name": ANY_TARGET}],
        "annotations": [
            {"id": k, "image_id": image, "category_id": 1, "iscrowd": 0, **row}
            for k, (image, row) in enumerate(rows, 1)
        ],
    }
    write_whole(path, lambda file: file.write(msgspec.json.encode(coco) + b"\n"))


def _write_picture(path: Path, picture: U8) -> None:
    """Raises OSError, as cv2.imwrite does not."""
    _, data = cv2.imencode(path.suffix, picture, PACK_BITS if path.suffix == MASK_SUFFIX else ())
    path.write_bytes(data.tobytes())


def _annotation(target: LabelledTarget, space: LabelSpace, mask: U8) -> dict[str, Any]:
    box = target.box
    corner = np.array((box.x, box.y))
    part = (mask[box.y : box.y + box.height, box.x : box.x + box.width] > 127).astype(np.uint8)
    return {
        "bbox": [box.x, box.y, box.width, box.height],
        "area": int(part.sum()),
        "segmentation": [(points + corner).reshape(-1).tolist() for points in outlines(part)],
        "attributes": {**names_of(target.labels, space), "degrees": target.degrees, "truncated": target.truncated},
    }


def outlines(mask: U8) -> list[npt.NDArray[np.float64]]:
    """Return polygons [K, 2] around the parts of a mask, uint8 [H, W] of 0 and 1, along the outer edges of its pixels.

    OpenCV's contours run through the middles of pixels and would make everything a pixel narrower: so they are taken
    of the pixels' corners and edges, at twice the size.
    """
    corners = np.pad(np.kron(mask, np.ones((2, 2), np.uint8)), ((0, 1), (0, 1)))
    corners = cv2.dilate(corners, np.ones((2, 2), np.uint8), anchor=(1, 1))
    found, _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [points.reshape(-1, 2) / 2 for points in found]

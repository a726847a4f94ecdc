"""Another detector beside ours on the same frame in the same run: `make bench PEER=file.onnx`.

The peer is any detector in an ONNX file with one float32 input [1, 3, H, W], of fixed or dynamic size, RGB 0..1, such
as a YOLO exported elsewhere. It is timed as one would fly it, at the frame's own size where its graph allows that, and
in slices of 640 px (or of the size that its graph fixes) with 20 % overlap: border, blob, our engine with our settings
and a plain NMS. Ours is timed from the frame to the message at a subscriber.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from end_to_end import end_to_end, interleaved, scene

from aerial_runtime.backends.ort import engine_errors, session_options
from aerial_runtime.contract import F32, U8

SLICE_PX, OVERLAP = 640, 0.2
GREY = (114,) * 3  # of the border, as YOLO was trained
MULTIPLE_PX = 32  # to which the sides of a dynamic input are rounded up
MIN_CONFIDENCE, MAX_IOU, MAX_BOXES = 0.25, 0.45, 300
ERRORS = engine_errors()


class Peer:
    """A detector in an ONNX file. size: (width, height) that its graph fixes, None where it is dynamic."""

    def __init__(self, path: Path) -> None:
        """Raise SystemExit for a file that is no such detector."""
        options = session_options(onnxruntime, None)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except ERRORS as error:
            raise SystemExit(f"cannot load {path} ({str(error).splitlines()[0]}); give a detector as ONNX") from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or inputs[0].type != "tensor(float)" or shape[1] not in (3, "channels"):
            got = [(each.name, each.type, each.shape) for each in inputs]
            raise SystemExit(f"{path} has the inputs {got}; export it with one float32 input [1, 3, H, W]")
        height, width = shape[2:]
        self._name = inputs[0].name
        self.size = (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def boxes(self, image_bgr: U8, size: tuple[int, int]) -> F32:
        """Return x, y, width, height, confidence, [N, 5], before any NMS; the picture is no larger than `size`."""
        below, right = size[1] - image_bgr.shape[0], size[0] - image_bgr.shape[1]
        picture = cv2.copyMakeBorder(image_bgr, 0, below, 0, right, cv2.BORDER_CONSTANT, value=GREY)
        blob = cv2.dnn.blobFromImage(picture, 1 / 255, swapRB=True)
        return read_boxes(self._session.run(None, {self._name: blob}))

    def at_native_size(self, image_bgr: U8) -> list[int]:
        """Detect in the whole frame; return the boxes that the NMS keeps."""
        return nms(self.boxes(image_bgr, self.size or native_size(image_bgr)))

    def in_slices(self, image_bgr: U8) -> list[int]:
        """Detect in overlapping slices, one after the other; one NMS over all."""
        width, height = self.size or (SLICE_PX, SLICE_PX)
        found = []
        for y in starts(image_bgr.shape[0], height):
            for x in starts(image_bgr.shape[1], width):
                boxes = self.boxes(image_bgr[y : y + height, x : x + width], (width, height))
                boxes[:, :2] += (x, y)
                found.append(boxes)
        return nms(np.concatenate(found))


def native_size(image_bgr: U8) -> tuple[int, int]:
    """Return the frame's (width, height), rounded up to what a detector's strides need."""
    height, width = (-(-side // MULTIPLE_PX) * MULTIPLE_PX for side in image_bgr.shape[:2])
    return width, height


def starts(length: int, side: int) -> list[int]:
    """Return where slices of `side` px start along an axis; the last ends with it."""
    step = round(side * (1 - OVERLAP))
    return [*range(0, max(0, length - side), step), max(0, length - side)]


def read_boxes(outputs: list[Any]) -> F32:
    """Return x, y, width, height, confidence, [N, 5], of a detector's outputs.

    Read are [1, 4 + classes, N] and [1, N, 4 + classes] with the boxes' centres and sizes, and [1, N, 6] with their
    corners, confidence and class. Of others nothing is read, which spares such a detector the NMS.
    """
    output = next((each[0] for each in outputs if each.ndim == 3 and min(each.shape[1:]) > 4), None)
    if output is None:
        return np.empty((0, 5), np.float32)
    rows = output.T if output.shape[0] < output.shape[1] else output
    ends = rows.shape[1] == 6
    confidences = rows[:, 4] if ends else rows[:, 4:].max(axis=1)
    sure = np.flatnonzero(confidences >= MIN_CONFIDENCE)
    found = np.empty((len(sure), 5), np.float32)
    found[:, 4] = confidences[sure]
    first, second = rows[sure, :2], rows[sure, 2:4]
    found[:, 2:4] = second - first if ends else second
    found[:, :2] = first if ends else first - second / 2
    return found


def nms(found: F32) -> list[int]:
    """Return the rows that stay when each box removes the weaker ones that it overlaps."""
    if len(found) > MAX_BOXES:
        found = found[np.argpartition(-found[:, 4], MAX_BOXES)[:MAX_BOXES]]
    return list(cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 4].tolist(), MIN_CONFIDENCE, MAX_IOU))


def ways_of(peer: Peer, image_bgr: U8) -> dict[str, Callable[[], object]]:
    """Return the ways in which this peer can look at a frame."""
    ways: dict[str, Callable[[], object]] = {}
    width, height = native_size(image_bgr)
    if peer.size in (None, (width, height)):
        ways[f"at native size, {width}x{height}"] = partial(peer.at_native_size, image_bgr)
    width, height = peer.size or (SLICE_PX, SLICE_PX)
    count = len(starts(image_bgr.shape[0], height)) * len(starts(image_bgr.shape[1], width))
    ways[f"in slices of {width}x{height} ({count})"] = partial(peer.in_slices, image_bgr)
    return ways


def main() -> None:
    """Print how many times faster we are, for each way in which the peer can look at the frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", type=Path, help="the other detector, ONNX")
    parser.add_argument("--rounds", type=int, default=20, help="frames for each way of looking (20)")
    parser.add_argument("--frame", default="1920x1080", metavar="WxH", help="size of the frame (1920x1080)")
    args = parser.parse_args()
    width, height = (int(side) for side in args.frame.split("x"))
    peer = Peer(args.peer)
    image_bgr, candidates = scene(10, width, height)
    print(f"{args.frame} from memory, {candidates} candidates, {args.rounds} rounds in turns, medians")
    with end_to_end() as flight:
        flight.warm_up(image_bgr)
        for name, look in ways_of(peer, image_bgr).items():
            try:
                times = interleaved(look, partial(flight.whole, image_bgr), args.rounds)
            except ERRORS as error:
                print(f"  {args.peer.name} {name}: cannot ({str(error).splitlines()[0]})")
                continue
            print(
                f"  {args.peer.name} {name}: {times.one:.1f} ms; ours, end to end: {times.other:.1f} ms; "
                f"we are {times.ratio:.3g} times faster"
            )


if __name__ == "__main__":
    main()

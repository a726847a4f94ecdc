"""Speed of the whole pipeline beside the bare model calls, shipped models, 1920x1080 from memory: `make bench`.

Every round runs one frame whole (segment, crop, classify, encode, publish) and then both models alone on the same
inputs; the two alternate, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

import numpy as np
import numpy.typing as npt

from aerial_runtime.backends import open_backend
from aerial_runtime.bundle import Bundle
from aerial_runtime.card import load_label_space
from aerial_runtime.config import CLASSIFIER_FILE, SEGMENTER_FILE, SHIPPED_MODELS
from aerial_runtime.contract import Frame
from aerial_runtime.crop import cut_crop
from aerial_runtime.health import HealthMonitor
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import Pipeline
from aerial_runtime.publish import Publisher
from aerial_runtime.segment import Segmenter
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.frames import FrameRecipe, FrameScenes

MAX_RATIO, MIN_RATE = 1.15, 20.0  # end to end over the bare calls; frames a second


def main() -> None:
    """Print medians and ratios for frames with few, ten and many candidates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="frames of each kind (60)")
    parser.add_argument("--threads", type=int, help="CPU threads of the models (all cores)")
    args = parser.parse_args()
    sent = threading.Event()
    with (
        Bundle(SHIPPED_MODELS).unpacked() as folder,
        open_backend(folder / SEGMENTER_FILE, "cpu", args.threads) as segmenter,
        open_backend(folder / CLASSIFIER_FILE, "cpu", args.threads) as classifier,
        Publisher(["tcp://127.0.0.1:*"]) as publisher,
        Outlet("bench", {}, publisher, None, HealthMonitor("bench"), on_message=[lambda *_: sent.set()]) as outlet,
    ):
        pipeline = Pipeline(segmenter, classifier)
        find, margin, size = Segmenter(segmenter), classifier.card.crop_margin, classifier.card.crop_size
        assert size is not None
        print(
            f"1920x1080 from memory, {args.rounds} rounds, medians; wanted: ratio <= {MAX_RATIO}, >= {MIN_RATE:.0f}/s"
        )
        for count in (0, 10, 50):
            image = scene(count)
            candidates = find(image).candidates
            crops = np.empty((max(1, len(candidates)), size, size, 3), np.uint8)
            for crop, candidate in zip(crops, candidates, strict=False):
                cut_crop(image, candidate.box, margin, crop)
            whole_ms, bare_ms = [], []
            for index in range(args.rounds):
                now = time.monotonic_ns()
                frame = Frame(image, f"bench:{index}", index, time.time_ns(), now)
                sent.clear()
                outlet.put(frame, pipeline(frame), 0)
                sent.wait()
                whole_ms.append((time.monotonic_ns() - now) / 1e6)
                now = time.monotonic_ns()
                segmenter.infer(image[np.newaxis])
                if candidates:
                    classifier.infer(crops)
                bare_ms.append((time.monotonic_ns() - now) / 1e6)
            whole, bare = statistics.median(whole_ms), statistics.median(bare_ms)
            print(
                f"  {len(candidates):>3} candidates: whole {whole:6.1f} ms ({1000 / whole:5.1f} frames/s), "
                f"bare models {bare:6.1f} ms, ratio {whole / bare:.3f}"
            )


def scene(count: int) -> npt.NDArray[np.uint8]:
    """A procedural 1080p frame with up to `count` targets."""
    recipe = FrameRecipe(height=1080, width=1920, targets=(count, count), size_px=(30, 60), distractors=(0, 0))
    return FrameScenes(load_label_space("suas"), recipe, Backgrounds(None), seed=5).sample(0, 0).image_bgr


if __name__ == "__main__":
    main()

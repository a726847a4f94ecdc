"""Speed of the scene generator on one core: `make bench`, or `python tests/bench/bench_scenes.py --backgrounds DIR`."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import cv2

from aerial_runtime.card import load_label_space
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

ROUNDS = 5
# What is drawn, pictures a round, pictures a second that keep a small network fed (0: none promised).
CASES = (("crops r32 32x32", 1500, 1500), ("crops flight 64x64", 600, 0), ("frames flight 256x256", 100, 100),
         ("frames r256 256x256", 50, 0))  # fmt: skip


def main() -> None:
    """Print the median rate of each case; rounds of the cases alternate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backgrounds", type=Path, help="folder of photos; procedural terrain without")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    space, backgrounds = load_label_space("suas"), Backgrounds(args.backgrounds)
    backgrounds.preload()
    scenes = [
        CropScenes(space, CROP_RECIPES["r32"], backgrounds),
        CropScenes(space, CROP_RECIPES["flight"], backgrounds),
        FrameScenes(space, FRAME_RECIPES["flight"], backgrounds),
        FrameScenes(space, FRAME_RECIPES["r256"], backgrounds),
    ]
    rates: list[list[float]] = [[] for _ in scenes]
    for round_number in range(ROUNDS + 1):
        for number, (source, (_, count, _)) in enumerate(zip(scenes, CASES, strict=True)):
            start_ns = time.monotonic_ns()
            source.batch(round_number, range(count))
            if round_number:  # the first round traces the letters
                rates[number].append(count / (time.monotonic_ns() - start_ns) * 1e9)
    print(f"backgrounds: {'photos' if args.backgrounds else 'procedural terrain'}; one core, median of {ROUNDS} rounds")
    for (name, _, wanted), measured in zip(CASES, rates, strict=True):
        print(f"  {name:<24} {statistics.median(measured):7.0f} a second" + (f"   (wanted {wanted})" if wanted else ""))


if __name__ == "__main__":
    main()

"""What following targets costs a frame: python tests/bench/bench_track.py. One thread; medians of CPU time in ms."""

from __future__ import annotations

import time
from contextlib import ExitStack

import cv2
import numpy as np

from aerial_runtime.camera import open_source
from aerial_runtime.card import load_label_space
from aerial_runtime.config import parse_config
from aerial_runtime.contract import Box, Frame, Target
from aerial_runtime.opening import open_pipeline
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.track import MAX_LIVE, Tracker

ROUNDS = 5


def main() -> None:
    """Print a line per case."""
    cv2.setNumThreads(1)
    with ExitStack() as stack:
        pipeline = open_pipeline(parse_config(["--camera", "demo"]), stack)
        demo = [(frame, pipeline(frame)) for frame in open_source("demo") if frame is not None]
    report("demo flight, 1920x1080, about 3 targets a frame", demo * ROUNDS)
    report(f"30 targets a frame, {MAX_LIVE} followed", crowded(demo))


def report(name: str, flight: list[tuple[Frame, PipelineResult]]) -> None:
    """Fly once and print median and 95th percentile."""
    tracker, times_ms = Tracker(load_label_space("suas")), []
    for frame, result in flight:
        start = time.thread_time()
        tracker(frame, result)
        times_ms.append((time.thread_time() - start) * 1e3)
    median, p95 = np.percentile(times_ms, (50, 95))
    print(f"{name}: median {median:.1f} ms, p95 {p95:.1f} ms")


def crowded(demo: list[tuple[Frame, PipelineResult]]) -> list[tuple[Frame, PipelineResult]]:
    """Return frames of one picture with 30 targets each, most of them new ones, so that 500 are followed in the end."""
    rng, (frame, _) = np.random.default_rng(1), demo[0]
    heads = load_label_space("suas").heads
    flight = []
    for _ in range(60):
        places = rng.integers(0, (1880, 1040), (30, 2)).tolist()
        targets = [Target(Box(x, y, 30, 30), 700, 0.9, {}) for x, y in places]
        rows = {head.name: rng.dirichlet(np.ones(len(head.classes)), 30).astype(np.float32) for head in heads}
        rows["heading"] = rng.normal(0, 0.5, (30, 2)).astype(np.float32)
        flight.append((frame, PipelineResult(targets, 30, 0, 0, 0, 0, probabilities=rows)))
    return flight


if __name__ == "__main__":
    main()

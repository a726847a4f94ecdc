"""What the speed benchmarks share: the pipeline with a socket and a real subscriber, beside its bare models.

Run as a program, `end_to_end.py ENDPOINT`, this file is that subscriber.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import zmq

from aerial_runtime.backends import Backend, open_backend
from aerial_runtime.backends.base import Array
from aerial_runtime.backends.ort import SAME_SIZE_RUNS
from aerial_runtime.bundle import Bundle
from aerial_runtime.card import load_label_space
from aerial_runtime.config import CLASSIFIER_FILE, SEGMENTER_FILE, SHIPPED_MODELS
from aerial_runtime.contract import U8, Frame
from aerial_runtime.health import HealthMonitor
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import DetectOptions, Pipeline
from aerial_runtime.publish import Publisher
from aerial_runtime.segment import Segmenter
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.frames import FrameRecipe, FrameScenes

WARM_UP_ROUNDS = 3


class EndToEnd:
    """A pipeline that publishes to a subscriber, and the same models alone."""

    def __init__(self, segmenter: Backend, classifier: Backend, publisher: Publisher, options: DetectOptions) -> None:
        self._segmenter, self._classifier = segmenter, classifier
        self._pipeline = Pipeline(segmenter, classifier, options=options)
        self._sent = threading.Event()
        models, monitor = self._pipeline.models, HealthMonitor("bench")
        self.outlet = Outlet("bench", models, publisher, None, monitor, on_message=[lambda *_: self._sent.set()])
        self._frames = 0

    def whole(self, image_bgr: U8) -> None:
        """Take a frame through everything: segment, crop, classify, build the message, encode, send.

        In flight the publishing of one frame overlaps with the next; here it is waited for, so that all of it counts.
        """
        frame = Frame(image_bgr, f"bench:{self._frames}", self._frames, time.time_ns(), time.monotonic_ns())
        self._frames += 1
        self._sent.clear()
        self.outlet.put(frame, self._pipeline(frame), 0)
        self._sent.wait()

    def warm_up(self, image_bgr: U8) -> None:
        """Fly until the engine has taken the frame's size for the camera's."""
        for _ in range(SAME_SIZE_RUNS):
            self.whole(image_bgr)

    def bare(self, image_bgr: U8) -> Callable[[], None]:
        """Return the bare calls on the same inputs: all that the pipeline asks both models for this frame."""
        asked: list[tuple[Backend, U8]] = []

        def kept(model: Backend, infer: Callable[[U8], dict[str, Array]], images: U8) -> dict[str, Array]:
            asked.append((model, images.copy()))
            return infer(images)

        with ExitStack() as stack:
            for model in (self._segmenter, self._classifier):
                stack.enter_context(mock.patch.object(model, "infer", partial(kept, model, model.infer)))
            self._pipeline(Frame(image_bgr, "", 0, 0, 0))

        def call() -> None:
            for model, images in asked:
                model.infer(images)

        return call


@contextmanager
def end_to_end(threads: int | None = None, classifier: Path | None = None, **options: float) -> Iterator[EndToEnd]:
    """Open the shipped models (or another classifier), a socket and its subscriber."""
    with ExitStack() as stack:
        folder = stack.enter_context(Bundle(SHIPPED_MODELS).unpacked())
        paths = (folder / SEGMENTER_FILE, classifier or folder / CLASSIFIER_FILE)
        models = [stack.enter_context(open_backend(path, "cpu", threads)) for path in paths]
        endpoint = f"ipc://{stack.enter_context(tempfile.TemporaryDirectory())}/socket"
        publisher = stack.enter_context(Publisher([endpoint]))
        listener = subprocess.Popen([sys.executable, __file__, endpoint])
        stack.callback(listener.wait)
        stack.callback(listener.terminate)
        flight = EndToEnd(models[0], models[1], publisher, DetectOptions(**options))  # type: ignore[arg-type]
        stack.enter_context(flight.outlet)
        yield flight


@dataclass(frozen=True)
class Times:
    """Milliseconds of two things that alternate. ratio: median of one / other over the rounds' pairs."""

    one: float
    other: float
    ratio: float


def interleaved(one: Callable[[], object], other: Callable[[], object], rounds: int) -> Times:
    """Time two things in turns, so that whatever else the machine does hits both; medians after a warm-up."""
    pairs = []
    for index in range(WARM_UP_ROUNDS + rounds):
        first, second = (timed_ms(one), timed_ms(other)) if index % 2 else (timed_ms(other), timed_ms(one))[::-1]
        if index >= WARM_UP_ROUNDS:
            pairs.append((first, second))
    return Times(
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def timed_ms(call: Callable[[], object]) -> float:
    """Call once; return the milliseconds it took."""
    start_ns = time.monotonic_ns()
    call()
    return (time.monotonic_ns() - start_ns) / 1e6


def scene(candidates: int, width: int = 1920, height: int = 1080) -> tuple[U8, int]:
    """Return a procedural frame in which the shipped segmenter sees about that many candidates, and how many."""
    recipe = FrameRecipe(
        height=height, width=width, targets=(candidates, candidates), size_px=(30, 60), distractors=(0, 0)
    )
    scenes = FrameScenes(load_label_space("suas"), recipe, Backgrounds(None), seed=5)
    with Bundle(SHIPPED_MODELS).unpacked() as folder, open_backend(folder / SEGMENTER_FILE, "cpu") as backend:
        find = Segmenter(backend)
        for index in range(100):
            image_bgr = scenes.sample(0, index).image_bgr
            found = len(find(image_bgr).candidates)
            if abs(found - candidates) <= candidates // 10:
                return image_bgr, found
    raise SystemExit(f"no scene with about {candidates} candidates")


def listen(endpoint: str) -> None:
    """Subscribe, and read until the end."""
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(endpoint)
    while True:
        socket.recv_multipart()


if __name__ == "__main__":
    listen(sys.argv[1])

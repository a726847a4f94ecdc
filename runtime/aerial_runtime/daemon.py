"""`aerial-runtime`: frames in, detections out, until the frames end or someone says stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import cv2

from aerial_runtime.backends import open_backend
from aerial_runtime.bundle import SUFFIX as BUNDLE_SUFFIX
from aerial_runtime.bundle import Bundle
from aerial_runtime.camera import Source, open_source
from aerial_runtime.config import CLASSIFIER_FILE, NO_SOCKET, SEGMENTER_FILE, Config, parse_config
from aerial_runtime.console import Summary, frame_line
from aerial_runtime.contract import Detections
from aerial_runtime.errors import InputError, ResourceError, run_command
from aerial_runtime.health import HealthMonitor
from aerial_runtime.jsonl import JsonlWriter
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import Pipeline, PipelineResult
from aerial_runtime.publish import Publisher
from aerial_runtime.say import say
from aerial_runtime.score import format_score, read_labels, score_flight


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-runtime", lambda: run(parse_config(argv)))


def run(config: Config) -> int:
    """Open everything, fly, close everything; return 0. Raises AerialError."""
    # The libraries' own lines about a bad image or video would stand beside our sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet; read by OpenCV at the first video
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        # The socket first: listeners find it while the models load, so they miss no frame.
        publisher = None if config.bind == NO_SOCKET else stack.enter_context(Publisher([config.bind]))
        monitor = HealthMonitor(config.source or config.camera)
        # Nothing is written before the first message, so an old file survives whatever is wrong below.
        writer = (
            stack.enter_context(JsonlWriter(config.output, config.overwrite, monitor=monitor, lossless=True))
            if config.output
            else None
        )
        pipeline = open_pipeline(config, stack)
        source = stack.enter_context(open_source(config.camera))
        pipeline.warm_up()
        monitor.loaded(pipeline.provider, pipeline.models)
        flight = Flight(source, config.quiet)
        outlet = Outlet(
            config.source or source.name,
            pipeline.models,
            publisher,
            writer,
            monitor,
            lossless=True,
            on_message=[flight.add],
            stop=stop,
        )
        fly(source, pipeline, outlet, stop, monitor, flight)
    if writer is not None and writer.unwritten:
        raise ResourceError(f"{config.output} lacks {writer.unwritten} messages; free the disk before the next flight")
    return 0


class Flight:
    """What the end of a flight tells of it."""

    def __init__(self, source: Source, quiet: bool) -> None:
        """quiet: no line per frame."""
        self.summary = Summary()
        self.flown: list[Detections] = []  # only of a flight with truth: a real one has no end to its messages
        self._has_truth = source.truth_path is not None
        self._quiet = quiet

    def add(self, message: Detections, result: PipelineResult) -> None:
        """Take one message in, and print its line."""
        self.summary.add(message, result)
        self._quiet = self._quiet or not say(frame_line(message))
        if self._has_truth:
            self.flown.append(message)


def fly(
    source: Source, pipeline: Pipeline, outlet: Outlet, stop: threading.Event, monitor: HealthMonitor, flight: Flight
) -> None:
    """Take every frame through the pipeline and publish what it held; end with the summary.

    Where the source comes with its truth, as the demo flight does, the score follows. Raises AerialError.
    """
    try:
        with outlet:
            monitor.state_is("running")
            for frame in source:
                monitor.turn()
                if stop.is_set():
                    break
                if frame is not None:
                    outlet.put(frame, pipeline(frame), source.dropped)
                monitor.count(dropped=source.dropped, unreadable=source.unreadable)
            monitor.state_is("stopping")
    finally:
        if flight.summary.frames or stop.is_set():
            say(flight.summary.text(source.unreadable, source.dropped, pipeline.provider))
    if stop.is_set():
        return
    if not flight.summary.frames:
        raise InputError(f"no frame of {source.name} could be read, {source.unreadable} were tried; check the files")
    if source.truth_path is not None:
        say(format_score(score_flight(read_labels(source.truth_path), flight.flown, pipeline.label_space)))


def open_pipeline(config: Config, stack: ExitStack) -> Pipeline:
    """Load both models, to be closed by `stack`, and join them; a bundle is checked first.

    Raises ModelError, CheckError or ResourceError.
    """
    is_bundled = config.models.suffix == BUNDLE_SUFFIX and None in (config.segmenter, config.classifier)
    bundle = Bundle(config.models) if is_bundled else None
    with bundle.unpacked() if bundle else nullcontext(config.models) as folder:
        segmenter, classifier = (
            stack.enter_context(open_backend(path, config.device, config.threads))
            for path in (config.segmenter or folder / SEGMENTER_FILE, config.classifier or folder / CLASSIFIER_FILE)
        )
    if bundle and config.segmenter is None and config.classifier is None:  # of other pairs it knows no answer
        bundle.check(segmenter.card, classifier.card, Pipeline(segmenter, classifier))
    return Pipeline(segmenter, classifier, conf=config.conf, max_candidates=config.max_candidates)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set, so that a flight ends after the frame it is at.

    A second signal ends the process at once, with 128 and its number: Python's own handlers wait for the main
    thread, which may hang in a camera's driver, so a thread of its own listens.
    """
    stop = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # Python asks for it
    threading.Thread(target=_hear_signals, args=(ours, stop), daemon=True).start()
    fd_before = signal.set_wakeup_fd(theirs.fileno())
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        theirs.close()  # ends the thread


def _hear_signals(wakeup: socket.socket, stop: threading.Event) -> None:
    """Read the number of each signal as a byte, nothing at the end; at the second end the process."""
    with wakeup:
        if wakeup.recv(1):
            stop.set()
        second = wakeup.recv(1)
        if second:
            os._exit(128 + second[0])

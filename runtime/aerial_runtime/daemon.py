"""`aerial-runtime`: frames in, detections out, until the frames end or someone says stop.

Three threads share the work: one reads the camera (capture.py), this one computes, one publishes (outlet.py).
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Final

import cv2

from aerial_runtime.backends import open_backend
from aerial_runtime.bundle import SUFFIX as BUNDLE_SUFFIX
from aerial_runtime.bundle import Bundle
from aerial_runtime.camera import CameraOptions, open_source
from aerial_runtime.camera.base import without_password
from aerial_runtime.capture import Capture
from aerial_runtime.card import card_to_json
from aerial_runtime.config import CLASSIFIER_FILE, NO_SOCKET, SEGMENTER_FILE, Config, parse_config, toml_of
from aerial_runtime.console import FlightLog
from aerial_runtime.crop_jpegs import CropBudget
from aerial_runtime.detector import Detector
from aerial_runtime.errors import InputError, ResourceError, UsageError, run_command
from aerial_runtime.health import HealthMonitor
from aerial_runtime.inject import Faults, parse_fault
from aerial_runtime.jsonl import JsonlWriter
from aerial_runtime.keys import load_curve_server
from aerial_runtime.log import setup_log
from aerial_runtime.machine import MachineWatch
from aerial_runtime.metrics import MetricsServer
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import DetectOptions, Pipeline
from aerial_runtime.publish import Publisher, is_within_machine
from aerial_runtime.record import Recorder, RecordOptions
from aerial_runtime.say import say, utf8
from aerial_runtime.score import format_score, read_labels, score_flight
from aerial_runtime.score_targets import format_targets, has_ids, score_targets
from aerial_runtime.systemd import Watchdog
from aerial_runtime.targets_file import TargetsFile
from aerial_runtime.track import Tracker
from aerial_runtime.watch import WatchOptions

WAIT_S: Final = 0.5  # for a frame; then the loop looks up
START_S: Final = 90.0  # for loading and warming up: the first use of an engine on a Jetson takes some of it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-runtime", lambda: _command(parse_config(argv)))


def _command(config: Config) -> int:
    if config.print_config:
        say(toml_of(config))
        return 0
    if config.dry_run:
        from aerial_runtime.preflight import dry_run  # which opens things as this module does

        return dry_run(config)
    return run(config)


def run(config: Config) -> int:
    """Open everything, fly, close everything; return 0. Raises AerialError."""
    quieten_opencv()
    setup_log("json" if config.log == "json" else "console")
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        watchdog = stack.enter_context(Watchdog())
        watchdog.extend_start(START_S)
        faults = stack.enter_context(Faults([parse_fault(text) for text in config.inject]))
        monitor = HealthMonitor(config.source or without_password(config.camera), utc_ns=faults.utc_ns)
        stack.enter_context(MachineWatch(monitor.machine, config.output or config.record))
        if config.metrics_port is not None:
            stack.enter_context(MetricsServer(config.metrics_port, monitor))
        # The sockets first: listeners find them while the models load, so they miss no frame.
        publisher = open_publisher(config, stack)
        pipeline = open_pipeline(config, stack)
        pipeline.warm_up()
        monitor.loaded(pipeline.provider, pipeline.models)
        open_camera = faults.source(lambda: open_source(config.camera, camera_options(config)))
        capture = stack.enter_context(
            Capture(open_camera, watch_options(config), monitor, without_password(config.camera), stop)
        )
        name = config.source or capture.name
        monitor.named(name)
        # Nothing is written before the first message, so an old file survives whatever is wrong up to here.
        lossless = not capture.live
        writer = open_writer(config, monitor, lossless, faults, stack)
        recorder = open_recorder(config, name, pipeline, monitor, lossless, faults, stack)
        log = FlightLog(config.quiet, keep=capture.truth_path is not None)
        targets_file = TargetsFile(config.targets, config.overwrite) if config.targets is not None else None
        tracker = Tracker(pipeline.label_space, pipeline.abstain) if config.track else None
        crops = CropBudget(config.crop_bytes_per_s, pipeline.crop_margin) if config.crops else None
        outlet = Outlet(
            name, pipeline.models, publisher, writer, monitor,
            recorder=recorder, tracker=tracker, crops=crops, lossless=lossless, on_message=[log], stop=stop,
        )  # fmt: skip
        try:
            with outlet:
                monitor.state_is("running")
                watchdog.ready()
                faults.start([end for end in (publisher.endpoints if publisher else []) if is_within_machine(end)])
                try:
                    fly(capture, Detector(pipeline, monitor, faults.inferring), outlet, monitor, watchdog, stop)
                finally:
                    monitor.state_is("stopping")
                    watchdog.stopping()
            if writer is not None:
                writer.close()
            if recorder is not None:
                recorder.close()
        finally:
            if log.frames or stop.is_set():
                say(log.summary(capture.unreadable, capture.dropped, pipeline.provider))
                if recorder is not None:
                    say(recorder.summary())
            if tracker is not None and targets_file is not None and tracker.frames:
                targets_file.write(tracker.flight(utf8(name)))
        _judge(config, capture, pipeline, log, writer, recorder, tracker, stop)
    return 0


def fly(
    capture: Capture,
    detect: Detector,
    outlet: Outlet,
    monitor: HealthMonitor,
    watchdog: Watchdog,
    stop: threading.Event,
) -> None:
    """Take every frame through the models and hand on what it held, until the end or `stop`. Raises AerialError."""
    while not stop.is_set() and not capture.ended:
        frame = capture.take(WAIT_S)
        result = None if frame is None else detect(frame)
        if frame is not None and result is not None:
            outlet.put(frame, result, capture.dropped)
        monitor.turn()
        watchdog.turn()


def _judge(
    config: Config,
    capture: Capture,
    pipeline: Pipeline,
    log: FlightLog,
    writer: JsonlWriter | None,
    recorder: Recorder | None,
    tracker: Tracker | None,
    stop: threading.Event,
) -> None:
    """Raise what was wrong with a flight that has ended; where it came with its truth, print the score."""
    if writer is not None and writer.unwritten:
        raise ResourceError(
            f"{writer.unwritten} lines could not be written to the output {config.output}; free the disk, "
            "what is written is whole"
        )
    lost = 0 if recorder is None else recorder.unrecorded - recorder.beyond_limit  # the limit was asked for
    if lost:
        raise ResourceError(
            f"{lost} frames and other messages are not in the recording {config.record}; free the disk, give "
            "--record-fps or jpeg for --record-frames, what is recorded is whole"
        )
    if stop.is_set():
        return
    if not log.frames:
        raise InputError(f"no frame of {capture.name} could be read, {capture.unreadable} were tried; check the files")
    if capture.truth_path is not None:
        labels = read_labels(capture.truth_path)
        say(format_score(score_flight(labels, log.flown, pipeline.label_space)))
        if tracker is not None and has_ids(labels, log.flown):
            say(
                format_targets(
                    score_targets(labels, log.flown, tracker.flight(utf8(capture.name)), pipeline.label_space)
                )
            )


def open_publisher(config: Config, stack: ExitStack) -> Publisher | None:
    """Bind the sockets, to be closed by `stack`. Raises UsageError, InputError (keys) or ResourceError."""
    if config.bind == (NO_SOCKET,):
        return None
    if config.allowed_clients is not None and config.server_key is None:
        raise UsageError("--allowed-clients needs --server-key, server.key_secret of aerial-keygen")
    curve = load_curve_server(config.server_key, config.allowed_clients) if config.server_key else None
    return stack.enter_context(Publisher(config.bind, curve=curve, insecure=config.insecure))


def open_writer(
    config: Config, monitor: HealthMonitor, lossless: bool, faults: Faults, stack: ExitStack
) -> JsonlWriter | None:
    """Open --output, to be closed by `stack`. Raises UsageError or ResourceError."""
    if config.output is None:
        return None
    writer = JsonlWriter(config.output, config.overwrite, monitor=monitor, lossless=lossless, writing=faults.writing)
    return stack.enter_context(writer)


def open_recorder(
    config: Config,
    source: str,
    pipeline: Pipeline,
    monitor: HealthMonitor,
    lossless: bool,
    faults: Faults,
    stack: ExitStack,
) -> Recorder | None:
    """Open --record, to be closed by `stack`. Raises UsageError or ResourceError."""
    if config.record is None:
        return None
    options = RecordOptions(config.record_frames, config.record_fps, config.record_limit * 1_000_000)
    about = {"source": source, "provider": pipeline.provider, **pipeline.models}
    cards = {role: card_to_json(card) for role, card in pipeline.cards.items()}
    recorder = Recorder(
        config.record, options, about, cards,
        monitor=monitor, overwrite=config.overwrite, lossless=lossless, writing=faults.writing,
    )  # fmt: skip
    monitor.listen(recorder.event)
    return stack.enter_context(recorder)


def camera_options(config: Config) -> CameraOptions:
    """Return what the camera is asked for."""
    return CameraOptions(
        width=config.width,
        height=config.height,
        fps=config.fps,
        pixel_format=config.pixel_format,
        exposure_ms=config.exposure_ms,
        pace=config.pace,
        timeout_s=config.camera_timeout_s,
    )


def watch_options(config: Config) -> WatchOptions:
    """Return when the camera counts as ill."""
    return WatchOptions(config.camera_timeout_s, config.frozen_s, config.black_s, config.wait_for_camera)


def detect_options(config: Config) -> DetectOptions:
    """Return what is asked of the detection. Raises UsageError."""
    return DetectOptions(
        conf=config.conf,
        mask_threshold=config.mask_threshold,
        abstain=config.abstain,
        max_candidates=config.max_candidates,
        min_size_px=config.min_size,
        max_size_px=config.max_size,
        tile=config.tile,
        overlap_px=config.tile_overlap,
    )


def open_pipeline(config: Config, stack: ExitStack) -> Pipeline:
    """Load both models, to be closed by `stack`, and join them; a bundle is checked first.

    Raises ModelError, CheckError, UsageError or ResourceError.
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
    return Pipeline(segmenter, classifier, options=detect_options(config))


def quieten_opencv() -> None:
    """Silence OpenCV: its own lines about a bad image or video would stand beside our sentence."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet; read by OpenCV at the first video


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

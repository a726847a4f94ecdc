"""`aerial-runtime`: frames in, detections out, until the frames end or someone says stop.

Three threads share the work: one reads the camera (capture.py), this one computes, one publishes (outlet.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import cv2

from aerial_runtime.camera import open_source, source_name
from aerial_runtime.capture import Capture
from aerial_runtime.config import Config, parse_config, toml_of
from aerial_runtime.console import FlightLog
from aerial_runtime.crop_jpegs import CropBudget
from aerial_runtime.detector import Detector
from aerial_runtime.errors import InputError, ResourceError, run_command
from aerial_runtime.health import HealthMonitor
from aerial_runtime.inject import Faults, parse_fault
from aerial_runtime.jsonl import JsonlWriter
from aerial_runtime.label_file import read_labels
from aerial_runtime.log import setup_log
from aerial_runtime.machine import MachineWatch
from aerial_runtime.metrics import MetricsServer
from aerial_runtime.opening import (
    camera_options,
    open_pipeline,
    open_publisher,
    open_recorder,
    open_writer,
    watch_options,
)
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import Pipeline
from aerial_runtime.publish import is_within_machine
from aerial_runtime.record import Recorder
from aerial_runtime.say import say, utf8
from aerial_runtime.score import format_score, score_flight
from aerial_runtime.score_targets import format_targets, has_ids, score_targets
from aerial_runtime.signals import stop_on_signals
from aerial_runtime.systemd import Watchdog
from aerial_runtime.targets_file import TargetsFile
from aerial_runtime.track import Tracker

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
        monitor = HealthMonitor(config.source or source_name(config.camera), utc_ns=faults.utc_ns)
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
            Capture(open_camera, watch_options(config), monitor, source_name(config.camera), stop)
        )
        name = config.source or capture.name
        monitor.named(name)
        # Nothing is written before the first message, so an old file survives whatever is wrong up to here.
        lossless = not capture.live
        writer = open_writer(config, monitor, lossless, faults, stack)
        recorder = open_recorder(config, name, pipeline, monitor, lossless, faults, stack)
        log = FlightLog(config.quiet, capture.truth_path is not None, lossless, stop)
        stack.callback(log.close)
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
                summary = log.summary(capture.unreadable, capture.dropped, pipeline.provider)
                log.close(summary, *([] if recorder is None else [recorder.summary()]))
            # A flight that was stopped before its first frame has seen nothing: the list of the last one would mislead.
            if tracker is not None and targets_file is not None and (tracker.frames or stop.is_set()):
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


def quieten_opencv() -> None:
    """Silence OpenCV: its own lines about a bad image or video would stand beside our sentence."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet; read by OpenCV at the first video

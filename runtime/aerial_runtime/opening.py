"""What a configuration names, opened: sockets, models, camera, files. The daemon and the preflight share it."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext

from aerial_runtime.backends import open_backend
from aerial_runtime.bundle import SUFFIX as BUNDLE_SUFFIX
from aerial_runtime.bundle import Bundle
from aerial_runtime.camera import CameraOptions
from aerial_runtime.card import card_to_json
from aerial_runtime.config import CLASSIFIER_FILE, NO_SOCKET, SEGMENTER_FILE, Config
from aerial_runtime.errors import UsageError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.inject import Faults
from aerial_runtime.jsonl import JsonlWriter
from aerial_runtime.keys import load_curve_server
from aerial_runtime.pipeline import DetectOptions, Pipeline
from aerial_runtime.publish import Publisher
from aerial_runtime.record import Recorder, RecordOptions
from aerial_runtime.watch import WatchOptions


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

"""What is looked at before a flight. Each function makes one row of the table, or raises an AerialError."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

import aerial_runtime
from aerial_runtime.camera import Source, open_source
from aerial_runtime.capture import Capture
from aerial_runtime.config import Config
from aerial_runtime.contract import Frame
from aerial_runtime.daemon import WAIT_S
from aerial_runtime.health import COOL_C, HealthMonitor
from aerial_runtime.inject import Faults
from aerial_runtime.machine import MIB, read_machine
from aerial_runtime.metrics import MetricsServer
from aerial_runtime.opening import camera_options, open_pipeline, open_publisher, open_writer, watch_options
from aerial_runtime.outlet import detections_of
from aerial_runtime.output_file import RECORDING, OutputFile
from aerial_runtime.pipeline import Pipeline, PipelineResult
from aerial_runtime.publish import is_within_machine
from aerial_runtime.say import utf8
from aerial_runtime.targets_file import TargetsFile

MAX_FRAME_MS: Final = 1000.0  # a target is in the picture for some seconds
MAX_FRAMES = 10  # through the models
RATE_SHARE = 0.9  # of --fps
MIN_DISK_MINUTES: Final = 60.0
BLOCK_BYTES = 512  # of st_blocks, whatever the file system's
CLOCK_SLACK_S = 60.0
CLOCK_FILE = Path("/var/lib/systemd/timesync/clock")  # touched by systemd whenever the time was known
GPU_FILES = (Path("/dev/nvidia0"), Path("/dev/nvhost-gpu"))
BLACK_FRAME = Frame(np.zeros((1080, 1920, 3), np.uint8), "black", 0, 0, 0)


@dataclass(frozen=True)
class Check:
    """One row. limit: what `measured` must be; empty where there is none. remedy: what to do; empty for a go."""

    what: str
    measured: str
    limit: str
    go: bool
    remedy: str


def judged(what: str, measured: str, limit: str, problem: str | None) -> Check:
    """Return a row: a no-go where there is a problem, which says what to do."""
    return Check(what, utf8(measured), limit, problem is None, utf8(problem or ""))  # both may name files


@dataclass
class Seen:
    """What one check leaves to the next: the last frame, the camera's rate (None: files), the models' answer."""

    frame: Frame = BLACK_FRAME
    rate: float | None = None
    frame_ms: float = 0.0
    result: PipelineResult | None = None
    models: dict[str, str] | None = None


class Notes(HealthMonitor):
    """Keeps the reasons that come up, and logs none: they stand in the table."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__("preflight")
        self.reasons: dict[str, str] = {}

    def reason(self, code: str, text: str | None) -> None:
        """Keep a reason; that it goes away again does not make it good."""
        if text is not None:
            self.reasons[code] = text


def check_camera(config: Config, seconds: float, seen: Seen) -> Check:
    """Take frames for so many seconds: size, rate, and what is wrong with the pictures."""
    watch = watch_options(config)
    shorter = {name: min(getattr(watch, name), seconds / 2) for name in ("frozen_s", "black_s")}
    notes = Notes()
    frames: list[tuple[int, int]] = []  # index and time of capture
    opening_ns = time.monotonic_ns()

    def open_camera() -> Source:
        return open_source(config.camera, camera_options(config))

    with Capture(open_camera, replace(watch, **shorter, wait_for_camera=False), notes) as capture:
        opened_ns = time.monotonic_ns()
        while not capture.ended and time.monotonic_ns() - opened_ns < seconds * 1e9:
            frame = capture.take(WAIT_S)
            if frame is not None:
                seen.frame = frame
                frames.append((frame.index, frame.captured_mono_ns))
        live, unreadable = capture.live, capture.unreadable
        is_watched = not live and not capture.ended  # a folder, which may be all right
    if not frames:
        remedy = "let the camera put a picture there meanwhile" if is_watched else "check --camera"
        sentence = "; ".join(notes.reasons.values()) or f"no frame came in {seconds:g} s; {remedy}"
        return judged("camera", f"no frame, {unreadable} unreadable", _camera_limit(config), sentence)
    rate = _rate(frames) if live else None
    seen.rate = rate
    height, width = seen.frame.image_bgr.shape[:2]
    pace = f"{rate:.1f} frames/s" if rate is not None else f"{len(frames)} frames read"
    opening = f"open in {(opened_ns - opening_ns) / 1e9:.1f} s"
    problem = "; ".join(notes.reasons.values()) or _camera_problem(config, (width, height), rate, unreadable)
    return judged(
        "camera", f"{width}x{height}, {pace}, {unreadable} unreadable, {opening}", _camera_limit(config), problem
    )


def _rate(frames: Sequence[tuple[int, int]]) -> float:
    """Return frames a second, those included that we were too late for."""
    (first, first_ns), (last, last_ns) = frames[0], frames[-1]
    return (last - first) / ((last_ns - first_ns) / 1e9) if last_ns > first_ns else 0.0


def _camera_limit(config: Config) -> str:
    limits = [f"{config.width}x{config.height}"] if config.width and config.height else []
    if config.fps is not None:
        limits.append(f">= {RATE_SHARE * config.fps:.1f} frames/s")
    return ", ".join(limits)


def _camera_problem(config: Config, size: tuple[int, int], rate: float | None, unreadable: int) -> str | None:
    if config.width and config.height and size != (config.width, config.height):
        return "the camera gives another size than --width and --height; give one that it has"
    if rate is not None and config.fps is not None and rate < RATE_SHARE * config.fps:
        return "the camera is slower than --fps; give it more light or a shorter --exposure-ms, or ask for less"
    if unreadable:
        return "some frames cannot be decoded; check the cable, or the files"
    return None


def check_models(config: Config, stack: ExitStack) -> tuple[Check, Pipeline]:
    """Load both models; of a bundle the checksums and the golden answer are checked by that."""
    start_ns = time.monotonic_ns()
    pipeline = open_pipeline(config, stack)
    pipeline.warm_up()
    seconds = (time.monotonic_ns() - start_ns) / 1e9
    hashes = ", ".join(f"{role} {sha256.removeprefix('sha256:')[:12]}" for role, sha256 in pipeline.models.items())
    is_bundle = config.models.is_file() and config.segmenter is None and config.classifier is None
    golden = "golden answer found" if is_bundle else "no golden answer, being no bundle"
    return judged("models", f"{hashes}; {golden}; ready in {seconds:.1f} s", "", None), pipeline


def check_device(config: Config, pipeline: Pipeline) -> Check:
    """Tell what the models run on; a GPU that is there but not used is a mistake unless it was asked for."""
    problem = None
    has_gpu = any(path.exists() for path in GPU_FILES)
    if config.device == "auto" and has_gpu and pipeline.provider == "CPUExecutionProvider":
        problem = (
            "this machine has a GPU, but the models run on the CPU; build the engine (docs/engines.md) or, in "
            "the checkout, pip install '.[gpu]', or give --device cpu to mean it"
        )
    return judged("device", pipeline.provider, config.device, problem)


def check_speed(pipeline: Pipeline, seconds: float, seen: Seen) -> Check:
    """Time the models on the camera's last frame, or on a black one."""
    end_s = time.monotonic() + seconds
    times_ms: list[float] = []
    while len(times_ms) < MAX_FRAMES and (not times_ms or time.monotonic() < end_s):
        seen.result = pipeline(seen.frame)
        times_ms.append(seen.result.total_ms)
    seen.frame_ms, seen.models = statistics.median(times_ms), pipeline.models
    able = 1000 / max(seen.frame_ms, 0.001)
    measured = f"{seen.frame_ms:.1f} ms a frame with {seen.result.candidates if seen.result else 0} candidates"
    if seen.rate is not None:
        keeps_up = "keeps up" if able >= seen.rate else f"drops {100 * (1 - able / seen.rate):.0f} %"
        measured += f"; {keeps_up} at the camera's {seen.rate:.1f} frames/s"
    is_slow = seen.frame_ms > MAX_FRAME_MS
    remedy = "too slow to see every target; take a smaller frame or a faster --device, and leave out --tile"
    return judged("speed", measured, f"<= {MAX_FRAME_MS:.0f} ms", remedy if is_slow else None)


def check_sockets(config: Config, stack: ExitStack) -> Check:
    """Bind every endpoint, as the flight will."""
    publisher = open_publisher(config, stack)
    if publisher is None:
        return judged("sockets", "none is asked for", "", None)
    is_bare = config.server_key is None
    kinds = [f"{end} {'plain' if is_bare or is_within_machine(end) else 'with keys'}" for end in publisher.endpoints]
    return judged("sockets", ", ".join(kinds), "", None)


def check_metrics(port: int) -> Check:
    """Bind the port of /metrics."""
    MetricsServer(port, HealthMonitor("preflight")).close()
    return judged("metrics", f"port {port} binds", "", None)


def check_output(config: Config, seen: Seen, stack: ExitStack) -> Check:
    """Tell how long the disk lasts at the rate and size of the messages just measured."""
    open_writer(config, HealthMonitor("preflight"), True, Faults([]), stack)
    free_mib = _free_mib(config.output)
    if free_mib is None or seen.result is None:
        return judged("output", f"{config.output} can be written", "", None)
    able = 1000 / max(seen.frame_ms, 0.001)
    rate = able if seen.rate is None else min(seen.rate, able)
    message = detections_of(seen.frame, seen.result, "preflight", seen.models or {}, 0, 0)
    minutes = free_mib * MIB / (len(msgspec.json.encode(message)) * max(rate, 0.1)) / 60
    problem = None if minutes >= MIN_DISK_MINUTES else f"make room on the disk of {config.output}, or name another"
    measured = f"{config.output} can be written, for {minutes:,.0f} minutes ({free_mib:,.0f} MiB free)"
    return judged("output", measured, f">= {MIN_DISK_MINUTES:.0f} minutes", problem)


def check_targets(config: Config, path: Path) -> Check:
    """Tell whether the list of all targets can be written at the end."""
    TargetsFile(path, config.overwrite)
    return judged("targets", f"{path} can be written", "", None)


def check_record(config: Config, path: Path) -> Check:
    """Tell whether the disk has room for the recording at its limit."""
    OutputFile(path, RECORDING, config.overwrite, monitor=HealthMonitor("preflight")).close()
    free_mib = _free_mib(path)
    if free_mib is None:
        return judged("record", f"{path} can be written", "", None)
    limit_mib = config.record_limit * 1e6 / MIB
    problem = None if free_mib >= limit_mib else f"make room on the disk of {path}, or give a lower --record-limit"
    return judged("record", f"{path} can be written, {free_mib:,.0f} MiB free", f">= {limit_mib:,.0f} MiB", problem)


def _free_mib(path: Path | None) -> float | None:
    """Return what the disk has room for, an old file included: the flight replaces it."""
    free_mib = read_machine(path).disk_free_mib
    if path is None or free_mib is None:
        return None
    with suppress(OSError):  # there is none
        free_mib += path.stat().st_blocks * BLOCK_BYTES / MIB
    return free_mib


def check_clock(config: Config, now_s: float) -> Check:
    """Compare UTC with the times of files that were written before: a clock without battery starts in the past."""
    times_s = [
        time_s for path in (Path(aerial_runtime.__file__), config.models, CLOCK_FILE) if (time_s := _written_s(path))
    ]
    newest_s = max(times_s, default=0.0)
    problem = None
    if now_s + CLOCK_SLACK_S < newest_s:
        problem = "the clock is behind files that are there already; wait for GPS or NTP, or set it with date -s"
    return judged("clock", _utc(now_s), f"after {_utc(newest_s)}, when files here were written", problem)


def _written_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def check_temperature() -> Check:
    """Tell the hottest place that the machine has a sensor at."""
    zones = read_machine().temperatures_c
    limit = f"< {COOL_C:.0f} °C"
    if not zones:
        return judged("temperature", "not told by this machine", limit, None)
    zone, celsius = max(zones.items(), key=lambda item: item[1])
    problem = None if celsius < COOL_C else "it will slow down in flight; let it cool, give it air"
    return judged("temperature", f"{celsius:.0f} °C ({zone})", limit, problem)

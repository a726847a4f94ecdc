# ruff: noqa: RUF009 (every default here is a dataclasses.field)
"""The one table of settings: flags, keys of the TOML file, `--help` and docs/configuration.md come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from aerial_runtime.record import AUTO, FRAMES_PATTERN, LIMIT_MB
from aerial_runtime.segment import MAX_CANDIDATES
from aerial_runtime.settings import REQUIRED, many, number, path, setting, shares, size, switch, text, whole
from aerial_runtime.tile import OVERLAP_PX

SHIPPED_MODELS = Path(str(files("aerial_runtime").joinpath("models", "shipped.aerial")))
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
NO_SOCKET = "none"
ALL_HEADS = "*"  # stands in `abstain` for every head that is not named

DEVICES = text("NAME", "auto, cpu, cuda:N or tensorrt:N", r"auto|cpu|(cuda|tensorrt):[0-9]{1,3}")
PIXEL_FORMATS = text("FOURCC", "four letters or digits, such as MJPG or YUYV", r"[A-Za-z0-9 ]{4}")
CAMERAS = text("URI", "a camera, a video, a folder, a picture, a glob, or demo")
ENDPOINTS = text("ENDPOINT", f"a ZeroMQ endpoint such as {DEFAULT_ENDPOINT}, or {NO_SOCKET}")
FAULTS = text("KIND@TIME", "a fault such as camera-freeze@10s or camera-loss@10s+5s")
RECORD_FRAMES = text("FRAMES", "auto, original, png, jpeg:1 to jpeg:100, or none", FRAMES_PATTERN)
LOGS = text("FORMAT", "console or json", "console|json")

CAMERA, MODELS, DETECTIONS, OUT, LIFE = "Camera", "Models", "Detections", "Out", "Life"


@dataclass(frozen=True)
class Config:
    """One flight. Each field is a flag and a key of the TOML file; the limits are the same for both."""

    camera: str = setting(
        REQUIRED, CAMERAS, "demo, a picture, a folder, a glob, watch:DIR, a video, N or /dev/videoN, csi://N, "
        "rtsp://..., udp://..., http://..., or a GStreamer pipeline", CAMERA, said="none, it is required",
    )  # fmt: skip
    source: str | None = setting(
        None, text("NAME", "a name"), "name of this camera in messages", CAMERA, said="from the camera"
    )
    width: int | None = setting(
        None, whole(1, 65535, "px"), "width to ask the camera for", CAMERA, said="the camera's choice"
    )
    height: int | None = setting(
        None, whole(1, 65535, "px"), "height to ask the camera for", CAMERA, said="the camera's choice"
    )
    fps: float | None = setting(
        None, number(0.01, 1000, "Hz"), "frames a second to ask the camera for", CAMERA, said="the camera's choice"
    )
    pixel_format: str | None = setting(
        None, PIXEL_FORMATS, "pixel format to ask the camera for", CAMERA, said="the camera's choice"
    )
    exposure_ms: float | None = setting(
        None, number(0.001, 10_000, "ms"), "exposure to ask the camera for", CAMERA, said="automatic"
    )
    pace: bool = setting(False, switch(), "play a video file in its own time, not as fast as possible", CAMERA)
    camera_timeout_s: float = setting(
        2.0, number(0.1, 3600, "s"), "time without a frame after which a live camera is lost and reopened", CAMERA
    )
    frozen_s: float = setting(
        5.0, number(0, 3600, "s"), "time with the same picture after which it is reopened; 0: not judged", CAMERA
    )
    black_s: float = setting(
        3.0, number(0, 3600, "s"), "time with black pictures after which it is called black; 0: not judged", CAMERA
    )
    wait_for_camera: bool = setting(False, switch(), "wait for a camera that is not there at the start", CAMERA)

    models: Path = setting(
        SHIPPED_MODELS, path("FILE.aerial", "the path of a bundle or a folder"),
        "bundle of both models, or a folder with segmenter.onnx and classifier.onnx", MODELS, said="the shipped bundle",
    )  # fmt: skip
    segmenter: Path | None = setting(None, path(), "segmenter model", MODELS, said="the one in --models")
    classifier: Path | None = setting(None, path(), "classifier model", MODELS, said="the one in --models")
    device: str = setting(
        "auto", DEVICES, "auto, cpu, cuda:N or tensorrt:N; a named device never falls back", MODELS, said="auto"
    )
    threads: int | None = setting(None, whole(1, 1024), "CPU threads for the models, at most", MODELS, said="all cores")

    conf: float | None = setting(
        None, number(0, 1), "confidence from which a candidate is a target", DETECTIONS, said="the model's"
    )
    mask_threshold: float | None = setting(
        None, number(0, 1), "probability from which a cell of the mask is target", DETECTIONS, said="the model's"
    )
    abstain: Mapping[str, float] = setting(
        {}, shares(ALL_HEADS), "confidence under which a label is withheld, of one head or of all",
        DETECTIONS, said="the model's",
    )  # fmt: skip
    max_candidates: int = setting(
        MAX_CANDIDATES, whole(1, 10_000), "candidates classified per frame, at most", DETECTIONS
    )
    min_size: int = setting(0, whole(0, 100_000, "px"), "longer side of the smallest target to report", DETECTIONS)
    max_size: int | None = setting(
        None, whole(1, 100_000, "px"), "longer side of the largest target to report", DETECTIONS, said="no limit"
    )
    tile: tuple[int, int] | None = setting(
        None, size(), "segment in tiles of this size, for frames that do not fit memory", DETECTIONS,
        said="whole frames",
    )  # fmt: skip
    tile_overlap: int = setting(
        OVERLAP_PX, whole(0, 10_000, "px"), "overlap of tiles: at least what the network sees around a cell", DETECTIONS
    )
    track: bool = setting(
        True, switch(), "follow targets over the frames: track ids, topic targets; --no-track turns it off", DETECTIONS,
        said="on",
    )  # fmt: skip

    bind: tuple[str, ...] = setting(
        (DEFAULT_ENDPOINT,), many(ENDPOINTS), f"ZeroMQ endpoint to publish on, or {NO_SOCKET}; may be repeated", OUT,
        said=DEFAULT_ENDPOINT,
    )  # fmt: skip
    insecure: bool = setting(
        False, switch(), "allow a socket without keys beyond this machine: anybody may listen", OUT
    )
    server_key: Path | None = setting(
        None, path(), "secret key of this server, made by aerial-keygen", OUT, said="no keys"
    )
    allowed_clients: Path | None = setting(
        None, path("DIR", "the path of a folder"), "folder with the public keys of who may listen", OUT, said="no keys"
    )
    output: Path | None = setting(
        None, path(), "also write the messages to this file, one JSON object a line", OUT, said="no file"
    )
    targets: Path | None = setting(
        None, path("FILE.json"), "at the end, write all targets of the flight to this file", OUT, said="no file"
    )
    record: Path | None = setting(
        None, path("FILE.mcap"), "also record the flight to this file: frames, detections, targets, health, events, "
        "cards", OUT, said="no file",
    )  # fmt: skip
    record_frames: str = setting(
        AUTO, RECORD_FRAMES, "pictures to record: auto (the camera's own bytes, or JPEG), original (its own bytes, or "
        "PNG), png, jpeg:QUALITY or none", OUT, said=AUTO,
    )  # fmt: skip
    record_fps: float | None = setting(
        None, number(0.01, 1000, "Hz"), "pictures a second to record, at most; what is told of each frame is always",
        OUT, said="every frame; with auto 10 of a live camera without JPEGs",
    )  # fmt: skip
    record_limit: int = setting(
        LIMIT_MB, whole(1, 1_000_000_000, "MB"), "size of the recording, at most; then the flight goes on without", OUT
    )
    overwrite: bool = setting(False, switch(), "replace an existing --output, --targets and --record", OUT)
    crops: bool = setting(False, switch(), "send a picture of each target, as JPEG", OUT)
    crop_bytes_per_s: int = setting(
        100_000, whole(1, 1_000_000_000, "bytes"), "bytes of pictures a second at most; sure targets go first", OUT
    )
    metrics_port: int | None = setting(
        None, whole(1, 65535), "port of /metrics and /healthz on 127.0.0.1", OUT, said="none"
    )

    log: str = setting("console", LOGS, "log lines for people (console) or programs (json)", LIFE, said="console")
    quiet: bool = setting(False, switch(), "no line per frame, only the summary", LIFE)
    inject: tuple[str, ...] = setting(
        (), many(FAULTS), "try a fault, in a rehearsal: KIND@SECONDS[+DURATION]; may be repeated", LIFE, said="none"
    )
    dry_run: bool = setting(False, switch(), "check everything, as aerial-preflight does, and end", LIFE, in_file=False)
    print_config: bool = setting(
        False, switch(), "print the configuration in effect as TOML, for --config, and end", LIFE, in_file=False
    )

"""The types that stages hand on, and the wire formats.

Boxes are in pixels of the full frame, half-open (x <= column < x + width), top-left origin.
Intervals come from `time.monotonic_ns()`; UTC is a label only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

DETECTIONS_SCHEMA: Final = "aerial.detections/1"
HEALTH_SCHEMA: Final = "aerial.health/1"
TARGETS_SCHEMA: Final = "aerial.targets/1"
FLIGHT_TARGETS_SCHEMA: Final = "aerial.flight-targets/1"
# What msgspec raises for bytes that are no such message: the latter two for text that is no UTF-8, and for depth.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
State = Literal["starting", "running", "degraded", "stopping"]
Event = Literal["new", "updated", "final"]
MAX_FRAME_MEGAPIXELS = 100  # of 1e6 pixels; a larger image is a mistake or an attack, not a camera frame


@dataclass(frozen=True)
class Frame:
    """One picture as the camera gave it.

    image_bgr: uint8 [H, W, 3], C-contiguous, sensor pixels (EXIF rotation ignored).
    name: file name, or `source:index`. index: counts every frame of the source from 0, lost ones too.
    encoded: the JPEG or PNG file that the picture was decoded from, where the source had one.
    """

    image_bgr: U8
    name: str
    index: int
    captured_utc_ns: int
    captured_mono_ns: int
    encoded: bytes | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the picture is not what every stage relies on."""
        image = self.image_bgr
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"a frame must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
        if not image.flags.c_contiguous:
            raise ValueError("a frame must be C-contiguous: call numpy.ascontiguousarray first")


class Box(msgspec.Struct, frozen=True):
    """A rectangle in pixels of the full frame, half-open, top-left origin."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area_px(self) -> int:
        """Area in square pixels."""
        return self.width * self.height

    def shared_px(self, other: Box) -> int:
        """Return the area in square pixels that another box covers as well."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0, width) * max(0, height)


class Attribute(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one head says of a target. `label` is null where the model abstains.

    degrees: only for the orientation: direction of letter-up, clockwise from image-up, 0 <= degrees < 360.
    """

    label: str | None
    confidence: float
    degrees: float | msgspec.UnsetType = msgspec.UNSET


class Target(msgspec.Struct, frozen=True):
    """One thing seen in one frame.

    area_px: mask cells times stride squared. confidence: of the classifier's `target` head, 0..1.
    attributes: head name -> attribute; which heads exist is the model card's business.
    track_id: the same for one thing in every frame; absent where it is not known, or nobody follows targets.
    """

    box: Box
    area_px: int
    confidence: float
    attributes: dict[str, Attribute]
    track_id: int | msgspec.UnsetType = msgspec.UNSET


class FrameInfo(msgspec.Struct, frozen=True):
    """What a message says of its frame."""

    name: str
    index: int
    width: int
    height: int
    captured_utc_ns: int
    captured_mono_ns: int


class TimingMs(msgspec.Struct, frozen=True):
    """Milliseconds: age = capture to send; segment, classify = the stages; total = segment to last attribute."""

    age: float
    segment: float
    classify: float
    total: float


class Detections(msgspec.Struct, frozen=True, rename={"schema_": "schema"}):
    """The message of one frame, sent even when nothing was seen.

    dropped: frames lost since the previous message. models: role -> "sha256:..." of the file loaded.
    """

    source: str
    sequence: int
    sent_utc_ns: int
    frame: FrameInfo
    timing_ms: TimingMs
    dropped: int
    models: dict[str, str]
    targets: list[Target]
    schema_: Literal["aerial.detections/1"] = DETECTIONS_SCHEMA


class HealthReason(msgspec.Struct, frozen=True):
    """Why the daemon is not well. code: for programs, such as "camera-lost"; text: for people."""

    code: str
    text: str
    since_utc_ns: int


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds over the last minute at most."""

    p50: float
    p95: float
    p99: float


class Health(msgspec.Struct, frozen=True, rename={"schema_": "schema"}):
    """How the daemon is, published once a second.

    frames: published since the start. frame_rate: frames a second over the last ten. dropped: lost because we were
    late. unreadable: came, but could not be decoded. failed: the models failed on them. unsent: messages that were
    not handed to the socket. unwritten: lines that the output file lacks. unrecorded: frames and other messages that
    the recording lacks. age_ms: capture to send; absent while no frame has come. stage_ms: stage -> median. What this
    machine does not tell is absent.
    """

    source: str
    sequence: int
    sent_utc_ns: int
    sent_mono_ns: int
    version: str
    state: State
    reasons: list[HealthReason]
    uptime_s: float
    frames: int
    frame_rate: float
    dropped: int
    unreadable: int
    failed: int
    unsent: int
    unwritten: int
    provider: str
    models: dict[str, str]
    stage_ms: dict[str, float]
    unrecorded: int = 0
    age_ms: Percentiles | msgspec.UnsetType = msgspec.UNSET
    temperatures_c: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    clocks_mhz: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    memory_mib: float | msgspec.UnsetType = msgspec.UNSET
    disk_free_mib: float | msgspec.UnsetType = msgspec.UNSET
    schema_: Literal["aerial.health/1"] = HEALTH_SCHEMA


class FusedAttribute(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all sightings of a target say together. `label` is null where that is not sure enough.

    confidence: as if the sightings were independent. agreement: share of them, 0..1, that say the same; of the
    orientation, the length of the mean direction. degrees: as in `Attribute`, in the last frame that showed the target.
    """

    label: str | None
    confidence: float
    agreement: float
    degrees: float | msgspec.UnsetType = msgspec.UNSET


class Sighting(msgspec.Struct, frozen=True):
    """Where and when a target was seen: the frame, and the box in it."""

    frame_name: str
    frame_index: int
    captured_utc_ns: int
    captured_mono_ns: int
    box: Box


class TrackedTarget(msgspec.Struct, frozen=True):
    """One thing on the ground over all frames that have shown it.

    sightings: frames. confidence: mean of the sightings' own, 0..1. largest: the sighting with the largest whole box.
    """

    track_id: int
    sightings: int
    confidence: float
    attributes: dict[str, FusedAttribute]
    first: Sighting
    last: Sighting
    largest: Sighting


class TargetEvent(msgspec.Struct, frozen=True):
    """What is new of one target: seen for the first time, more is known of it, or no more will come of it."""

    event: Event
    target: TrackedTarget


class TargetEvents(msgspec.Struct, frozen=True, rename={"schema_": "schema"}):
    """What is new of the targets of a flight; sent after the frame that brought it, where there is any."""

    source: str
    sequence: int
    sent_utc_ns: int
    events: list[TargetEvent]
    schema_: Literal["aerial.targets/1"] = TARGETS_SCHEMA


class FlightTargets(msgspec.Struct, frozen=True, rename={"schema_": "schema"}):
    """All targets of a flight, in the order in which they were found: a file.

    frames: looked at. left_out: targets that are not in the list, being too many; those that were seen least.
    """

    source: str
    frames: int
    left_out: int
    targets: list[TrackedTarget]
    schema_: Literal["aerial.flight-targets/1"] = FLIGHT_TARGETS_SCHEMA


def detections_json_schema() -> dict[str, Any]:
    """JSON Schema of `aerial.detections/1`, generated from the types above; the committed copy is tested against it."""
    return msgspec.json.schema(Detections)


def health_json_schema() -> dict[str, Any]:
    """JSON Schema of `aerial.health/1`."""
    return msgspec.json.schema(Health)


def targets_json_schema() -> dict[str, Any]:
    """JSON Schema of `aerial.targets/1`."""
    return msgspec.json.schema(TargetEvents)


def flight_targets_json_schema() -> dict[str, Any]:
    """JSON Schema of `aerial.flight-targets/1`."""
    return msgspec.json.schema(FlightTargets)

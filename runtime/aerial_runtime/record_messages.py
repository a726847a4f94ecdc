"""What a recording holds, topic by topic: in the well-known schemas of Foxglove where there is one.

Field names and numbers are those of docs.foxglove.dev (CompressedImage, ImageAnnotations, Log), messages are JSON.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from aerial_runtime.console import labels_of
from aerial_runtime.contract import (
    DETECTIONS_SCHEMA,
    HEALTH_SCHEMA,
    TARGETS_SCHEMA,
    Box,
    Detections,
    FrameInfo,
    Target,
)

# The topics.
CAMERA, ANNOTATIONS, DETECTIONS, HEALTH, EVENTS = "camera", "annotations", "detections", "health", "events"
TARGETS: Final = "targets"
JPEG_START: Final = b"\xff\xd8"
LINE_LOOP: Final = 2  # of PointsAnnotationType
INFO, WARNING = 2, 3  # of LogLevel
LINE_PX, FONT_PX = 2.0, 16.0
GREEN: Final = {"r": 0.1, "g": 1.0, "b": 0.3, "a": 1.0}
SHADE: Final = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.6}
CLEAR: Final = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.0}


class Time(msgspec.Struct, frozen=True):
    """UTC as Foxglove writes it."""

    sec: int
    nsec: int


class Picture(msgspec.Struct, frozen=True):
    """foxglove.CompressedImage, and in `frame` what a replay needs to give the same frame again.

    data: a JPEG or PNG file (base64 in JSON). format: "jpeg" or "png".
    """

    timestamp: Time
    frame_id: str
    data: bytes
    format: str
    frame: FrameInfo


def time_of(utc_ns: int) -> Time:
    """Return nanoseconds of UTC as seconds and the rest."""
    return Time(*divmod(utc_ns, 1_000_000_000))


def picture_of(frame: FrameInfo, source: str, data: bytes) -> Picture:
    """Return the message of a picture. data: a JPEG or PNG file."""
    kind = "jpeg" if data.startswith(JPEG_START) else "png"
    return Picture(time_of(frame.captured_utc_ns), source, data, kind, frame)


def annotations_of(message: Detections) -> dict[str, Any]:
    """Return foxglove.ImageAnnotations: a box around each target, and its labels above it."""
    time = time_of(message.frame.captured_utc_ns)
    return {
        "circles": [],
        "points": [_outline(target.box, time) for target in message.targets],
        "texts": [_label(target, time) for target in message.targets],
    }


def _outline(box: Box, time: Time) -> dict[str, Any]:
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    return {
        "timestamp": time,
        "type": LINE_LOOP,
        "points": [{"x": x, "y": y} for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))],
        "outline_color": GREEN,
        "outline_colors": [],
        "fill_color": CLEAR,
        "thickness": LINE_PX,
    }


def _label(target: Target, time: Time) -> dict[str, Any]:
    return {
        "timestamp": time,
        "position": {"x": target.box.x, "y": target.box.y},
        "text": f"{labels_of(target)} {target.confidence:.2f}",
        "font_size": FONT_PX,
        "text_color": GREEN,
        "background_color": SHADE,
    }


def event_of(code: str, text: str | None, utc_ns: int) -> dict[str, Any]:
    """Return foxglove.Log for a reason of `Health` that came (text) or went (None)."""
    level, line = (INFO, f"{code} is over") if text is None else (WARNING, f"{code}: {text}")
    return {"timestamp": time_of(utc_ns), "level": level, "message": line, "name": code, "file": "", "line": 0}


def _object(**properties: Any) -> dict[str, Any]:
    """Return the JSON Schema of an object. Foxglove reads neither references nor objects without fixed names."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _numbers(**names: int) -> dict[str, Any]:
    """Return the schema of an enumeration."""
    return {"oneOf": [{"title": name, "const": number} for name, number in names.items()]}


TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BYTES: Final = {"type": "string", "contentEncoding": "base64"}
TIME: Final = _object(sec=WHOLE, nsec=WHOLE)
POINT: Final = _object(x=NUMBER, y=NUMBER)
COLOR: Final = _object(r=NUMBER, g=NUMBER, b=NUMBER, a=NUMBER)
FRAME: Final = _object(name=TEXT, index=WHOLE, width=WHOLE, height=WHOLE, captured_utc_ns=WHOLE, captured_mono_ns=WHOLE)
CIRCLES: Final = _object(
    timestamp=TIME, position=POINT, diameter=NUMBER, thickness=NUMBER, fill_color=COLOR, outline_color=COLOR
)
POINTS: Final = _object(
    timestamp=TIME,
    type=_numbers(UNKNOWN=0, POINTS=1, LINE_LOOP=LINE_LOOP, LINE_STRIP=3, LINE_LIST=4),
    points=_array(POINT),
    outline_color=COLOR,
    outline_colors=_array(COLOR),
    fill_color=COLOR,
    thickness=NUMBER,
)
TEXTS: Final = _object(
    timestamp=TIME, position=POINT, text=TEXT, font_size=NUMBER, text_color=COLOR, background_color=COLOR
)
LOG: Final = _object(
    timestamp=TIME,
    level=_numbers(UNKNOWN=0, DEBUG=1, INFO=INFO, WARNING=WARNING, ERROR=4, FATAL=5),
    message=TEXT,
    name=TEXT,
    file=TEXT,
    line=WHOLE,
)
# topic -> name of the schema, and the schema. Of ours Foxglove shows the plain JSON; docs/*.schema.json say all.
TOPICS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    CAMERA: (
        "foxglove.CompressedImage",
        _object(timestamp=TIME, frame_id=TEXT, data=BYTES, format=TEXT, frame=FRAME),
    ),
    ANNOTATIONS: (
        "foxglove.ImageAnnotations",
        _object(circles=_array(CIRCLES), points=_array(POINTS), texts=_array(TEXTS)),
    ),
    DETECTIONS: (DETECTIONS_SCHEMA, _object()),
    HEALTH: (HEALTH_SCHEMA, _object()),
    EVENTS: ("foxglove.Log", LOG),
    TARGETS: (TARGETS_SCHEMA, _object()),
}

"""Wishes for a camera: values that no camera can have, and options of another kind of source."""

from __future__ import annotations

import pytest

from aerial_runtime.camera.options import FLAGS, CameraOptions, refuse_options
from aerial_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"width": 0, "height": 480}, "--width must be above 0 and at most 1000000, not 0"),
        ({"width": 640, "height": -1}, "--height must be above 0"),
        ({"width": 640}, "--width and --height belong together"),
        ({"height": 480}, "--width and --height belong together"),
        ({"width": 20_000, "height": 20_000}, "20000x20000 is more than 100 megapixels"),
        ({"fps": 0.0}, "--fps"),
        ({"fps": float("nan")}, "--fps must be above 0 and at most 1000000, not nan"),
        ({"fps": float("inf")}, "--fps"),
        ({"exposure_ms": -2}, "--exposure-ms"),
        ({"timeout_s": 0}, "--camera-timeout-s"),
        ({"pixel_format": "MJPEG"}, "'MJPEG' is none of V4L2; give four letters"),
        ({"pixel_format": "äöüß"}, "--pixel-format"),
    ],
)
def test_values_that_no_camera_can_have(options, reason):
    with pytest.raises(UsageError, match=reason):
        CameraOptions(**options)


def test_every_option_has_its_flag():
    assert FLAGS.keys() == CameraOptions.__dataclass_fields__.keys()


def test_only_what_was_asked_for_is_refused():
    refuse_options("a stone", CameraOptions(timeout_s=7))
    refuse_options("a stone", CameraOptions(fps=3, exposure_ms=2), "fps", "exposure_ms")
    with pytest.raises(UsageError, match=r"^a stone has no --exposure-ms; leave it out$"):
        refuse_options("a stone", CameraOptions(fps=3, exposure_ms=2), "fps")

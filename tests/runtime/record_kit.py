"""Recordings for tests: frames to fly, a recorder for them, and what then stands in the file."""

from __future__ import annotations

import base64
import json
import time

import cv2
import numpy as np

from aerial_runtime.contract import Attribute, Box, Frame, Target
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.record import Recorder, RecordOptions
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import CAMERA, DETECTIONS

TARGET = Target(Box(10, 20, 30, 15), 16, 0.9, {"kind": Attribute("plain", 0.8)})
RNG = np.random.default_rng(1)
IMAGE_BGR = RNG.integers(0, 256, (48, 64, 3), np.uint8)
JPEG = cv2.imencode(".jpg", IMAGE_BGR)[1].tobytes()
ABOUT = {"source": "cam0"}


def frame(index=0, encoded=None, image_bgr=IMAGE_BGR, mono_ns=None):
    mono_ns = 10**9 + index if mono_ns is None else mono_ns
    return Frame(image_bgr, f"f{index}", index, 1_700_000_000_000_000_005 + index, mono_ns, encoded)


def fly(recorder, monitor, frames, *targets):
    """Send frames through a real outlet."""
    result = PipelineResult(list(targets), len(targets), 0, 1.0, 0.5, 1.5)
    with Outlet("cam0", {}, None, None, monitor, recorder=recorder, lossless=True) as outlet:
        for one in frames:
            outlet.put(one, result, 0)


def read(path, *topics):
    return [json.loads(payload) for _, payload in Recording(path).messages(*topics)]


def pictures(path):
    return [base64.b64decode(picture["data"]) for picture in read(path, CAMERA)]


def count_on_disk(path):
    """Return how many frames stand in a file that is being written."""
    return len(read(path, DETECTIONS)) if path.exists() and path.stat().st_size else 0


def wait_until(is_so):
    for _ in range(500):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("not within five seconds")


def make_recorder(path, monitor, frames="original", fps=None, limit_bytes=10**9, **more):
    options = RecordOptions(frames, fps, limit_bytes)
    return Recorder(path, options, ABOUT, {"segmenter": '{"kind": 1}'}, monitor=monitor, **more)

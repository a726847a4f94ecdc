"""For the tests of the daemon: its command, short flights, and a camera that is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import msgspec

from aerial_runtime.camera import Source
from aerial_runtime.camera.base import frame_now
from aerial_runtime.contract import Detections
from aerial_runtime.daemon import main
from aerial_runtime.errors import CameraError

RED, PINK = (0, 0, 255), (200, 0, 255)
DAEMON = [sys.executable, "-c", "import sys; from aerial_runtime.daemon import main; sys.exit(main())"]


def fly(folder, models, *flags):
    return main(["--camera", str(folder), "--models", str(models), "--bind", "none", *map(str, flags)])


def read_jsonl(path):
    return [msgspec.json.decode(line, type=Detections) for line in path.read_bytes().splitlines()]


def start(flight, models, endpoint, *flags, daemon=DAEMON):
    """Start a daemon in its own process on frames that last some seconds."""
    command = [*daemon, "--camera", str(flight), "--models", str(models), "--bind", endpoint, *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class FakeCamera(Source):
    """A live camera that gives some frames and is gone; opened anew it gives more, then asks to stop if it may."""

    live = True
    opened = 0
    may_stop = threading.Event()

    def __init__(self, image_bgr, frames=3, last=1):
        super().__init__("fake0")
        FakeCamera.opened += 1
        self.is_last = FakeCamera.opened > last and FakeCamera.may_stop.is_set()
        self.image_bgr, self.frames = image_bgr, frames

    def __iter__(self):
        for index in range(self.frames):
            self.image_bgr[0, 0] = index  # a frozen picture would be a fault of its own
            yield frame_now(self.image_bgr.copy(), f"fake0:{index}", index)
            time.sleep(0.05)
        if self.is_last:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.2)
        raise CameraError("the cable is out")

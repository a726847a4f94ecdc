"""A long flight through the real daemon, with faults inside: `make soak`.

Small pictures are flown as a camera of hundreds of frames a second; three camera losses, two full disks, a slow
subscriber, an unreadable frame and a failing model fall into it, at moments that follow from the seed. Watched from
outside, by its messages, its file and /proc: memory must not grow by more than 5 MB per 100,000 frames after the
first tenth, descriptors and threads not at all, and every frame must be accounted for.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np

from aerial_runtime.camera.demo import DEMO_FOLDER, TRUTH_FILE
from aerial_runtime.client import Subscriber
from aerial_runtime.config import SHIPPED_MODELS
from aerial_runtime.contract import Detections, Health

MAX_SLOPE_MB, PER_FRAMES = 5.0, 100_000
SETTLED = 0.1  # share of the flight after which memory, descriptors and threads are compared
STOPS_S = 2.0
SIDE_PX = (192, 144)
# The daemon with its camera of files faster than in a rehearsal.
DAEMON = (
    "import sys; from aerial_runtime import inject; inject.CAMERA_FPS = float(sys.argv.pop(1));"
    "from aerial_runtime.daemon import main; sys.exit(main())"
)
WANTED = {"camera-lost": 3, "disk-full": 2, "backend-error": 1}  # reasons that must be told, how often


@dataclass
class Sample:
    """The process at one moment. frames: taken from the camera so far, lost ones too. calm: no reason stands."""

    frames: int
    memory_mb: float
    descriptors: int
    threads: int
    calm: bool


@dataclass
class Flight:
    """What was seen of one.

    before: `detections` sent before we heard the first. last_index: of the last. told_dropped: the sum of those that
    we heard, and of the file for those before. lines: sequence numbers in the file. told: reason -> times it came up.
    """

    samples: list[Sample] = field(default_factory=list)
    before: int = 0
    heard: int = 0
    told_dropped: int = 0
    gaps: int = 0
    last_index: int = -1
    last_sequence: int = -1
    health: Health | None = None
    told: Counter[str] = field(default_factory=Counter)
    lines: list[int] = field(default_factory=list)
    seconds: float = 0.0
    stop_s: float = 0.0
    exit_code: int = 0
    errors: str = ""

    def settled(self) -> list[Sample]:
        """Return the samples after the first tenth."""
        return [sample for sample in self.samples if sample.frames >= SETTLED * self.samples[-1].frames]

    def slope_mb(self) -> float:
        """Return the growth of memory per 100,000 frames: the slope of a straight line through the samples."""
        settled = self.settled()
        frames = [float(sample.frames) for sample in settled]
        return statistics.linear_regression(frames, [sample.memory_mb for sample in settled]).slope * PER_FRAMES

    def growth(self, what: str) -> int:
        """Return by how much the least of `what` has grown from the first to the last fifth of the calm samples.

        The least, for each decoded picture opens three descriptors for a moment.
        """
        values = [getattr(sample, what) for sample in self.settled() if sample.calm]
        fifth = max(1, len(values) // 5)
        return min(values[-fifth:]) - min(values[:fifth])

    def problems(self, max_slope_mb: float = MAX_SLOPE_MB) -> list[str]:
        """Return what is wrong; nothing where all is well."""
        assert self.health is not None
        health = self.health
        lost = health.dropped + health.unreadable + health.failed
        heard = self.before + self.heard + self.gaps
        written = len(self.lines) + health.unwritten
        late = self.last_index + 1 - health.frames - lost  # came too late for the outlet: counted as unsent
        checks = {
            f"memory grows by {self.slope_mb():.1f} MB per 100,000 frames": self.slope_mb() > max_slope_mb,
            f"descriptors grow by {self.growth('descriptors')}": self.growth("descriptors") > 0,
            f"threads grow by {self.growth('threads')}": self.growth("threads") > 0,
            f"{self.last_index + 1} frames, but {health.frames} published and {lost} lost": not 0
            <= late
            <= health.unsent,
            f"{heard} messages heard or missed of {health.frames}": heard != health.frames,
            f"messages tell of {self.told_dropped} dropped, health of {health.dropped}": self.gaps == 0
            and self.told_dropped != health.dropped,
            f"{written} lines written or not of {health.frames}": written != health.frames,
            "the lines of the file are not in order": self.lines != sorted(set(self.lines)),
            f"reasons told: {dict(self.told)}": any(self.told[code] != times for code, times in WANTED.items()),
            f"one corrupt frame, {health.unreadable} unreadable": health.unreadable != 1,
            f"it took {self.stop_s:.1f} s to stop": self.stop_s > STOPS_S,
            f"it ended with {self.exit_code}: {self.errors}": self.exit_code != (5 if health.unwritten else 0),
        }
        return [problem for problem, is_wrong in checks.items() if is_wrong]


def faults(seconds: float, rng: random.Random) -> list[str]:
    """Return the flags of the faults, spread over a flight of so many seconds; the ends of it stay calm."""
    full_s = max(2.0, min(5.0, 0.05 * seconds))  # `health` comes once a second, and must not miss it
    plan = [("camera-loss", 0.2, 1.0), ("camera-loss", 0.45, 1.0), ("camera-loss", 0.7, 1.0)]
    plan += [("disk-full", 0.3, full_s), ("disk-full", 0.6, full_s), ("slow-subscriber", 0.35, 0.2 * seconds)]
    plan += [("corrupt-frame", 0.25, 0.0), ("backend-error", 0.15, 0.0)]
    times = [(kind, seconds * (share + rng.uniform(0, 0.03)), for_s) for kind, share, for_s in plan]
    return [word for kind, at_s, for_s in times for word in ("--inject", f"{kind}@{at_s:.2f}s+{for_s:.2f}s")]


def write_pictures(folder: Path) -> Path:
    """Write small pictures with a target each, cut from the demo flight."""
    folder.mkdir()
    width, height = SIDE_PX
    for row in json.loads((DEMO_FOLDER / TRUTH_FILE).read_text())[:12]:
        image_bgr = cv2.imread(str(DEMO_FOLDER / row["image"]))
        target = row["targets"][0]
        x = int(np.clip(target["x"] - width // 2, 0, image_bgr.shape[1] - width))
        y = int(np.clip(target["y"] - height // 2, 0, image_bgr.shape[0] - height))
        cv2.imwrite(str(folder / f"{row['image']}.bmp"), image_bgr[y : y + height, x : x + width])
    return folder


def fly(count: int, fps: float, seed: int, folder: Path, models: Path = SHIPPED_MODELS, show: bool = False) -> Flight:
    """Fly until the camera has given `count` frames, then stop it. folder: for the pictures, the socket, the file."""
    endpoint, output = f"ipc://{folder}/socket", folder / "flight.jsonl"
    pictures = write_pictures(folder / "pictures")
    command = [sys.executable, "-c", DAEMON, str(fps), "--camera", str(pictures), "--models", str(models), "--quiet"]
    command += ["--bind", endpoint, "--output", str(output), "--frozen-s", "0", "--device", "cpu"]
    command += faults(count / fps, random.Random(seed))
    flight = Flight()
    with (folder / "stderr").open("w+") as errors, Subscriber(endpoint, ("detections", "health"), timeout_s=60) as link:
        start_s = time.monotonic()
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            _listen(link, daemon, flight, count, show)
            stop_s = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            _listen_to_the_end(link, flight)
            flight.exit_code = daemon.wait(timeout=30)
            flight.stop_s, flight.seconds = flight.stop_s - stop_s, stop_s - start_s
        finally:
            daemon.kill()
            daemon.wait()
            errors.seek(0)
            flight.errors = errors.read()[-1000:]
        flight.gaps = link.gaps
    lines = [msgspec.json.decode(line, type=Detections) for line in output.read_bytes().splitlines()]
    flight.lines = [line.sequence for line in lines]
    flight.told_dropped += sum(line.dropped for line in lines if line.sequence < flight.before)
    return flight


def _listen(link: Subscriber, daemon: subprocess.Popen[bytes], flight: Flight, count: int, show: bool) -> None:
    """Hear every message, and look at the process at each `health`, until the camera has given `count` frames."""
    reasons: set[tuple[str, int]] = set()
    for message in link:
        _note(message, flight)
        if isinstance(message, Health):
            new = {(reason.code, reason.since_utc_ns) for reason in message.reasons} - reasons
            flight.told.update(code for code, _ in new)
            reasons |= new
            flight.samples.append(_look(daemon.pid, flight.last_index + 1, not message.reasons))
            if show and len(flight.samples) % 10 == 0:
                sample = flight.samples[-1]
                print(
                    f"  {sample.frames} frames, {sample.memory_mb:.1f} MB, {sample.descriptors} descriptors, "
                    f"{sample.threads} threads {' '.join(reason.code for reason in message.reasons)}",
                    flush=True,
                )
        if flight.last_index + 1 >= count and not (flight.health and flight.health.reasons):
            return


def _listen_to_the_end(link: Subscriber, flight: Flight) -> None:
    """Hear what is left, to the last `health`, which is the one of a daemon that stops."""
    for message in link:
        _note(message, flight)
        if isinstance(message, Health) and message.state == "stopping" and message.frames == flight.last_sequence + 1:
            flight.stop_s = time.monotonic()
            return


def _note(message: Detections | Health, flight: Flight) -> None:
    if isinstance(message, Health):
        flight.health = message
        return
    if flight.heard == 0:
        flight.before = message.sequence
    flight.heard += 1
    flight.told_dropped += message.dropped
    flight.last_index, flight.last_sequence = message.frame.index, message.sequence


def _look(pid: int, frames: int, calm: bool) -> Sample:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    counts = (len(list((process / folder).iterdir())) for folder in ("fd", "task"))
    return Sample(frames, pages * 4096 / 1e6, *counts, calm)


def main() -> int:
    """Fly and judge; return 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="frames (%(default)s)")
    parser.add_argument("--fps", type=float, default=200.0, help="of the camera (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults' moments (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aerial-soak-") as folder:
        print(f"{args.count} frames at {args.fps:g} a second, seed {args.seed}", flush=True)
        flight = fly(args.count, args.fps, args.seed, Path(folder), show=True)
    health = flight.health
    assert health is not None
    first, last = flight.settled()[0], flight.samples[-1]
    print(
        f"{flight.last_index + 1} frames in {flight.seconds:.0f} s: {health.frames} published, "
        f"{health.dropped} dropped, {health.unreadable} unreadable, {health.failed} failed, {health.unsent} unsent, "
        f"{health.unwritten} unwritten\n"
        f"memory {first.memory_mb:.1f} MB after a tenth, {last.memory_mb:.1f} MB at the end, "
        f"slope {flight.slope_mb():+.2f} MB per 100,000 frames (limit {MAX_SLOPE_MB:g})\n"
        f"descriptors {first.descriptors} -> {last.descriptors}, threads {first.threads} -> {last.threads}; "
        f"stopped in {flight.stop_s:.2f} s, exit code {flight.exit_code}\n"
        f"reasons told: {', '.join(f'{code} {times}' for code, times in flight.told.items())}"
    )
    problems = flight.problems()
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

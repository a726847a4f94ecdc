"""Kill the real daemon while it records, at random moments: part of `make soak`.

Small pictures are flown as a camera. Each recording must read back without a gap, picture by picture, to within a
second of the kill: what was published a second before it stands in the file.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from soak import DAEMON, write_pictures

from aerial_runtime.camera import open_source
from aerial_runtime.client import Subscriber
from aerial_runtime.config import SHIPPED_MODELS
from aerial_runtime.contract import Detections
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import DETECTIONS

WITHIN_S = 1.0
LONGEST_S = 2.5  # from the first message to the kill
FPS = 30.0


@dataclass
class Kill:
    """What is known of one. due: sequence of the last message published WITHIN_S before the kill; -1: none."""

    due: int
    last: int
    path: Path

    def problems(self) -> list[str]:
        """Return what is wrong with the recording that is left; nothing where all is well."""
        if not self.path.exists():
            return [f"no file, but {self.due + 1} messages were due"] if self.due >= 0 else []
        payloads = [payload for _, payload in Recording(self.path).messages(DETECTIONS)]
        messages = [msgspec.json.decode(payload, type=Detections) for payload in payloads]
        sequences = [message.sequence for message in messages]
        problems = []
        if sequences != list(range(len(sequences))):
            problems.append("the messages have gaps")
        if len(sequences) <= self.due:
            problems.append(f"{len(sequences)} messages, {self.due + 1} were due of {self.last + 1}")
        if sequences:
            with open_source(f"replay:{self.path}") as replay:
                pictures = [frame.name for frame in replay if frame is not None]
            if pictures != [message.frame.name for message in messages]:
                problems.append(f"{len(pictures)} pictures of {len(sequences)} messages")
        return problems


def kill(folder: Path, after_s: float, models: Path) -> Kill:
    """Record into `folder`, and kill the daemon so many seconds after its first message."""
    endpoint, path = f"ipc://{folder}/socket", folder / "flight.mcap"
    pictures = folder / "pictures"
    command = [sys.executable, "-c", DAEMON, str(FPS), "--camera", str(write_pictures(pictures)), "--quiet"]
    command += [
        "--models",
        str(models),
        "--bind",
        endpoint,
        "--record",
        str(path),
        "--record-frames",
        "original",
        "--frozen-s",
        "0",
        "--device",
        "cpu",
    ]
    command += ["--inject", "camera-loss@999999s"]  # flown as a camera
    heard: list[tuple[float, int]] = []
    with Subscriber(endpoint, timeout_s=60) as link:
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for message in link:
                heard.append((time.monotonic(), message.sequence))
                if heard[-1][0] - heard[0][0] >= after_s:
                    break
            killed_s = time.monotonic()
        finally:
            daemon.kill()
            daemon.wait()
    due = max((sequence for at_s, sequence in heard if at_s <= killed_s - WITHIN_S), default=-1)
    return Kill(due, heard[-1][1], path)


def main() -> int:
    """Kill and judge; return 1 where a recording is wrong, or none could be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="kills (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of their moments (%(default)s)")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    wrong = due = 0
    for number in range(args.count):
        with tempfile.TemporaryDirectory(prefix="aerial-kill-") as folder:
            found = kill(Path(folder), rng.uniform(0, LONGEST_S), SHIPPED_MODELS)
            problems = found.problems()
        wrong += bool(problems)
        due += found.due >= 0
        for problem in problems:
            print(f"PROBLEM: kill {number}: {problem}", flush=True)
        if (number + 1) % 10 == 0:
            print(f"  {number + 1} kills, {wrong} recordings wrong", flush=True)
    print(
        f"{args.count} kills, {wrong} recordings that do not read back to within {WITHIN_S:g} s; "
        f"in {due} of them messages were due"
    )
    return int(wrong > 0 or not due)


if __name__ == "__main__":
    sys.exit(main())

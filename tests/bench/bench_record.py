"""What recording costs the flight: `python tests/bench/bench_record.py`; exit code 1 where a limit is missed.

The demo flight, 1080p, goes through models and outlet as fast as they take it, with and without a recorder in turn; of
each pair of rounds the throughput is compared. A camera that gives JPEGs is one whose bytes are stored as they are; of
another each picture is encoded first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from aerial_runtime.backends.ort import SAME_SIZE_RUNS
from aerial_runtime.camera.base import frame_now
from aerial_runtime.camera.demo import demo_source
from aerial_runtime.config import Config
from aerial_runtime.contract import Frame
from aerial_runtime.health import HealthMonitor
from aerial_runtime.opening import open_pipeline
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import Pipeline
from aerial_runtime.record import AUTO_FPS, Recorder, RecordOptions

EVERY, SOME = 0.12, 0.03  # share of the throughput that recording every frame, or five a second, may cost
# What is recorded, from a camera of which kind, and what it may cost; None: told, not judged, since it must be asked
# for and docs/recording.md says that it costs more.
CASES: tuple[tuple[str, str, float | None, bool, float | None], ...] = (
    ("every frame, a JPEG camera's own bytes", "auto", None, True, EVERY),
    ("5 frames/s, a JPEG camera's own bytes", "auto", 5.0, True, SOME),
    (f"{AUTO_FPS:g} frames/s, encoded as JPEG: the default", "auto", AUTO_FPS, False, EVERY),
    ("every frame, encoded as JPEG", "jpeg:90", None, False, None),
    ("5 frames/s, encoded as JPEG", "jpeg:90", 5.0, False, SOME),
    ("every frame, encoded as PNG", "original", None, False, None),
    ("5 frames/s, encoded as PNG", "original", 5.0, False, None),
)


def main() -> int:
    """Print what was measured beside what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="pairs of rounds for each case (%(default)s)")
    parser.add_argument("--frames", type=int, default=48, help="of a round (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to record (the system's folder of temporary files)")
    args = parser.parse_args()
    frames = [frame for frame in demo_source() if frame is not None]
    with ExitStack() as stack:
        pipeline = open_pipeline(Config(camera="demo"), stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder)))
        for _ in range(SAME_SIZE_RUNS + 1):
            pipeline(frames[0])
        ok = [measure(case, pipeline, frames, folder, args.rounds, args.frames) for case in CASES]
    return 0 if all(ok) else 1


def measure(
    case: tuple[str, str, float | None, bool, float | None],
    pipeline: Pipeline,
    frames: Sequence[Frame],
    folder: Path,
    rounds: int,
    count: int,
) -> bool:
    """Fly with and without a recorder in turn, print one line; return whether the limit is kept."""
    what, kind, fps, is_jpeg, limit = case
    options = RecordOptions(kind, fps)
    costs, rates, megabytes, lacking = [], [], 0.0, 0
    for number in range(rounds):
        pair = {}
        for is_recording in (False, True) if number % 2 else (True, False):
            monitor, path = HealthMonitor("bench"), folder / "flight.mcap"
            with ExitStack() as stack:
                recorder = None
                if is_recording:
                    recorder = Recorder(path, options, {}, {}, monitor=monitor, overwrite=True, lossless=True)
                    stack.enter_context(recorder)
                pair[is_recording] = fly(pipeline, monitor, recorder, frames, is_jpeg, count)
            if recorder is not None:
                megabytes, lacking = path.stat().st_size / 1e6, lacking + recorder.unrecorded
        costs.append(1 - pair[False] / pair[True])
        rates.append(count / pair[False])
    cost = statistics.median(costs)
    wanted = "" if limit is None else f"(wanted: at most {limit:.0%})  {'ok' if cost <= limit else 'MISSED'}"
    print(
        f"  {what:<40} {cost:6.1%} of {statistics.median(rates):.1f} frames/s, quartiles "
        f"{' '.join(f'{part:.1%}' for part in statistics.quantiles(costs, n=4)[::2])}, "
        f"{megabytes / count * 1000:.0f} kB a frame, {lacking} left out  {wanted}".rstrip(),
        flush=True,
    )
    return lacking == 0 and (limit is None or cost <= limit)


def fly(
    pipeline: Pipeline,
    monitor: HealthMonitor,
    recorder: Recorder | None,
    frames: Sequence[Frame],
    is_jpeg: bool,
    count: int,
) -> float:
    """Return the seconds of a round: until the last frame is published and, with a recorder, on the disk."""
    start_s = time.monotonic()
    with Outlet("bench", {}, None, None, monitor, recorder=recorder, lossless=True) as outlet:
        for index in range(count):
            source = frames[index % len(frames)]
            frame = frame_now(source.image_bgr, source.name, index, source.encoded if is_jpeg else None)
            outlet.put(frame, pipeline(frame), 0)
    if recorder is not None:
        recorder.close()
    return time.monotonic() - start_s


if __name__ == "__main__":
    sys.exit(main())

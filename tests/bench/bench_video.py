"""Speed of the daemon on a 1080p H.264 file, decoding included: `make bench`.

`aerial-runtime` flies over the file as a process of its own; the rate is that of the messages that a subscriber gets.
Beside it, in turns: decoding alone, and the bare model calls on one frame of the file.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import cv2
import msgspec
import numpy as np
import zmq
from end_to_end import end_to_end, scene, timed_ms

from aerial_runtime.contract import U8, Detections

WIDTH, HEIGHT, STEP_PX, RATE = 1920, 1080, 4, 24.0  # of the picture from frame to frame; frames a second wanted
WAIT_MS = 200
DAEMON = "from aerial_runtime.daemon import main; raise SystemExit(main())"  # aerial-runtime, of this interpreter


def main() -> None:
    """Print the median rate, and where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=150, help="length of the file (150)")
    parser.add_argument("--rounds", type=int, default=3, help="flights over it (3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flight.mp4"
        middle = write_video(file, args.frames)
        rates, decode_ms, bare_ms = [], [], []
        with end_to_end() as flight:
            flight.warm_up(middle)
            bare = flight.bare(middle)
            for _ in range(args.rounds):
                rates.append(fly(file, f"ipc://{folder}/socket"))
                decode_ms.append(decode(file))
                bare_ms += [timed_ms(bare) for _ in range(20)]
    rate, decoding, models = (statistics.median(values) for values in (rates, decode_ms, bare_ms))
    print(
        f"1080p H.264 file, {args.frames} frames, {args.rounds} flights, medians: {rate:.1f} frames/s = "
        f"{1000 / rate:.1f} ms (wanted {RATE:.0f}/s); alone: decoding {decoding:.1f} ms, bare models {models:.1f} ms, "
        f"ratio {1000 / rate / (decoding + models):.3f} of their sum"
    )


def write_video(file: Path, frames: int) -> U8:
    """Write a pan over one scene as H.264; return its middle frame."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("the H.264 file is made with the command ffmpeg; install it (apt install ffmpeg)")
    picture, _ = scene(20, WIDTH + STEP_PX * frames, HEIGHT + STEP_PX * frames // 2)
    size, pipe = f"{WIDTH}x{HEIGHT}", ["-f", "rawvideo", "-pix_fmt", "bgr24"]
    command = [ffmpeg, "-loglevel", "error", *pipe, "-s", size, "-r", "30", "-i", "-"]
    encoder = subprocess.Popen(
        [*command, "-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", str(file)], stdin=subprocess.PIPE
    )
    assert encoder.stdin is not None
    views = [picture[i * STEP_PX // 2 :, i * STEP_PX :][:HEIGHT, :WIDTH] for i in range(frames)]
    with suppress(BrokenPipeError), encoder.stdin as pixels:  # its exit code tells
        for view in views:
            pixels.write(np.ascontiguousarray(view).tobytes())
    if encoder.wait():
        raise SystemExit("ffmpeg could not encode H.264; install one with libx264")
    return np.ascontiguousarray(views[frames // 2])


def fly(file: Path, endpoint: str) -> float:
    """Fly the daemon over the file; return the frames a second from the first message to the last."""
    options = ["--camera", str(file), "--bind", endpoint, "--quiet"]
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"detections")
    socket.connect(endpoint)
    messages: list[Detections] = []
    with subprocess.Popen([sys.executable, "-c", DAEMON, *options], stdout=subprocess.DEVNULL) as daemon:
        while socket.poll(WAIT_MS) or daemon.poll() is None:
            if socket.poll(0):
                messages.append(msgspec.json.decode(socket.recv_multipart()[1], type=Detections))
    context.destroy(linger=0)
    if daemon.returncode or len(messages) < 2:
        raise SystemExit(f"the daemon ended with {daemon.returncode} after {len(messages)} messages")
    seconds = (messages[-1].sent_utc_ns - messages[0].sent_utc_ns) / 1e9
    return (messages[-1].frame.index - messages[0].frame.index) / seconds


def decode(file: Path) -> float:
    """Return the milliseconds a frame takes to decode, as the daemon decodes it."""
    capture, frames = cv2.VideoCapture(str(file)), 0
    start_ns = time.monotonic_ns()
    while capture.read()[0]:
        frames += 1
    capture.release()
    return (time.monotonic_ns() - start_ns) / 1e6 / frames


if __name__ == "__main__":
    main()

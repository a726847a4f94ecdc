"""Speed of the result link on this machine: `python tests/bench/bench_publish.py`; exit code 1 where a limit is missed.

Measures what publishing costs the thread that does it: with a listener that sleeps, and with none and ten listeners
in turn; and how long a message takes to arrive. Listeners are processes of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import zmq

from aerial_runtime.contract import Attribute, Box, Frame, Target
from aerial_runtime.health import HealthMonitor
from aerial_runtime.outlet import Outlet, detections_of
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.publish import DETECTIONS, Publisher

MAX_SEND_P99_MS, MAX_GROWTH_MB, MAX_TEN_RATIO, MAX_LATENCY_MS = 1.0, 40.0, 1.05, 1.0
FRAME_MS = 33.0  # what a frame costs beside: the cost of listeners is told as a share of it
TEN_LISTENERS = (  # they only receive: on the ground they have a computer of their own for the rest
    "import sys, zmq\n"
    "context, poller = zmq.Context(), zmq.Poller()\n"
    "for _ in range(10):\n"
    "    socket = context.socket(zmq.SUB)\n"
    "    socket.subscribe(b'')\n"
    "    socket.connect(sys.argv[1])\n"
    "    poller.register(socket, zmq.POLLIN)\n"
    "while True:\n"
    "    for socket, _ in poller.poll(): socket.recv_multipart()"
)
ECHO = (  # answers each message of kilobytes with the moment at which it came
    "import sys, time, zmq\n"
    "from aerial_runtime.client import Subscriber\n"
    "answer = zmq.Context().socket(zmq.PUSH)\n"
    "answer.connect(sys.argv[2])\n"
    "with Subscriber(sys.argv[1]) as subscriber:\n"
    "    for message in subscriber: answer.send(b'%d %d' % (message.sequence, time.monotonic_ns()))"
)


def main() -> int:
    """Print what was measured beside what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="to the listener that sleeps (20000)")
    parser.add_argument("--rounds", type=int, default=40, help="of 50 frames, with and without ten listeners (40)")
    args = parser.parse_args()
    ok = [sleeping_listener(args.messages), latency(), ten_listeners(args.rounds)]
    return 0 if all(ok) else 1


def judge(what: str, value: float, limit: float, unit: str) -> bool:
    """Print one line; return whether the limit is kept."""
    print(f"  {what:<58} {value:8.3f} {unit:<3} (wanted: under {limit:g})  {'ok' if value < limit else 'MISSED'}")
    return value < limit


def payload_of(sequence: int, targets: int = 4) -> bytes:
    """Return a message of about 1 kB with 4 targets."""
    attributes = {name: Attribute("white", 0.98) for name in ("shape", "letter")}
    target = Target(Box(100, 80, 31, 29), 610, 0.97, attributes)
    result = PipelineResult([target] * targets, targets, 0, segment_ms=30, classify_ms=3, total_ms=33)
    frame = Frame(np.zeros((6, 8, 3), np.uint8), "bench", sequence, time.time_ns(), time.monotonic_ns())
    return msgspec.json.encode(detections_of(frame, result, "bench", {"segmenter": "sha256:" + "0" * 64}, sequence, 0))


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def sleeping_listener(messages: int) -> bool:
    """A listener that subscribes and never reads: messages of 1 kB with a crop of 20 kB, as fast as they go."""
    print("a listener that sleeps")
    with Publisher(["tcp://127.0.0.1:*"]) as publisher, zmq.Context() as context, context.socket(zmq.SUB) as sleeper:
        sleeper.set(zmq.LINGER, 0)
        sleeper.set(zmq.RCVHWM, 10)
        sleeper.subscribe(b"")
        sleeper.connect(publisher.endpoints[0])
        while not sleeper.poll(10):
            publisher.send(DETECTIONS, [payload_of(0)])
        parts = [payload_of(0), bytes(20_000)]
        times_ms = np.empty(messages)
        for index in range(messages):
            if index == messages // 10:
                before_mb = resident_mb()
            start_ns = time.monotonic_ns()
            publisher.send(DETECTIONS, parts)
            times_ms[index] = (time.monotonic_ns() - start_ns) / 1e6
        grown_mb = resident_mb() - before_mb
    print(f"  {messages} messages of {sum(map(len, parts)) / 1000:.0f} kB, send median {np.median(times_ms):.3f} ms")
    ok = judge("send, p99", float(np.percentile(times_ms, 99)), MAX_SEND_P99_MS, "ms")
    return judge("memory grown after a tenth of them", grown_mb, MAX_GROWTH_MB, "MB") and ok


@contextmanager
def process(script: str, *arguments: str) -> Iterator[None]:
    """Run a script beside us."""
    running = subprocess.Popen([sys.executable, "-c", script, *arguments])
    try:
        yield
    finally:
        running.kill()
        running.wait()


def latency() -> bool:
    """From `send` to the client library's iterator in another process, over tcp, at 100 messages a second."""
    print("a message of 1 kB on its way")
    with (
        Publisher(["tcp://127.0.0.1:*"]) as publisher,
        zmq.Context() as context,
        context.socket(zmq.PULL) as answers,
    ):
        port = answers.bind_to_random_port("tcp://127.0.0.1")
        with process(ECHO, publisher.endpoints[0], f"tcp://127.0.0.1:{port}"):
            sent_ns: dict[int, int] = {}
            times_ms: list[float] = []
            sequence = 0
            while len(times_ms) < 500:
                payload = payload_of(sequence)
                sent_ns[sequence] = time.monotonic_ns()
                publisher.send(DETECTIONS, [payload])
                sequence += 1
                if answers.poll(10):
                    answered, arrived_ns = map(int, answers.recv().split())
                    times_ms.append((arrived_ns - sent_ns[answered]) / 1e6)
                    time.sleep(0.01)
    print(f"  {len(payload)} bytes, p95 {np.percentile(times_ms, 95):.3f} ms")
    return judge("send to receive, median", statistics.median(times_ms), MAX_LATENCY_MS, "ms")


def ten_listeners(rounds: int) -> bool:
    """The same frames through two outlets in turn, one with ten listeners; a frame is FRAME_MS of work on one core."""
    print("ten listeners")
    medians_ms: dict[int, list[float]] = {0: [], 10: []}
    with Publisher(["tcp://127.0.0.1:*"]) as alone, Publisher(["tcp://127.0.0.1:*"]) as heard:
        outlets = {
            count: Outlet("bench", {"segmenter": "sha256:" + "0" * 64}, publisher, None, HealthMonitor("bench"))
            for count, publisher in ((0, alone), (10, heard))
        }
        with outlets[0], outlets[10], process(TEN_LISTENERS, heard.endpoints[0]):
            time.sleep(3)  # until all have subscribed
            spin = spin_for(FRAME_MS)
            for _ in range(rounds):
                for count, outlet in outlets.items():
                    medians_ms[count].append(statistics.median(frame_ms(outlet, spin) for _ in range(50)))
    without, with_ten = (statistics.median(medians_ms[count]) for count in (0, 10))
    print(f"  a frame with its message: {without:.2f} ms without, {with_ten:.2f} ms with ten")
    return judge("ratio", with_ten / without, MAX_TEN_RATIO, "")


def spin_for(milliseconds: float) -> int:
    """Return how many multiplications of matrices take so long here."""
    matrix = np.ones((256, 256), np.float32)
    start_ns = time.monotonic_ns()
    for _ in range(200):
        matrix @ matrix
    return max(1, round(milliseconds / ((time.monotonic_ns() - start_ns) / 1e6 / 200)))


def frame_ms(outlet: Outlet, spin: int) -> float:
    """Return the time of one frame: work as heavy as the models, then `put`."""
    matrix = np.ones((256, 256), np.float32)
    attributes = {name: Attribute("white", 0.98) for name in ("shape", "letter")}
    targets = [Target(Box(100, 80, 31, 29), 610, 0.97, attributes)] * 10
    start_ns = time.monotonic_ns()
    frame = Frame(np.zeros((6, 8, 3), np.uint8), "bench", 0, time.time_ns(), start_ns)
    for _ in range(spin):
        matrix @ matrix
    outlet.put(frame, PipelineResult(targets, 10, 0, segment_ms=30, classify_ms=3, total_ms=33), 0)
    return (time.monotonic_ns() - start_ns) / 1e6


if __name__ == "__main__":
    sys.exit(main())

"""`aerial-listen`: print what a daemon publishes."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Sequence

import msgspec
import zmq

from aerial_runtime import __version__
from aerial_runtime.config import DEFAULT_ENDPOINT, Parser
from aerial_runtime.console import target_line
from aerial_runtime.contract import DETECTIONS_SCHEMA, Detections
from aerial_runtime.errors import ResourceError, UsageError, run_command
from aerial_runtime.publish import TOPIC, is_endpoint
from aerial_runtime.say import say

RECONNECT_MS = 20  # ZeroMQ's 100 would miss the first frames of a daemon that starts after us
SLICE_MS = 200
MAX_TIMEOUT_S = 1_000_000.0  # eleven days; ZeroMQ's wait is 31 bits of milliseconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-listen", lambda: listen(_parser().parse_args(argv)))


def listen(options: argparse.Namespace) -> int:
    """Print messages until --count, --timeout, Ctrl-C or SIGTERM; return 0. Raises UsageError or ResourceError."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
            socket.set(zmq.SUBSCRIBE, TOPIC)
            _connect(socket, options.connect)
            _print_messages(socket, options)
    except KeyboardInterrupt:  # the usual end
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    bad = f"--connect {endpoint!r} is not an endpoint; write it like {DEFAULT_ENDPOINT}"
    if not is_endpoint(endpoint):
        raise UsageError(bad)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise UsageError(bad) from error


def _wait(socket: zmq.Socket[bytes], timeout_s: float | None) -> bool:
    """Wait for a message, for ever if timeout_s is None; return False where none came in time.

    In slices: a signal that falls between two lines of Python does not end ZeroMQ's own wait, and would be lost.
    """
    start_ns = time.monotonic_ns()
    while True:
        left_ms = SLICE_MS
        if timeout_s is not None:
            left_ms = min(SLICE_MS, round(timeout_s * 1000 - (time.monotonic_ns() - start_ns) / 1e6))
        if socket.poll(max(0, left_ms)):
            return True
        if left_ms < SLICE_MS:
            return False


def _print_messages(socket: zmq.Socket[bytes], options: argparse.Namespace) -> None:
    decoder = msgspec.json.Decoder(Detections)
    expected: dict[str, int] = {}  # source -> next sequence number
    heard = 0
    while options.count is None or heard < options.count:
        if not _wait(socket, options.timeout):
            if heard and options.count is None:
                return
            raise ResourceError(
                f"heard {heard} messages on {options.connect}, then none for {options.timeout:g} s; "
                "check that aerial-runtime runs and binds there"
            )
        parts = socket.recv_multipart()
        payload = parts[1] if len(parts) > 1 else parts[0]  # one part is not ours, and will not decode
        try:
            message = decoder.decode(payload)
        except msgspec.DecodeError as error:
            say(f"aerial-listen: a message that is not {DETECTIONS_SCHEMA}: {error}", error=True)
            continue
        heard += 1
        _note_gap(message, expected)
        lines = [payload.decode()] if options.json else [target_line(message, target) for target in message.targets]
        if not all(say(line) for line in lines):
            return


def _note_gap(message: Detections, expected: dict[str, int]) -> None:
    """Say on stderr when messages are missing before this one, or the daemon has started again."""
    lost = message.sequence - expected.get(message.source, message.sequence)
    if lost > 0:
        say(f"aerial-listen: {lost} messages of {message.source} lost", error=True)
    elif lost < 0:
        say(f"aerial-listen: {message.source} has started again", error=True)
    expected[message.source] = message.sequence + 1


def _count(text: str) -> int:
    """Return a number of messages from 1 on; argparse makes a usage error of the exception."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return count


def _seconds(text: str) -> float:
    """Return seconds; argparse makes a usage error of the exception."""
    seconds = float(text)
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAX_TIMEOUT_S:.0f} seconds, not {text}")
    return seconds


def _parser() -> Parser:
    parser = Parser(prog="aerial-listen", description="Print what aerial-runtime publishes: one line per target.")
    add = parser.add_argument
    add("--connect", default=DEFAULT_ENDPOINT, metavar="ENDPOINT", help="ZeroMQ endpoint (default: %(default)s)")
    add("--json", action="store_true", help="print each message as it came, one JSON object a line")
    add("--count", type=_count, metavar="N", help="end after so many messages (default: never)")
    add("--timeout", type=_seconds, metavar="S", help="end after so many seconds without a message (default: never)")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser

"""`aerial-listen`: print what a daemon publishes."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence

from aerial_runtime import BUILD
from aerial_runtime.client import MESSAGES, Message, Subscriber
from aerial_runtime.config import DEFAULT_ENDPOINT, Parser
from aerial_runtime.console import event_line, health_line, target_line
from aerial_runtime.contract import Health, TargetEvents
from aerial_runtime.errors import InputError, ResourceError, UsageError, run_command
from aerial_runtime.publish import is_endpoint
from aerial_runtime.say import say

TOPICS = tuple(MESSAGES)
MAX_TIMEOUT_S = 1_000_000.0  # eleven days; ZeroMQ's wait is 31 bits of milliseconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-listen", lambda: listen(_parser().parse_args(argv)))


def listen(options: argparse.Namespace) -> int:
    """Print messages until --count, --timeout, Ctrl-C or SIGTERM; return 0. Raises AerialError."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _subscriber(options) as subscriber:
            _print_messages(subscriber, options)
    except KeyboardInterrupt:  # the usual end
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _subscriber(options: argparse.Namespace) -> Subscriber:
    """Connect. Raises UsageError (endpoint, keys that do not fit) or InputError (key files)."""
    if not is_endpoint(options.connect) or "://" not in options.connect:
        raise UsageError(f"--connect {options.connect!r} is not an endpoint; write it like {DEFAULT_ENDPOINT}")
    try:
        return Subscriber(
            options.connect,
            options.topic or ["detections"],
            server_key=options.server_key,
            client_keys=options.client_key,
            timeout_s=options.timeout,
            on_trouble=lambda text: say(f"aerial-listen: {text}", error=True),
        )
    except ValueError as error:
        raise UsageError(f"{error}; check --connect, --server-key and --client-key") from error
    except OSError as error:
        raise InputError(f"cannot read a key ({error}); check --server-key and --client-key") from error


def _print_messages(subscriber: Subscriber, options: argparse.Namespace) -> None:
    heard = 0
    while options.count is None or heard < options.count:
        try:
            message = next(subscriber)
        except TimeoutError:
            if heard and options.count is None:
                return
            raise ResourceError(
                f"heard {heard} messages on {options.connect}, then none for {options.timeout:g} s; "
                "check that aerial-runtime runs and binds there"
            ) from None
        except PermissionError as error:
            raise ResourceError(f"{error}; check --server-key and --client-key") from error
        heard += 1
        if not all(say(line) for line in _lines(message, subscriber.payload, options.json)):
            return


def _lines(message: Message, payload: bytes, as_json: bool) -> list[str]:
    """Return what a person reads of a message, or the message as it came."""
    if as_json:
        return [payload.decode()]
    if isinstance(message, Health):
        return [health_line(message)]
    if isinstance(message, TargetEvents):
        return [event_line(event) for event in message.events]
    return [target_line(message, target) for target in message.targets]


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
    parser = Parser(
        prog="aerial-listen",
        description="Print what aerial-runtime publishes: a line per target in a frame, per event of a target "
        "of the flight, or per health.",
    )
    add = parser.add_argument
    add("--connect", default=DEFAULT_ENDPOINT, metavar="ENDPOINT", help="ZeroMQ endpoint (default: %(default)s)")
    add("--topic", action="append", choices=TOPICS, help="what to listen to; repeatable (default: detections)")
    add("--server-key", metavar="FILE", help="public key of the aircraft, for an encrypted link: server.key")
    add("--client-key", metavar="FILE", help="our own keys, for an encrypted link: NAME.key_secret")
    add("--json", action="store_true", help="print each message as it came, one JSON object a line")
    add("--count", type=_count, metavar="N", help="end after so many messages (default: never)")
    add("--timeout", type=_seconds, metavar="S", help="end after so many seconds without a message (default: never)")
    add("--version", action="version", version=f"%(prog)s {BUILD}")
    return parser

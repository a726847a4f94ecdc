"""The ground's end of the result link: one small file, for your own programs and for `aerial-listen`.

for message in Subscriber("tcp://10.0.0.2:5556", server_key="server.key", client_keys="ground.key_secret"):
    print(message.frame.name, len(message.targets))
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Final, TypeAlias

import msgspec
import zmq
from zmq.auth import load_certificate
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from aerial_runtime.contract import (
    DECODE_ERRORS,
    DETECTIONS_SCHEMA,
    HEALTH_SCHEMA,
    TARGETS_SCHEMA,
    Detections,
    Health,
    TargetEvents,
)

Message: TypeAlias = Detections | Health | TargetEvents
MESSAGES: Final[dict[str, type[Message]]] = {"detections": Detections, "health": Health, "targets": TargetEvents}
SCHEMAS: Final = {"detections": DETECTIONS_SCHEMA, "health": HEALTH_SCHEMA, "targets": TARGETS_SCHEMA}
QUEUE_MESSAGES: Final = 1000  # wait for a slow reader; beyond it they are lost, which `gaps` counts
RECONNECT_MS, RECONNECT_MAX_MS = 20, 1000  # ZeroMQ's 100 would miss the first frames of a daemon that starts after us
SLICE_MS: Final = 200
KEY_BYTES: Final = 32
# After these ZeroMQ does not try again, and would wait in vain for ever.
REFUSALS: Final[dict[int, str]] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refuses our key; it must be among its allowed clients when it starts",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "and we do not fit: one end uses keys, the other does not",
}
NO_ANSWER: Final[int] = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
# A listener only reads: without keep-alive it would never notice that an aircraft has lost its power. And once the link
# is back, a connection that the kernel tries ever more rarely would keep it waiting for as long as the link was down.
LINK: Final = {
    zmq.CONNECT_TIMEOUT: 3000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


class Subscriber:
    """Iterate it: `Detections`, `Health` and `TargetEvents` in the order in which they were sent, each once.

    crops: of the last message: a JPEG per target, in order, empty where none was sent; empty list: none asked for.
    payload: the last message as it came, JSON. gaps: messages that were lost on the way. restarts: of daemons.
    strange: messages that could not be read.
    """

    def __init__(
        self,
        endpoint: str,
        topics: Sequence[str] = ("detections",),
        *,
        server_key: str | PathLike[str] | None = None,
        client_keys: str | PathLike[str] | None = None,
        timeout_s: float | None = None,
        on_trouble: Callable[[str], object] = lambda text: None,
    ) -> None:
        """Connect; a daemon that is not there yet is waited for.

        topics: "detections", "health", "targets". server_key: file with the daemon's public key; client_keys: file
        with our own pair; both or none. timeout_s: how long to wait for a message, None: for ever. on_trouble: is told
        in a sentence of every gap, restart and strange message. Raises ValueError (arguments, keys) or OSError (files).
        """
        self.crops: list[bytes] = []
        self.payload = b""
        self.gaps = self.restarts = self.strange = 0
        self._timeout_s = timeout_s
        self._on_trouble = on_trouble
        self._decoders = {topic: msgspec.json.Decoder(_type_of(topic)) for topic in topics}
        self._last: dict[tuple[str, str], tuple[int, bytes]] = {}  # topic, source -> sequence and payload
        options = LINK | _curve_options(server_key, client_keys)
        options |= {zmq.RCVHWM: QUEUE_MESSAGES, zmq.LINGER: 0, zmq.IPV6: int("[" in endpoint)}
        options |= {zmq.RECONNECT_IVL: RECONNECT_MS, zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._events = self._socket.get_monitor_socket(sum(REFUSALS) + NO_ANSWER)
        self._endpoint, self._may_tell = endpoint, server_key is not None
        for option, value in options.items():
            self._socket.set(option, value)
        for topic in topics:
            self._socket.subscribe(topic)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(f"{endpoint!r} is not an endpoint ({error.strerror})") from error

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        """Return the next message that we have not had.

        Raises TimeoutError where none comes within `timeout_s`, PermissionError where the daemon does not let us in.
        """
        deadline_ns = None if self._timeout_s is None else time.monotonic_ns() + round(self._timeout_s * 1e9)
        while True:
            self._wait(deadline_ns)
            parts = self._socket.recv_multipart()
            message = self._decoded(parts)
            if message is not None and self._is_new(parts[0].decode(), message, parts[1]):
                self.payload, self.crops = parts[1], parts[2:]
                return message

    def _wait(self, deadline_ns: int | None) -> None:
        """Wait for a message in slices: a signal that falls between two lines of Python would not end ZeroMQ's wait."""
        while True:
            left_ms = SLICE_MS
            if deadline_ns is not None:
                left_ms = min(SLICE_MS, round((deadline_ns - time.monotonic_ns()) / 1e6))
            if self._socket.poll(max(0, left_ms)):
                return
            self._look_at_link()
            if left_ms < SLICE_MS:
                raise TimeoutError(f"no message for {self._timeout_s:g} s")

    def _look_at_link(self) -> None:
        """Raise PermissionError where the daemon has refused us; tell once where it does not understand our key."""
        while self._events.poll(0):
            event = zmq.Event(recv_monitor_message(self._events)["event"])
            if event in REFUSALS:
                raise PermissionError(f"the daemon at {self._endpoint} {REFUSALS[event]}")
            if self._may_tell:
                self._may_tell = False
                self._on_trouble(f"the daemon at {self._endpoint} does not answer; is this the server key of that one?")

    def _decoded(self, parts: list[bytes]) -> Message | None:
        topic = parts[0].decode(errors="replace")
        if topic not in self._decoders:  # a later daemon's, whose name begins like one of ours
            return None
        try:
            if len(parts) < 2:
                raise msgspec.DecodeError("it has no payload")
            return self._decoders[topic].decode(parts[1])
        except DECODE_ERRORS as error:
            self.strange += 1
            self._on_trouble(f"a message that is not {SCHEMAS[topic]}: {error}")
            return None

    def _is_new(self, topic: str, message: Message, payload: bytes) -> bool:
        """Tell whether we have not had this message, for daemons repeat the last one; count what is missing before."""
        key, sequence = (topic, message.source), message.sequence
        last, last_payload = self._last.get(key, (sequence - 1, b""))
        if payload == last_payload:
            return False
        if sequence <= last:
            self.restarts += 1
            self._last = {known: of for known, of in self._last.items() if known[1] != message.source}
            self._on_trouble(f"{message.source} has started again")
        elif sequence > last + 1:
            self.gaps += sequence - last - 1
            self._on_trouble(f"{sequence - last - 1} messages of {message.source} lost")
        self._last[key] = (sequence, payload)
        return True

    def close(self) -> None:
        """Disconnect. Twice does no harm."""
        if not self._socket.closed:
            self._socket.disable_monitor()
        self._events.close()
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _type_of(topic: str) -> type[Message]:
    if topic not in MESSAGES:
        raise ValueError(f"there is no topic {topic!r}; there are {', '.join(MESSAGES)}")
    return MESSAGES[topic]


def _curve_options(
    server_key: str | PathLike[str] | None, client_keys: str | PathLike[str] | None
) -> dict[int, int | bytes]:
    """Return the socket options of an encrypted link, none without keys."""
    if server_key is None and client_keys is None:
        return {}
    if server_key is None or client_keys is None:
        raise ValueError("an encrypted link needs both: the daemon's public key and our own pair")
    server, _ = load_certificate(server_key)
    public, secret = load_certificate(client_keys)
    if secret is None:
        raise ValueError(f"{client_keys} holds no secret key; it is the file that ends in .key_secret")
    if not all(map(_is_key, (server, public, secret))):
        raise ValueError(f"{server_key} or {client_keys} is damaged: a key is 40 characters of Z85")
    return {zmq.CURVE_SERVERKEY: server, zmq.CURVE_PUBLICKEY: public, zmq.CURVE_SECRETKEY: secret}


def _is_key(key: bytes) -> bool:
    try:
        return len(z85.decode(key)) == KEY_BYTES
    except (KeyError, ValueError, struct.error):  # other characters; another length; five that are more than 32 bits
        return False

"""Messages out: ZeroMQ sockets that never wait, plain within the machine and encrypted beyond it."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import zmq

from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.keys import CurveServer
from aerial_runtime.log import warn
from aerial_runtime.say import utf8

DETECTIONS, HEALTH, TARGETS = b"detections", b"health", b"targets"  # the topics
LINGER_MS = 200  # at the end, for the last message on its way; delays a stop only while something is unsent
SEND_QUEUE_MESSAGES = 100  # for each slow listener; beyond it messages are lost, which the sequence shows
MAX_HEARD_BYTES = 1024  # of what a listener sends, a topic or a handshake. More is no listener, and is cut off
REPEAT_NS = 1_000_000_000  # a topic is repeated for late joiners at most once in this time
# A listener whose link is gone is forgotten in ten seconds: by keep-alive, and while something is on its way, when
# keep-alive is silent, by how long that stays unanswered.
FORGET = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 10_000,
}
ZAP_DOMAIN = "aerial"


class Publisher:
    """At most two ZeroMQ sockets: a plain one for this machine, a CURVE one for everything else.

    It never waits: who listens too slowly loses messages, the flight does not wait. Who subscribes gets the last
    message of the topic again; so do those that have it already, and drop it by its sequence number.
    All methods after the construction are for one thread at a time.

    endpoints: as bound, with the ports that the system chose. unsent: messages that a socket did not take.
    """

    def __init__(self, endpoints: Sequence[str], *, curve: CurveServer | None = None, insecure: bool = False) -> None:
        """Bind to every endpoint, such as tcp://127.0.0.1:5556 or ipc:///run/aerial.

        insecure: endpoints beyond this machine may be plain where there are no keys.
        Raises UsageError or ResourceError.
        """
        plain, beyond = _sorted_endpoints(endpoints, curve, insecure)
        self.endpoints: list[str] = []
        self.unsent = 0
        self._last: dict[bytes, list[bytes]] = {}  # topic -> the parts of its last message
        self._wanted: set[bytes] = set()  # topics that somebody has subscribed to since their last message
        self._repeated_ns: dict[bytes, int] = {}
        self._context = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._gate: _Gate | None = None
        try:
            if plain:
                self._bind(plain, None)
            if beyond and curve is not None:
                self._gate = _Gate(self._context, curve)  # before the socket: without it every key would be let in
                self._bind(beyond, curve)
        except BaseException:
            self.close()
            raise

    def _bind(self, endpoints: Sequence[str], curve: CurveServer | None) -> None:
        """Open one socket. Every option is set before `bind`: later most have no effect."""
        socket_ = self._context.socket(zmq.XPUB)
        self._sockets.append(socket_)
        for option, value in FORGET.items():
            socket_.set(option, value)
        socket_.set(zmq.SNDHWM, SEND_QUEUE_MESSAGES)
        socket_.set(zmq.LINGER, LINGER_MS)
        socket_.set(zmq.MAXMSGSIZE, MAX_HEARD_BYTES)
        socket_.set(zmq.XPUB_VERBOSE, 1)  # tell of every subscription, not only of the first to a topic
        if curve is not None:
            socket_.set(zmq.CURVE_SERVER, 1)
            socket_.set(zmq.CURVE_SECRETKEY, curve.secret_key)
            socket_.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode())
            socket_.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # were the gate ever gone, nobody would be let in
        for endpoint in endpoints:
            try:
                _check_endpoint(endpoint)
                socket_.set(zmq.IPV6, int("[" in endpoint))
                socket_.bind(endpoint)
            except zmq.ZMQError as error:
                raise _bind_error(endpoint, error) from error
            self.endpoints.append(socket_.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))

    def send(self, topic: bytes, parts: Sequence[bytes]) -> None:
        """Send one message on every socket: the topic, then `parts`, the first of which is JSON."""
        self._last[topic] = [topic, *parts]
        self._hear()  # who has subscribed by now gets this very message
        self._wanted.discard(topic)
        self._send(topic)

    def repeat(self) -> None:
        """Send the last message of each topic again that somebody has subscribed to since.

        To be called some times a second, for late joiners do not wait for the next frame.
        """
        self._hear()
        now_ns = time.monotonic_ns()
        for topic in [*self._wanted]:
            if now_ns - self._repeated_ns.get(topic, -REPEAT_NS) >= REPEAT_NS:
                self._wanted.discard(topic)
                self._repeated_ns[topic] = now_ns
                self._send(topic)

    def _send(self, topic: bytes) -> None:
        for socket_ in self._sockets:
            try:
                socket_.send_multipart(self._last[topic], flags=zmq.NOBLOCK)
            except zmq.ZMQError:  # counted and published; the flight goes on
                self.unsent += 1

    def _hear(self) -> None:
        """Read what subscribers have sent: a 1 and the start of the topics they want."""
        for socket_ in self._sockets:
            with suppress(zmq.ZMQError):  # no more of them
                while True:
                    heard = socket_.recv(zmq.NOBLOCK)
                    if heard[:1] == b"\1":
                        self._wanted.update(topic for topic in self._last if topic.startswith(heard[1:]))

    def close(self) -> None:
        """Close the sockets; what no listener has taken within LINGER_MS is dropped. Twice does no harm."""
        for socket_ in self._sockets:
            socket_.close()
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Gate:
    """Lets in the clients whose public keys are on the allow-list; answers libzmq in a thread of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], curve: CurveServer) -> None:
        """Answer from now on."""
        from zmq.auth.thread import ThreadAuthenticator  # brings asyncio: only where there are keys

        self._clients = curve.clients
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.configure_curve_callback(ZAP_DOMAIN, self)
        self._authenticator.start()

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether a client may listen; the name is pyzmq's."""
        return key in self._clients

    def close(self) -> None:
        """Let nobody in any more. Twice does no harm."""
        self._authenticator.stop()


def is_endpoint(endpoint: str) -> bool:
    """Tell whether the port of a tcp endpoint is one: libzmq takes 99999 for 34463, and 5556x for 5556.

    True for other transports, which have none. `*` and 0 are a free port of the system's choice. False for what is no
    UTF-8, such as a file's name may be: pyzmq does not take it.
    """
    if utf8(endpoint) != endpoint:
        return False
    port = endpoint.rpartition(":")[2]
    is_port = port == "*" or (port.isascii() and port.isdecimal() and int(port) <= 65535)
    return is_port or not endpoint.startswith("tcp://")


def is_within_machine(endpoint: str) -> bool:
    """Tell whether only programs of this machine can reach an endpoint."""
    transport, _, address = endpoint.partition("://")
    host = address.rpartition(":")[0].strip("[]")
    if transport != "tcp" or host in ("localhost", "lo"):
        return transport in ("ipc", "inproc", "tcp")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # *, eth0
        return False


def _sorted_endpoints(
    endpoints: Sequence[str], curve: CurveServer | None, insecure: bool
) -> tuple[list[str], list[str]]:
    """Return the endpoints of the plain and of the CURVE socket. Raises UsageError where that cannot be."""
    plain = [endpoint for endpoint in endpoints if is_within_machine(endpoint)]
    beyond = [endpoint for endpoint in endpoints if endpoint not in plain]
    for endpoint in beyond:
        if not re.match(r"[a-z]+://", endpoint):
            raise _bind_error(endpoint, zmq.ZMQError(errno.EINVAL))
    if curve is not None and not beyond:
        raise UsageError(
            f"keys are for endpoints beyond this machine, and {' '.join(endpoints)} is none; "
            "add one like --bind tcp://*:5556, or leave --server-key out"
        )
    if curve is not None or not beyond:
        return plain, beyond
    if not insecure:
        raise UsageError(
            f"--bind {beyond[0]} would show the flight to everybody on the network; make keys with aerial-keygen and "
            "give --server-key and --allowed-clients, or give --insecure"
        )
    warn("insecure", f"everybody on the network can listen at {' '.join(beyond)} (--insecure)")
    return [*endpoints], []


def _check_endpoint(endpoint: str) -> None:
    """Raise ZMQError for what libzmq would take though it is wrong.

    It deletes whatever stands at the path of an ipc endpoint, so only what a killed process has left may stand there.
    """
    if not is_endpoint(endpoint):
        raise zmq.ZMQError(errno.EINVAL)
    path = Path(endpoint.removeprefix("ipc://"))
    if endpoint.startswith("ipc://@") or endpoint == "ipc://*" or not endpoint.startswith("ipc://"):
        return
    with suppress(OSError):  # nothing there, or closed to us, which `bind` tells
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise zmq.ZMQError(errno.EEXIST)
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):  # nobody there: refused, or no such file
        probe.connect(str(path))
        raise zmq.ZMQError(errno.EADDRINUSE)


def _bind_error(endpoint: str, error: zmq.ZMQError) -> UsageError | ResourceError:
    if error.errno == errno.EADDRINUSE:
        return ResourceError(f"the endpoint {endpoint} is in use; stop the program that holds it, or change --bind")
    if error.errno == errno.EEXIST:
        return UsageError(f"--bind {endpoint}: a file that is no socket stands there; give another path")
    if error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT):
        return UsageError(f"--bind {endpoint!r} is not an endpoint; write it like tcp://127.0.0.1:5556, or none")
    return ResourceError(f"cannot bind to {endpoint} ({error.strerror}); give another --bind")

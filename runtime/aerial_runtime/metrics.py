"""`/metrics` for Prometheus and `/healthz` for whoever restarts services, over HTTP on this machine alone."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Final

import msgspec

from aerial_runtime import __version__
from aerial_runtime.contract import Health
from aerial_runtime.errors import ResourceError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.log import warn

HOST: Final = "127.0.0.1"
CLIENT_TIMEOUT_S: Final = 2.0  # for each piece of a request, and for taking the answer
MAX_CLIENTS: Final = 8  # at once; each has a thread
STATES: Final = ("starting", "running", "degraded", "stopping")
MIB: Final = 1 << 20

Samples = list[tuple[dict[str, str], float]]  # labels, value


class MetricsServer:
    """Serves a monitor's health in threads of its own; `close` or `with` ends it."""

    def __init__(self, port: int, monitor: HealthMonitor) -> None:
        """Start. port: of 127.0.0.1, 0 for a free one. Raises ResourceError."""
        try:
            self._server = _Server(port, monitor)
        except OSError as error:
            raise _bind_error(port, error) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Free the port; a client that is slow is left behind."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def metrics_text(health: Health) -> str:
    """Return the health in the text format of Prometheus, version 0.0.4. Seconds, bytes, hertz, degrees Celsius."""
    lines = []
    for name, kind, text, samples in _metrics(health):
        if samples:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{_labels(labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _metrics(health: Health) -> Iterator[tuple[str, str, str, Samples]]:
    """Yield name, kind, help and samples of each metric; no samples where the machine does not tell."""
    about = {"source": health.source, "version": health.version, "provider": health.provider}
    yield "aerial_info", "gauge", "What flies.", [(about, 1)]
    models: Samples = [({"role": role, "sha256": sha256}, 1) for role, sha256 in health.models.items()]
    yield "aerial_model_info", "gauge", "The model files loaded.", models
    states: Samples = [({"state": state}, int(state == health.state)) for state in STATES]
    yield "aerial_state", "gauge", "1 for the state it is in.", states
    reasons: Samples = [({"code": reason.code}, 1) for reason in health.reasons]
    yield "aerial_degraded_reason", "gauge", "1 for each reason to be degraded; absent without one.", reasons
    yield "aerial_uptime_seconds", "gauge", "Time since the start.", [({}, health.uptime_s)]

    for name, text, number in (
        ("frames", "Frames published.", health.frames),
        ("frames_dropped", "Frames lost because we were late.", health.dropped),
        ("frames_unreadable", "Frames that could not be decoded.", health.unreadable),
        ("frames_failed", "Frames on which the models failed.", health.failed),
        ("messages_unsent", "Messages not handed to the socket.", health.unsent),
        ("lines_unwritten", "Lines that the output file lacks.", health.unwritten),
        ("messages_unrecorded", "Frames and other messages that the recording lacks.", health.unrecorded),
    ):
        yield f"aerial_{name}_total", "counter", text, [({}, number)]

    yield "aerial_frames_per_second", "gauge", "Frame rate over ten seconds.", [({}, health.frame_rate)]
    ages: Samples = []
    if isinstance(health.age_ms, msgspec.Struct):
        values_ms = zip(("0.5", "0.95", "0.99"), msgspec.structs.astuple(health.age_ms), strict=True)
        ages = [({"quantile": quantile}, _scaled(age_ms, 1e-3)) for quantile, age_ms in values_ms]
    yield "aerial_frame_age_seconds", "gauge", "Capture to send, over a minute.", ages
    stages: Samples = [({"stage": stage}, _scaled(ms, 1e-3)) for stage, ms in health.stage_ms.items()]
    yield "aerial_stage_seconds", "gauge", "Median time of a stage a frame, over a minute.", stages

    for name, label, text, values, scale in (
        ("temperature_celsius", "zone", "Temperatures.", health.temperatures_c, 1),
        ("clock_hertz", "unit", "Clocks now.", health.clocks_mhz, 1e6),
    ):
        found = {} if values is msgspec.UNSET else values
        yield f"aerial_{name}", "gauge", text, [({label: key}, _scaled(value, scale)) for key, value in found.items()]
    for name, text, mib in (
        ("memory_bytes", "Memory of this process.", health.memory_mib),
        ("disk_free_bytes", "Room on the disk of --output.", health.disk_free_mib),
    ):
        yield f"aerial_{name}", "gauge", text, [] if mib is msgspec.UNSET else [({}, mib * MIB)]


def _scaled(value: float, scale: float) -> float:
    """Return value times scale with the digits that it has: 0.0615, not 0.061500000000000006."""
    return float(f"{value * scale:.9g}")


def _labels(labels: dict[str, str]) -> str:
    """Return {name="value",...}, or nothing."""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Server(ThreadingMixIn, TCPServer):
    """A thread for each client, so that a slow one holds up no other.

    Not the standard library's HTTPServer: that one asks the name service for our name, which takes seconds in the air.
    """

    allow_reuse_address = True
    request_queue_size = 4 * MAX_CLIENTS  # the kernel makes those beyond it wait for seconds
    daemon_threads = True  # so that neither close nor the interpreter's end waits for them

    def __init__(self, port: int, monitor: HealthMonitor) -> None:
        self.monitor = monitor
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__((HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a client that went away is none of ours
            warn("metrics", f"an answer to a request for metrics failed: {error!r}")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_TIMEOUT_S
    server_version = f"aerial/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            text = metrics_text(self.server.monitor.look())
            self._answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", text.encode())
        elif path == "/healthz":
            health = self.server.monitor.look()
            is_well = health.state in ("running", "degraded")
            status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, "application/json", msgspec.json.encode(health) + b"\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there are /metrics and /healthz\n")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: there is one every few seconds."""


def _bind_error(port: int, error: OSError) -> ResourceError:
    if error.errno == errno.EADDRINUSE:
        return ResourceError(
            f"the port {port} for metrics is in use; stop the program that holds it, or change --metrics-port"
        )
    return ResourceError(f"cannot serve metrics on port {port} ({error.strerror}); give another --metrics-port")

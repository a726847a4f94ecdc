"""What leaves the daemon: messages on a ZeroMQ socket and lines in a file."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType

import msgspec
import zmq

from aerial_runtime.contract import Detections, Frame, FrameInfo, TimingMs
from aerial_runtime.errors import ResourceError, UsageError
from aerial_runtime.pipeline import PipelineResult

TOPIC = b"detections"
LINGER_MS = 200  # at the end, for the last message on its way; delays a stop only while something is unsent
SEND_QUEUE_MESSAGES = 100  # for each slow listener; beyond it messages are lost, which the sequence shows


class Publisher:
    """A ZeroMQ PUB socket. It never waits: who listens too slowly loses messages, the flight does not wait."""

    def __init__(self, endpoint: str) -> None:
        """Bind to `endpoint`, such as tcp://127.0.0.1:5556. Raises UsageError or ResourceError."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.set(zmq.SNDHWM, SEND_QUEUE_MESSAGES)  # before bind: later it would have no effect
        self._socket.set(zmq.LINGER, LINGER_MS)
        try:
            if not is_endpoint(endpoint):
                raise zmq.ZMQError(errno.EINVAL)
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise _bind_error(endpoint, error) from error

    def send(self, payload: bytes) -> None:
        """Send one message, an `aerial.detections/1` object as JSON."""
        self._socket.send_multipart([TOPIC, payload], flags=zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket; what no listener has taken within LINGER_MS is dropped."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonlWriter:
    """A file of JSON objects, one a line; each line is with the operating system when `write` returns."""

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        """Check that the file can be written, but change and leave nothing: only the first line does.

        Raises UsageError if it exists and `overwrite` is not given, ResourceError if it cannot be written.
        """
        self._path = path
        self._whole_bytes = 0
        self._file: FileIO | None = None
        with self._opening():
            if overwrite and path.exists():
                self._file = path.open("ab", buffering=0)  # held open: what reads a pipe would see its end
            else:
                path.open("xb").close()
                path.unlink()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Map the errors of opening the file."""
        try:
            yield
        except FileExistsError as error:
            raise UsageError(f"the output {self._path} exists; give --overwrite, or another --output") from error
        except OSError as error:
            reason = f"cannot write the output {self._path} ({error.strerror})"
            raise ResourceError(f"{reason}; give another --output") from error

    def _begin(self) -> FileIO:
        """Return the file, at the first line new or emptied."""
        with self._opening():
            if self._file is None:
                self._file = self._path.open("xb", buffering=0)
            elif self._whole_bytes == 0 and _is_regular(self._file):
                self._file.truncate(0)
        return self._file

    def write(self, payload: bytes) -> None:
        """Append one line. Raises ResourceError where the disk takes no more; the lines before stay whole."""
        line = payload + b"\n"
        file = self._begin()
        try:
            written = 0
            while written < len(line):
                written += file.write(line[written:])
        except OSError as error:
            self._cut_partial_line(file)
            raise ResourceError(
                f"cannot write on to the output {self._path} ({error.strerror}); free the disk, "
                "what is written so far is whole"
            ) from error
        self._whole_bytes += len(line)

    def _cut_partial_line(self, file: FileIO) -> None:
        if _is_regular(file):
            with suppress(OSError):  # the error that led here is the one to report
                file.truncate(self._whole_bytes)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Outlet:
    """Turn results into numbered messages and hand each to the socket and the file, encoded once."""

    def __init__(
        self, source: str, models: dict[str, str], publisher: Publisher | None, writer: JsonlWriter | None
    ) -> None:
        """source: stands in every message. models: role -> "sha256:..." of the file loaded."""
        self._source = source
        self._models = models
        self._publisher = publisher
        self._writer = writer
        self._encoder = msgspec.json.Encoder()
        self._sequence = 0
        self._dropped = 0

    def publish(self, frame: Frame, result: PipelineResult, dropped_in_all: int) -> Detections:
        """Publish the message of one frame and return it.

        dropped_in_all: frames lost since the start; the message tells those since the message before.
        """
        dropped = dropped_in_all - self._dropped
        message = detections_of(frame, result, self._source, self._models, self._sequence, dropped)
        payload = self._encoder.encode(message)
        if self._publisher is not None:
            self._publisher.send(payload)
        if self._writer is not None:
            self._writer.write(payload)
        self._sequence += 1
        self._dropped = dropped_in_all
        return message


def detections_of(
    frame: Frame, result: PipelineResult, source: str, models: dict[str, str], sequence: int, dropped: int
) -> Detections:
    """Return the message of one frame, sent now."""
    height, width = frame.image_bgr.shape[:2]
    age_ms = (time.monotonic_ns() - frame.captured_mono_ns) / 1e6
    times_ms = (age_ms, result.segment_ms, result.classify_ms, result.total_ms)
    return Detections(
        source=_utf8(source),
        sequence=sequence,
        sent_utc_ns=time.time_ns(),
        frame=FrameInfo(_utf8(frame.name), frame.index, width, height, frame.captured_utc_ns, frame.captured_mono_ns),
        timing_ms=TimingMs(*(round(value, 3) for value in times_ms)),
        dropped=dropped,
        models=models,
        targets=result.targets,
    )


def _utf8(name: str) -> str:
    """Escape the bytes of a file name that are no UTF-8: JSON has none."""
    return name.encode(errors="backslashreplace").decode()


def _is_regular(file: FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def is_endpoint(endpoint: str) -> bool:
    """Tell whether the port of a tcp endpoint is one: libzmq takes 99999 for 34463, and 5556x for 5556.

    True for other transports, which have none. `*` and 0 are a free port of the system's choice.
    """
    port = endpoint.rpartition(":")[2]
    is_port = port == "*" or (port.isascii() and port.isdecimal() and int(port) <= 65535)
    return is_port or not endpoint.startswith("tcp://")


def _bind_error(endpoint: str, error: zmq.ZMQError) -> UsageError | ResourceError:
    if error.errno == errno.EADDRINUSE:
        return ResourceError(f"the endpoint {endpoint} is in use; stop the program that holds it, or change --bind")
    if error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT):
        return UsageError(f"--bind {endpoint!r} is not an endpoint; write it like tcp://127.0.0.1:5556, or none")
    return ResourceError(f"cannot bind to {endpoint} ({error.strerror}); give another --bind")

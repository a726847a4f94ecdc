"""TensorRT and CUDA as what flies and what builds need them. Nothing here is imported before it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import clear_frames
from typing import Any, Final

from aerial_runtime.engine_card import Host
from aerial_runtime.errors import ResourceError

VERSIONS: Final = range(10, 12)  # TensorRT's majors whose API this code was checked against


def import_libraries() -> tuple[Any, Any]:
    """Return the modules tensorrt and pycuda.driver, CUDA being up. Raises ResourceError."""
    try:
        import pycuda.driver as cuda
        import tensorrt as trt
    except (ImportError, OSError) as error:
        raise ResourceError(
            f"no TensorRT here ({error}); on a Jetson it comes with JetPack, seen by a venv made with "
            "--system-site-packages, and pycuda from pip; elsewhere, in the checkout, pip install '.[tensorrt]'"
        ) from error
    if int(trt.__version__.partition(".")[0]) not in VERSIONS:
        known = f"{VERSIONS[0]}.x to {VERSIONS[-1]}.x"
        raise ResourceError(f"TensorRT {trt.__version__} is not one that this program knows; install {known}")
    with cuda_errors(cuda, "CUDA"):
        cuda.init()
    return trt, cuda


def host_of(trt: Any, cuda: Any, number: int) -> Host:
    """Return what engines are bound to on a CUDA device. Raises ResourceError."""
    with cuda_errors(cuda, f"cuda:{number}"):
        device = cuda.Device(number)
        major, minor = device.compute_capability()
        return Host(device.name(), f"{major}.{minor}", trt.__version__)


def gpu_number(device: str, path: Path) -> int:
    """Return the number of a CUDA device. path: of the model, for the message. Raises ResourceError for another."""
    if device == "auto":
        return 0
    if not device.startswith("cuda:"):
        raise ResourceError(f"an engine runs on a GPU alone: give --device cuda:N for {path}, not {device}")
    return int(device.removeprefix("cuda:"))


class Gpu:
    """A CUDA device and its primary context. Raises cuda.Error."""

    def __init__(self, cuda: Any, number: int, owner: str) -> None:
        """owner: what it is for, in messages."""
        self._cuda = cuda
        self._owner = owner
        self._thread = threading.get_ident()
        self._context = cuda.Device(number).retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread while the block lasts. Raises ResourceError in another thread."""
        if threading.get_ident() != self._thread:
            raise ResourceError(
                f"{self._owner} was opened by another thread, which owns its CUDA context; use and close it there"
            )
        self._context.push()
        try:
            yield
        except BaseException as error:
            clear_frames(error.__traceback__)  # they hold things of TensorRT, which must go while the context is there
            raise
        finally:
            self._cuda.Context.pop()

    def close(self) -> None:
        """Give the context back."""
        self._context = None


@contextmanager
def cuda_errors(cuda: Any, what: str) -> Iterator[None]:
    """Turn CUDA's errors into a ResourceError. what: that fails, in the message."""
    try:
        yield
    except cuda.Error as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResourceError(
            f"the GPU failed for {what} ({reason}); check that it is there and that nothing else fills its memory"
        ) from error


def make_log(trt: Any) -> Any:
    """Return a logger that keeps TensorRT's errors for our sentence, instead of printing them."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """errors: the messages, oldest first."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            """Keep an error; TensorRT calls this, from any of its threads."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(msg)

        def reason(self) -> str:
            """Return the first line of what went wrong since the last time, and forget it."""
            lines = [line for message in self.errors for line in message.splitlines()]
            self.errors.clear()
            return lines[0] if lines else "it gives no reason"

    return Log()

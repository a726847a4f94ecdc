"""Inference engines behind one small interface."""

from __future__ import annotations

from glob import escape
from pathlib import Path

from aerial_runtime.backends.base import Backend
from aerial_runtime.engine_card import ENGINE_SUFFIX
from aerial_runtime.errors import ModelError, ResourceError
from aerial_runtime.log import warn


def open_backend(path: Path, device: str = "auto", threads: int | None = None) -> Backend:
    """Load a model file with the engine that runs it.

    device: "auto", "cpu", "cuda:N" or "tensorrt:N". Of an ONNX file, "auto" takes the TensorRT engine beside it that
    was built from it for this very device; any other name runs the file itself on that device. An engine takes "auto"
    or "cuda:N". Raises ModelError or ResourceError.
    """
    # Each inference engine is imported where it is needed, so that --help and most tests need none.
    if path.suffix == ENGINE_SUFFIX:
        from aerial_runtime.backends.trt import TrtBackend

        return TrtBackend(path, device)
    engine = _engine_of(path) if device == "auto" else None
    if engine is not None:
        return engine
    from aerial_runtime.backends.ort import OrtBackend

    return OrtBackend(path, device, threads)


def _engine_of(onnx: Path) -> Backend | None:
    """Return this device's engine beside an ONNX file; where engines are there but none flies, say why."""
    try:
        if not any(onnx.parent.glob(f"{escape(onnx.stem)}.*{ENGINE_SUFFIX}")):
            return None
    except OSError:  # a folder that is closed to us: who reads the file itself says so
        return None
    from aerial_runtime.backends.trt import TrtBackend, find_engine

    try:
        return TrtBackend(find_engine(onnx))
    except (ModelError, ResourceError) as error:
        warn(f"engine {onnx.name}", f"{onnx.name} flies without an engine: {error}")
        return None


__all__ = ["Backend", "open_backend"]

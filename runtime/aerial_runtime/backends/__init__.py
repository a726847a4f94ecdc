"""Inference engines behind one small interface."""

from __future__ import annotations

from pathlib import Path

from aerial_runtime.backends.base import Backend


def open_backend(path: Path, device: str = "auto", threads: int | None = None) -> Backend:
    """Load a model file with the engine that runs it. Raises ModelError or ResourceError."""
    from aerial_runtime.backends.ort import OrtBackend  # here, so that --help and the tests need no engine

    return OrtBackend(path, device, threads)


__all__ = ["Backend", "open_backend"]

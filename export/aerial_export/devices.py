"""Which devices can run a model file here. Free of torch and onnx."""

from __future__ import annotations

from pathlib import Path

from aerial_runtime.engine_card import ENGINE_SUFFIX

PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda:0",
    "TensorrtExecutionProvider": "tensorrt:0",
}


def devices_for(path: Path) -> list[str]:
    """Return the devices to try for a file itself, the plainest first; never one that puts an engine in its place."""
    if path.suffix == ENGINE_SUFFIX:
        return ["cuda:0"]
    import onnxruntime  # late: an engine needs none

    there = onnxruntime.get_available_providers()
    return [device for provider, device in PROVIDERS.items() if provider in there]

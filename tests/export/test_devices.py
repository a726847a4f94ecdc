from pathlib import Path

import onnxruntime

from aerial_export.devices import devices_for


def test_an_engine_has_its_own_device_and_a_file_all_that_onnx_runtime_offers(monkeypatch):
    assert devices_for(Path("m.engine")) == ["cuda:0"]
    offered = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    assert devices_for(Path("m.onnx")) == ["cpu", "cuda:0", "tensorrt:0"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered[3:])
    assert devices_for(Path("m.aerial")) == ["cpu"]

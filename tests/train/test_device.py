import pytest
import torch

from aerial_runtime.errors import ResourceError
from aerial_train import device
from aerial_train.fit_segmenter import SegmenterOptions


def options(**changes):
    return SegmenterOptions(name="a", **changes)


@pytest.fixture
def two_gpus(monkeypatch):
    """A computer with two GPUs, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (3 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_cpu_and_why_it_is_not_a_gpu(no_gpu):
    text = device.describe_device(options())
    assert text.startswith("device: CPU") and "32-true" in text and ("no CUDA" in text or "no CUDA device" in text)
    assert "(asked for)" in device.describe_device(options(accelerator="cpu"))


def test_a_gpu_that_is_asked_for_and_absent_is_an_error(no_gpu):
    with pytest.raises(ResourceError, match="no GPU can be used"):
        device.uses_gpu(options(accelerator="gpu"))
    with pytest.raises(ResourceError, match="needs a GPU"):
        device.precision_of(options(precision="16"))


def test_gpus_are_named_with_their_memory(two_gpus):
    text = device.describe_device(options(devices=2, batch=64))
    assert "Card 0 (3.0 of 8.0 GiB free), Card 1" in text and "2 processes on each of 1 nodes" in text
    assert text.endswith("precision bf16-mixed")
    with pytest.raises(ResourceError, match="this computer has 2 GPUs"):
        device.uses_gpu(options(devices=3))
    assert not device.uses_gpu(options(accelerator="cpu"))


def test_old_gpus_train_in_float16(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert device.precision_of(options()) == "16-mixed"
    assert device.precision_of(options(precision="32")) == "32-true"

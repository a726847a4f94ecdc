"""A checkpoint behind the interface of the inference engines, so that scoring asks every model the same way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from aerial_runtime.backends import open_backend
from aerial_runtime.backends.base import Array, Backend
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError, ModelError, ResourceError
from aerial_train.checkpoint import Checkpoint, load_checkpoint
from aerial_train.classifier import HEADING, TARGET


class TorchBackend(Backend):
    """A checkpoint, run by PyTorch. It returns what the graph exported from it returns: a uint8 map, or calibrated
    probabilities by the card's temperatures."""

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None) -> None:
        """device: "auto" (CUDA where there is one), "cpu" or "cuda:N". threads: of this process's PyTorch.

        Raises ModelError for the file or its card, ResourceError for the device.
        """
        checkpoint = load_checkpoint(path)
        self._device = _torch_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = checkpoint.network.to(self._device).eval()
        super().__init__(path.name, checkpoint.card, f"sha256:{checkpoint.sha256}", f"PyTorch on {self._device}")

    @torch.inference_mode()
    def _run(self, inputs: U8) -> Mapping[str, Array]:
        try:
            outputs = self._network(torch.from_numpy(inputs).to(self._device))
        except RuntimeError as error:
            raise ModelError(
                f"{self.name} failed on an input of {list(inputs.shape)} ({str(error).splitlines()[0]})"
            ) from error
        if isinstance(outputs, torch.Tensor):
            levels = (torch.sigmoid(outputs) * 255 + 0.5).clamp(0, 255).to(torch.uint8)  # [1, 1, h, w]
            return {"probability": levels.squeeze(1).cpu().numpy()}
        return {name: self._probability(name, values).cpu().numpy() for name, values in outputs.items()}

    def _probability(self, name: str, values: torch.Tensor) -> torch.Tensor:
        if name == HEADING:
            return values
        cooled = values / self.card.temperature.get(name, 1.0)
        return torch.sigmoid(cooled) if name == TARGET else torch.softmax(cooled, dim=1)


def open_model(path: Path, device: str = "auto", threads: int | None = None) -> Backend:
    """Open a checkpoint (.pt) or any file that flies. Raises ModelError, ResourceError."""
    if not path.is_file():
        raise InputError(f"there is no model {path}; give a checkpoint (.pt), an ONNX file or an engine")
    if path.suffix == ".pt":
        return TorchBackend(path, device, threads)
    return open_backend(path, device, threads)


def measured_checkpoint(path: Path, model: Backend) -> Checkpoint:
    """Return the checkpoint that a model was opened from, to write to it what was measured.

    Raises ModelError where the file is another by now: a training replaces best.pt, whose weights were not measured.
    """
    checkpoint = load_checkpoint(path)
    if f"sha256:{checkpoint.sha256}" != model.sha256:
        raise ModelError(
            f"{path} was replaced while it was measured, so nothing is written to it; wait until its training has "
            "ended, or measure a copy"
        )
    return checkpoint


def _torch_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise ResourceError(f"the device {device} is not available: PyTorch finds no CUDA; give --device cpu")
    if device != "cpu" and int(device.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise ResourceError(f"there is no device {device}, only {torch.cuda.device_count()} of that kind")
    return torch.device(device)

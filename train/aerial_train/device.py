"""What a training will run on, said before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from aerial_runtime.errors import ResourceError
from aerial_train.options import FitOptions

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def uses_gpu(options: FitOptions) -> bool:
    """Tell whether the training runs on CUDA devices. Raises ResourceError where it asks for what is not there."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.accelerator == "gpu" and not found:
        raise ResourceError(f"no GPU can be used: {_why_no_gpu()}; leave --accelerator out to train on the CPU")
    on_gpu = options.accelerator != "cpu" and found > 0
    if on_gpu and options.devices > found:
        raise ResourceError(f"--devices {options.devices} were asked for, this computer has {found} GPUs")
    return on_gpu


def precision_of(options: FitOptions) -> str:
    """Return Lightning's name of the precision; `auto`: bfloat16 or float16 where the GPU is fast at it, else float32.

    Raises ResourceError for float16 on a CPU, where it would be slower and overflow.
    """
    on_gpu = uses_gpu(options)
    if options.precision == "16" and not on_gpu:
        raise ResourceError("--precision 16 needs a GPU; give 32 or bf16 on a CPU")
    if options.precision != "auto":
        return PRECISIONS[options.precision]
    if not on_gpu:
        return PRECISIONS["32"]
    return PRECISIONS["bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"]


def describe_device(options: FitOptions) -> str:
    """Return one line: devices, memory, precision, and why it is not a GPU."""
    precision = precision_of(options)
    many = f", {options.devices} processes on each of {options.nodes} nodes" if options.world_size > 1 else ""
    if uses_gpu(options):
        cards = []
        for index in range(options.devices):
            free, whole = (size / 2**30 for size in torch.cuda.mem_get_info(index))
            cards.append(f"{torch.cuda.get_device_name(index)} ({free:.1f} of {whole:.1f} GiB free)")
        return f"device: {', '.join(cards)}{many}; precision {precision}"
    reason = "asked for" if options.accelerator == "cpu" else _why_no_gpu()
    return f"device: CPU, {torch.get_num_threads()} threads ({reason}){many}; precision {precision}"


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        has_card = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
        remedy = "; install a CUDA build of torch to use the GPU" if has_card else ""
        return f"this build of torch has no CUDA{remedy}"
    return "torch finds no CUDA device; check nvidia-smi and CUDA_VISIBLE_DEVICES"

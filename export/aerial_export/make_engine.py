"""`aerial-export model.onnx --engine`: the engine of this machine, kept only if it passes the gate. Free of torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aerial_export.artefacts import FP16_SUFFIX, Progress, export_model, half_of
from aerial_export.engine_gate import judge_engine
from aerial_export.goldens import goldens_beside
from aerial_export.new_files import new_files
from aerial_export.onnx_file import read_model
from aerial_export.parity import check_control, check_parity
from aerial_export.parity_report import report_block
from aerial_export.source import require_fp32
from aerial_export.to_engine import EngineOptions, build_engine
from aerial_runtime.backends import open_backend
from aerial_runtime.errors import InputError


def make_engine(onnx: Path, options: EngineOptions, progress: Progress) -> Path:
    """Build the FP16 engine of an FP32 ONNX file beside it, and return its path.

    Where the FP16 file or the goldens are missing, or are not this file's, they are made first. Raises ModelError or
    UsageError for the file, ResourceError for TensorRT, the GPU, memory or the disk, CheckError where the gate closes:
    an old engine then stays.
    """
    fp16 = onnx.with_name(onnx.stem + FP16_SUFFIX)
    _prepare(onnx, fp16, progress)
    return build_engine(fp16, options, progress, lambda engine: judge_engine(engine, onnx, options.device, progress))


def _prepare(onnx: Path, fp16: Path, progress: Progress) -> None:
    """Make the FP16 file and the goldens of an FP32 file where they are not there."""
    data, model, card = read_model(onnx)
    require_fp32(onnx, card)
    digest = hashlib.sha256(data).hexdigest()
    try:
        goldens = goldens_beside(onnx, card)
    except InputError as error:
        progress(f"{str(error).partition(';')[0]}; they are made now")
        for path in export_model(onnx, onnx, progress):
            progress(f"wrote {path}")
        return
    if _is_made_from(fp16, digest):
        return
    with new_files(fp16.parent) as folder:  # the goldens stay: PyTorch's answers, if it was there, are the better ones
        new = folder / fp16.name
        half, _ = half_of(model, card, digest)
        new.write_bytes(half.SerializeToString())
        check_control(card, goldens, "fp16")
        with open_backend(new, "cpu") as backend:
            report = check_parity(backend, goldens, "fp16")
        progress(report_block(report))
        report.require(goldens.reference)
    progress(f"wrote {fp16}")


def _is_made_from(fp16: Path, onnx_sha256: str) -> bool:
    try:
        _, _, card = read_model(fp16)
    except InputError:  # missing or damaged
        return False
    return card.artefact is not None and card.artefact.ancestors.get("onnx") == onnx_sha256

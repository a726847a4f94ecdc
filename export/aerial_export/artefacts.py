"""A model becomes what flies: NAME.onnx, NAME.fp16.onnx, the goldens that prove them, a report. Or there is no file.

Free of torch but for a checkpoint, whose answers PyTorch knows.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from onnx import ModelProto, numpy_helper

from aerial_export.fp16 import CONVOLUTIONS, rounded, to_fp16
from aerial_export.golden_inputs import Draw, draw_inputs, to_store
from aerial_export.goldens import SUFFIX, Answer, Golden, GoldenSet, Input, goldens_to_bytes
from aerial_export.graph_contract import check_contract
from aerial_export.new_files import new_files
from aerial_export.onnx_file import put_card
from aerial_export.parity import ParityReport, check_control, check_parity
from aerial_export.parity_report import report_block, report_page
from aerial_export.parity_sheet import side_by_side
from aerial_export.source import Source, open_onnx
from aerial_runtime.backends import open_backend
from aerial_runtime.card import ModelCard

FP16_SUFFIX: Final = ".fp16.onnx"
SHEET_SUFFIX: Final = ".parity.jpg"
PAGE_SUFFIX: Final = ".parity.md"
PERTURBATION: Final = 0.05  # of each weight, by which the negative control's model is wrong
SHEET_QUALITY: Final = 60

Progress = Callable[[str], None]


def artefact_names(name: str) -> list[str]:
    """Return the names of all files that belong to NAME.onnx, itself among them."""
    return [name + suffix for suffix in (".onnx", FP16_SUFFIX, SUFFIX, SHEET_SUFFIX, PAGE_SUFFIX)]


def export_model(
    source: Path, output: Path, progress: Progress, draw: Draw = draw_inputs, *, fp16: bool = True
) -> list[Path]:
    """Write all artefacts of a checkpoint, or of an FP32 ONNX file, and return their paths.

    output: NAME.onnx; the others lie beside it. What exists is replaced only by a whole set that has passed the gate.
    fp16: False leaves NAME.fp16.onnx out, of a model that flies on CPUs alone; the FP32 file is proven all the same.
    Raises ModelError or UsageError for the source, CheckError where the graph breaks the contract or the gate closes,
    ResourceError where a file cannot be written.
    """
    origin = _open(source)
    check_contract(origin.model, origin.card)
    progress(f"drawing scenes and asking {origin.reference}")
    inputs = draw(origin.card)
    name = output.stem
    with new_files(output.parent) as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        goldens = _goldens(origin, inputs, scratch)
        fp32, card = source, origin.card
        if output.resolve() != source.resolve():
            fp32 = folder / output.name
            fp32.write_bytes(origin.data)
        files = {} if origin.proven and fp16 else {output.name: fp32}
        shown = fp32
        if fp16:
            shown = folder / (name + FP16_SUFFIX)
            half, card = half_of(origin.model, card, goldens.onnx_sha256)
            shown.write_bytes(half.SerializeToString())
            by_value = _saved(scratch / "rounded.onnx", rounded(half))
            files |= {shown.name: shown, f"{shown.name}, each value rounded": by_value}
        progress(f"comparing on {len(goldens.inputs)} inputs")
        reports = [_judged(title, path, goldens) for title, path in files.items()]
        reports.append(check_control(card, goldens, card.precision))
        progress("\n\n".join(map(report_block, reports)))
        for report in reports[:-1]:
            report.require(goldens.reference)
        stored = replace(goldens, inputs=to_store(card, goldens.inputs))
        (folder / (name + SUFFIX)).write_bytes(goldens_to_bytes(stored))
        sheet = folder / (name + SHEET_SUFFIX)
        sheet.write_bytes(_sheet(shown, goldens))
        page = report_page(name, card, goldens, reports, sheet.name)
        (folder / (name + PAGE_SUFFIX)).write_text(page, encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [output.with_name(name) for name in names]


def _open(source: Path) -> Source:
    if source.suffix == ".onnx":
        return open_onnx(source)
    from aerial_export.to_onnx import open_checkpoint  # late: an ONNX file needs no torch

    return open_checkpoint(source)


def _goldens(origin: Source, inputs: Sequence[Input], scratch: Path) -> GoldenSet:
    """Return every input with the reference's answer and the negative control's."""
    digest = hashlib.sha256(origin.data).hexdigest()
    with open_backend(_saved(scratch / "perturbed.onnx", _perturbed(origin.model)), "cpu") as wrong:
        goldens = tuple(
            Golden(
                item.name, item.images, origin.answer(item.images), _kept(wrong.infer(item.images)),
                is_scene=item.is_scene, truth=item.truth,
            )
            for item in inputs
        )  # fmt: skip
    return GoldenSet(origin.reference, origin.card.weights_sha256, digest, goldens)


def _perturbed(model: ModelProto) -> ModelProto:
    """Return the negative control: the same model, every weight of its convolutions a little wrong."""
    twin = copy.deepcopy(model)
    rng = np.random.default_rng(0)
    weights = {node.input[1] for node in twin.graph.node if node.op_type in CONVOLUTIONS}
    for tensor in twin.graph.initializer:
        if tensor.name in weights:
            values = numpy_helper.to_array(tensor)
            wrong = values * (1 + PERTURBATION * rng.standard_normal(values.shape))
            tensor.CopyFrom(numpy_helper.from_array(wrong.astype(values.dtype), tensor.name))
    return twin


def half_of(model: ModelProto, card: ModelCard, onnx_sha256: str) -> tuple[ModelProto, ModelCard]:
    """Return the FP16 model of an FP32 one and the card that is inside. onnx_sha256: hex, of the FP32 file.

    Raises CheckError where FP16 cannot hold the weights, or the graph breaks the contract.
    """
    half = to_fp16(model)
    known = card.artefact.ancestors if card.artefact else {}
    half_card = put_card(half, card, "fp16", {**known, "onnx": onnx_sha256}, ())
    check_contract(half, half_card)
    return half, half_card


def _judged(title: str, path: Path, goldens: GoldenSet) -> ParityReport:
    with open_backend(path, "cpu") as backend:
        report = check_parity(backend, goldens, backend.card.precision)
    report.file = title
    return report


def _sheet(path: Path, goldens: GoldenSet) -> bytes:
    with open_backend(path, "cpu") as backend:
        _, data = cv2.imencode(".jpg", side_by_side(backend, goldens.inputs), (cv2.IMWRITE_JPEG_QUALITY, SHEET_QUALITY))
    return data.tobytes()


def _saved(path: Path, model: ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _kept(outputs: Answer) -> Answer:
    """Copy what the next call may overwrite."""
    return {name: values.copy() for name, values in outputs.items()}

"""The gate for a TensorRT engine, which takes frames of one size alone. Free of torch and onnx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from aerial_export.goldens import Golden, GoldenSet, goldens_beside
from aerial_export.parity import ParityReport, check_control, check_parity
from aerial_export.parity_report import report_block
from aerial_runtime.backends import Backend, open_backend
from aerial_runtime.contract import U8
from aerial_runtime.engine_card import read_engine_card
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import LabelledBox


def judge_engine(engine: Path, onnx: Path, device: str, progress: Callable[[str], None]) -> None:
    """Run the gate on an engine with the goldens of the FP32 file `onnx` that it comes from.

    The goldens' frames fill the engine's frame as tiles; what is right for that, the FP32 file says on the CPU, after
    it has passed the gate itself. Raises InputError for the files, ResourceError for the device, CheckError where the
    gate closes.
    """
    if not onnx.is_file():
        raise InputError(f"{engine} is checked against {onnx.name}, which is not beside it; copy it there too")
    facts = read_engine_card(engine)
    precision = facts.card.precision
    with open_backend(onnx, "cpu") as reference, open_backend(engine, device) as backend:
        goldens = goldens_beside(onnx, reference.card)
        reports: list[ParityReport] = []
        fitting = goldens
        if facts.frame_size is not None:
            proof = check_parity(reference, goldens, "fp32")
            proof.require(goldens.reference)
            reports.append(proof)
            fitting = tiled(goldens, facts.frame_size, reference)
        report = check_parity(backend, fitting, precision)
        reports += [report, check_control(reference.card, goldens, precision)]
    progress("\n\n".join(map(report_block, reports)))
    report.require(fitting.reference)


def tiled(goldens: GoldenSet, frame_size: tuple[int, int], reference: Backend) -> GoldenSet:
    """Return goldens for frames of one size (width, height): every frame repeated until it fills one."""
    width, height = frame_size
    inputs = []
    for golden in goldens.inputs:
        rows, columns = golden.images.shape[1:3]
        repeats = (1, -(-height // rows), -(-width // columns), 1)
        frame = np.ascontiguousarray(np.tile(golden.images, repeats)[:, :height, :width])
        truth = tuple(_repeated(golden, (columns, rows), frame_size))
        inputs.append(replace(golden, images=frame, answer=_answer(reference, frame), control={}, truth=truth))
    said = f"{reference.name} by {reference.provider}, which agrees with {goldens.reference}"
    return replace(goldens, reference=said, inputs=tuple(inputs))


def _answer(reference: Backend, frame: U8) -> dict[str, U8]:
    return {name: values.copy() for name, values in reference.infer(frame).items()}


def _repeated(golden: Golden, tile: tuple[int, int], frame: tuple[int, int]) -> Iterator[LabelledBox]:
    """Give the labels of every tile whose centre lies in the frame. tile, frame: width, height."""
    for top in range(0, frame[1], tile[1]):
        for left in range(0, frame[0], tile[0]):
            for label in golden.truth:
                x, y = label.x + left, label.y + top
                if x + label.w / 2 < frame[0] and y + label.h / 2 < frame[1]:
                    is_cut = x + label.w > frame[0] or y + label.h > frame[1]
                    yield replace(label, x=x, y=y, truncated=label.truncated or is_cut)

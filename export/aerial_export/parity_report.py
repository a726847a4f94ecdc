"""The gate's findings for readers: blocks for the terminal, a page to keep beside the model. Free of torch and onnx."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from aerial_export.goldens import GoldenSet
from aerial_export.parity import LIMITS, OutputReport, ParityReport
from aerial_runtime.card import Artefact, ModelCard

COLUMNS = 120
MASK_COLUMNS = (
    "output",
    "largest error",
    "mean error",
    "cells within limit",
    "same cells",
    "IoU",
    "targets found",
    "by reference",
)
HEAD_COLUMNS = ("output", "largest error", "mean error", "same labels")

LIMIT_TEXTS = {
    "mask_levels": "grey levels of 255 by which a cell of a mask may differ",
    "mask_cells": "least share of such cells, in every input",
    "mask_iou": "least IoU of the masks at the card's threshold",
    "recall": "by which the share of the targets found may differ",
    "head_error": "largest error of a probability or the heading",
    "head_mean_error": "mean error of an output",
    "labels": "least share of equal labels, all heads together",
}
CPU_NOTE = (
    "FP16 files are only checked on a CPU, never meant to fly on one: it has no half-precision kernels, computes in "
    'FP32 between casts, which makes it slower, and rounds less than tensor cores do. "Each value rounded" is the same '
    "graph with every intermediate value rounded to half precision, as tensor cores round; what a GPU really computes "
    "is known only when the gate has run there: `aerial-export --verify`."
)


def report_block(report: ParityReport) -> str:
    """Return one file's findings: a line with the verdict, a Markdown table that also reads well in a terminal."""
    where = f"{report.precision}, {report.provider}" if report.provider else f"{report.precision} limits"
    is_mask = any(output.cells is not None for output in report.outputs)
    rows: list[Sequence[str]] = [MASK_COLUMNS if is_mask else HEAD_COLUMNS]
    rows += [_mask_row(output) if is_mask else _head_row(output) for output in report.outputs]
    if report.compared:
        rows.append(("all labels", "", "", _labels(report.agreeing, report.compared)))
    return f"{report.file} ({where}), {report.inputs} inputs: {report.verdict}\n\n{table(rows)}"


def report_page(name: str, card: ModelCard, goldens: GoldenSet, reports: Sequence[ParityReport], sheet: str) -> str:
    """Return the page NAME.parity.md. card: of the FP16 file. reports: the negative control is the last one."""
    made = card.artefact or Artefact()
    sums = [("weights", card.weights_sha256), ("FP32 file", goldens.onnx_sha256)]
    sums += [(role, digest) for role, digest in made.ancestors.items() if role != "onnx"]
    tools = ", ".join(f"{tool} {version}" for tool, version in made.tools.items())
    limits = [asdict(LIMITS[precision]) for precision in LIMITS]
    limit_rows = [(text, *(f"{limit[key]:g}" for limit in limits)) for key, text in LIMIT_TEXTS.items()]
    *judged, control = map(report_block, reports)
    intro = (
        f"The {card.kind} {card.name!r} of the label space {card.label_space.name!r}, compared with "
        f"{goldens.reference}. Made with {tools}; opset {made.opset}."
    )
    parts = [
        f"# Parity of {name}",
        textwrap.fill(intro, COLUMNS),
        table([("SHA-256 of", ""), *sums]),
        *judged,
        "The negative control, weights that are each a little wrong, must be outside:",
        control,
        f"![Side by side]({sheet})",
        "## Limits",
        table([("", *LIMITS), *limit_rows]),
        textwrap.fill(CPU_NOTE, COLUMNS),
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join((lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]))


def _mask_row(output: OutputReport) -> Sequence[str]:
    cells, alike = (f"{100 * (share or 0):.3f} %" for share in (output.cells, output.alike))
    recalls = [f"{100 * recall:.1f} % of {output.targets}" for recall in (output.recall, output.reference_recall)]
    return (
        output.output,
        f"{output.max_error:.0f}",
        f"{output.mean_error:.4f}",
        cells,
        alike,
        f"{output.iou or 0:.4f}",
        *recalls,
    )


def _head_row(output: OutputReport) -> Sequence[str]:
    labels = _labels(output.agreeing, output.compared) if output.compared else ""
    return output.output, f"{output.max_error:.5f}", f"{output.mean_error:.6f}", labels


def _labels(agreeing: int, compared: int) -> str:
    return f"{100 * agreeing / compared:.2f} % of {compared}"

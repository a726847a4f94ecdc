"""Plots of a report, each as a data URI, drawn with Matplotlib's objects: no window, no state between plots."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aerial_train.evaluation.calibration import Bin, Calibration
from aerial_train.evaluation.classification import HeadScore
from aerial_train.evaluation.objects import SizeScore
from aerial_train.evaluation.readings import SizeReading
from aerial_train.evaluation.scores import SizeAccuracy
from aerial_train.evaluation.segmentation import SegmenterScore
from aerial_train.evaluation.significance import wilson
from aerial_train.evaluation.tables import span

Floats = npt.NDArray[np.floating[Any]]

COLORS: Final = ("#1f5a96", "#c2571a", "#3b7d3a", "#7a4b94", "#8c6d1f", "#a33b53")
GREY: Final = "#999999"
STYLE: Final[Any] = {"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "aerial"}


def reliability_plot(items: Sequence[Calibration]) -> str:
    """Draw accuracy against confidence per head, before and after the temperature."""
    figure, axes = _figure(len(items))
    for axis, item in zip(axes, items, strict=True):
        axis.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle="--")
        _bins(axis, item.bins, COLORS[0], f"as it is, ECE {item.ece:.3f}")
        if item.ece_after is not None:
            _bins(axis, item.bins_after, COLORS[1], f"T x {item.temperature:.2f}, ECE {item.ece_after:.3f}")
        axis.set(title=item.name, xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        axis.legend(fontsize=7, frameon=False, loc="upper left")
    return _uri(figure)


def risk_plot(curves: dict[str, tuple[Floats, Floats]]) -> str:
    """Draw the share of wrong answers against the share that is answered, a line per head."""
    figure, (axis,) = _figure(1)
    for color, (name, (coverage, error)) in zip(COLORS * 4, curves.items(), strict=False):
        axis.plot(coverage, error, color=color, label=name, linewidth=1.2)
    axis.set(
        title="Withholding unsure answers", xlabel="answered", ylabel="wrong among them", xlim=(0, 1), ylim=(0, None)
    )
    axis.legend(fontsize=7, frameon=False)
    return _uri(figure)


def precision_recall_plot(precision: Floats, recall: Floats, base: float) -> str:
    """Draw the curve of the `target` head; base: precision of saying yes to all."""
    figure, (axis,) = _figure(1)
    axis.plot(recall, precision, color=COLORS[0], linewidth=1.2)
    axis.axhline(base, color=GREY, linewidth=0.8, linestyle="--", label="everything is a target")
    axis.set(title="Target or not", xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axis.legend(fontsize=7, frameon=False)
    return _uri(figure)


def threshold_plot(score: SegmenterScore) -> str:
    """Draw precision and recall against the mask's threshold: cells, and objects by the match rule."""
    figure, axes = _figure(2)
    cells, objects = score.cell_curve, score.object_curve
    curves: list[tuple[str, list[tuple[str, Sequence[float | None]]]]] = [
        ("Cells", [("precision", [p.precision for p in cells]), ("recall", [p.recall for p in cells]),
                   ("Dice", [p.dice for p in cells])]),
        ("Objects", [("precision", [p.precision for p in objects]), ("recall", [p.recall for p in objects]),
                     ("recall, IoU 0.5", [p.strict_recall for p in objects])]),
    ]  # fmt: skip
    for axis, (title, lines) in zip(axes, curves, strict=True):
        for color, (name, values) in zip(COLORS, lines, strict=False):
            numbers = [np.nan if value is None else value for value in values]
            axis.plot([p.threshold for p in cells], numbers, color=color, label=name, linewidth=1.2)
        axis.axvline(score.cells.threshold, color=GREY, linewidth=0.8, linestyle="--")
        axis.set(title=title, xlabel="mask threshold", xlim=(0, 1), ylim=(0, 1.02))
        axis.legend(fontsize=7, frameon=False, loc="lower left")
    return _uri(figure)


def size_plot(sizes: Sequence[SizeScore]) -> str:
    """Draw recall against size with its intervals."""
    figure, (axis,) = _figure(1)
    met = [(k, s) for k, s in enumerate(sizes) if s.labels]
    _errorbars(axis, [(k, s.found / s.labels, s.low, s.high) for k, s in met], COLORS[0], "match rule")
    axis.set(title="Smallest target", xlabel="longer side in the frame, px", ylabel="recall", ylim=(0, 1.02))
    axis.set_xticks(range(len(sizes)), [f"{s.from_px}+" for s in sizes])
    return _uri(figure)


def certificate_plot(sizes: Sequence[SizeReading], names: Sequence[str]) -> bytes:
    """Draw, as SVG, recall against size with its intervals, and beside it what is right of the targets found.

    names: of the fields, a line each.
    """
    figure, (left, right) = _figure(2)
    met = [(k, s) for k, s in enumerate(sizes) if s.labels]
    _errorbars(left, [(k, s.found / s.labels, s.low, s.high) for k, s in met], COLORS[0], "recall")
    for color, name in zip(COLORS * 4, names, strict=False):
        fields = [(k, s.attributes[name]) for k, s in met if name in s.attributes]
        points = [(k, field.right / field.known, *wilson(field.right, field.known)) for k, field in fields]
        _errorbars(right, points, color, name)
    left.set(title="Found", ylabel="recall")
    right.set(title="Right of those found", ylabel="right and given")
    if names:
        right.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in (left, right):
        axis.set(xlabel="longer side in the frame, px", ylim=(0, 1.02))
        axis.set_xticks(range(len(sizes)), [span(s.from_px, s.upto_px) for s in sizes])
    return _bytes(figure)


def accuracy_size_plot(sizes: Sequence[SizeAccuracy]) -> str:
    """Draw accuracy against the size of the target in its frame, a line per head."""
    figure, (axis,) = _figure(1)
    edges = list(dict.fromkeys(item.from_px for item in sizes))
    for color, name in zip(COLORS * 4, dict.fromkeys(item.name for item in sizes), strict=False):
        met = [item for item in sizes if item.name == name and item.count]
        points = [(edges.index(i.from_px), i.right / i.count, i.low, i.high) for i in met]
        _errorbars(axis, points, color, name)
    axis.set(title="Accuracy by size", xlabel="longer side in the frame, px", ylabel="accuracy", ylim=(0, 1.02))
    axis.set_xticks(range(len(edges)), [f"{edge}+" for edge in edges])
    axis.legend(fontsize=7, frameon=False)
    return _uri(figure)


def frequency_plot(heads: Sequence[HeadScore]) -> str:
    """Draw the F1 of each class against how often it occurs."""
    figure, axes = _figure(len(heads))
    for axis, head in zip(axes, heads, strict=True):
        met = [c for c in head.classes if c.support]
        axis.scatter([c.support for c in met], [c.f1 for c in met], color=COLORS[0], s=10)
        r = "-" if head.frequency_r is None else f"{head.frequency_r:.2f}"
        axis.set(title=f"{head.name}, r = {r}", xlabel="labels of the class", ylabel="F1", ylim=(0, 1.02))
        axis.set_xscale("log")
    return _uri(figure)


def confusion_plot(name: str, classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """Draw a confusion matrix: rows are the truth, each row sums up to 1."""
    counts = np.asarray(confusion, float)
    rows = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = 1.5 + 0.15 * len(classes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches, inches), layout="constrained")
        axis = figure.add_subplot()
        axis.imshow(rows, cmap="Blues", vmin=0, vmax=1)
        axis.set(title=name, xlabel="answered", ylabel="true")
        axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
        axis.set_yticks(range(len(classes)), classes, fontsize=6)
    return _uri(figure, "png")


def _figure(columns: int) -> tuple[Figure, list[Axes]]:
    per_row = min(columns, 3)
    lines = -(-columns // per_row)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * per_row, 2.9 * lines), layout="constrained")
        axes = [figure.add_subplot(lines, per_row, number + 1) for number in range(columns)]
    return figure, axes


def _bins(axis: Axes, bins: Sequence[Bin], color: str, label: str) -> None:
    met = [item for item in bins if item.count]
    x, y = [item.confidence for item in met], [item.accuracy for item in met]
    axis.plot(x, y, color=color, label=label, marker="o", markersize=3, linewidth=1.0)


def _errorbars(axis: Axes, points: Sequence[tuple[int, float, float, float]], color: str, label: str) -> None:
    x, y, low, high = (np.array(column) for column in zip(*points, strict=True)) if points else (np.zeros(0),) * 4
    below, above = np.maximum(y - low, 0), np.maximum(high - y, 0)
    axis.errorbar(x, y, (below, above), color=color, label=label, marker="o", markersize=3, linewidth=1.0, capsize=2)


def _uri(figure: Figure, kind: str = "svg") -> str:
    return uri(_bytes(figure, kind), kind)


def uri(picture: bytes, kind: str = "svg") -> str:
    """Return a plot as the text of an <img> source."""
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(picture).decode()}"


def _bytes(figure: Figure, kind: str = "svg") -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()

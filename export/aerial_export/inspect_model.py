"""`aerial-export --inspect`: what a model file is. Free of torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerial_export.cost import macs, parameters
from aerial_export.onnx_file import read_model
from aerial_runtime.bundle import MODELS, Bundle
from aerial_runtime.bundle import SUFFIX as BUNDLE_SUFFIX
from aerial_runtime.card import ModelCard, TensorSpec
from aerial_runtime.console import labels_of
from aerial_runtime.engine_card import ENGINE_SUFFIX, EngineCard, read_engine_card
from aerial_runtime.errors import InputError

Lines = list[tuple[str, str]]


def inspect(path: Path, frame_size: tuple[int, int]) -> str:
    """Return the description of a model file, some lines. frame_size: width, height in pixels, for the cost.

    Raises InputError for the file.
    """
    if path.suffix == ".onnx":
        return description(path, _onnx_lines(path, frame_size))
    if path.suffix == ENGINE_SUFFIX:
        return description(path, _engine_lines(read_engine_card(path)))
    if path.suffix == BUNDLE_SUFFIX:
        bundle = Bundle(path)
        with bundle.unpacked() as folder:
            models = [inspect(folder / name, frame_size) for name in MODELS]
        return "\n\n".join((description(path, _bundle_lines(bundle)), *models))
    raise InputError(f"{path} is no model file; give a .pt, .onnx, .engine or .aerial file")


def description(path: Path, lines: Lines) -> str:
    """Return lines as a text, below those that say which file it is. Raises InputError where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); check the path") from error
    lines = [
        ("file", f"{path.name}, {len(data):,} bytes"),
        ("sha256", hashlib.sha256(data).hexdigest()),
        *lines,
    ]
    width = max(len(key) for key, _ in lines) + 2
    return "\n".join(f"{key:<{width}}{value}" for key, value in lines)


def _onnx_lines(path: Path, frame_size: tuple[int, int]) -> Lines:
    _, model, card = read_model(path)
    width, height = frame_size
    if card.kind == "segmenter":
        per, sizes = f"a {width}x{height} frame", {"height": height, "width": width}
    else:
        per, sizes = "a crop", {"crops": 1}
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    graph = f"{card.precision}, opset {opset}, IR {model.ir_version}"
    return [("graph", graph), ("cost", cost_line(parameters(model), macs(model, sizes), per)), *card_lines(card)]


def _engine_lines(facts: EngineCard) -> Lines:
    host = facts.host
    width, height = facts.frame_size or (0, 0)
    size = f"frames of {width}x{height} px" if facts.frame_size else f"up to {facts.max_crops} crops"
    return [
        ("engine", f"{facts.card.precision}, {size}, built with a workspace of {facts.workspace_mib} MiB"),
        ("for", f"{host.gpu} (compute capability {host.compute_capability}), TensorRT {host.tensorrt}"),
        ("key", facts.key),
        ("cost", f"that of {facts.onnx}: aerial-export --inspect {facts.onnx}"),
        *card_lines(facts.card),
    ]


def _bundle_lines(bundle: Bundle) -> Lines:
    manifest = bundle.manifest
    targets = ", ".join(f"{labels_of(target)} at {target.box.x},{target.box.y}" for target in manifest.golden)
    return [
        ("bundle", f"{manifest.name!r}, label space {manifest.label_space.name!r}"),
        ("holds", ", ".join(bundle.names)),
        ("golden", f"{len(manifest.golden)} targets: {targets}"),
        ("made with", _flat(manifest.made_by)),
    ]


def cost_line(count: int, macs_: int, per: str) -> str:
    """Return parameters and multiply-accumulates for a reader."""
    work = f"{macs_ / 1e9:.2f} GMAC" if macs_ >= 1e8 else f"{macs_ / 1e6:.2f} MMAC"
    return f"{count / 1e3:.0f} k parameters, {work} for {per}"


def card_lines(card: ModelCard) -> Lines:
    """Return everything a card says, for a reader."""
    space, made = card.label_space, card.artefact
    lines: Lines = [("model", f"{card.kind} {card.name!r}, label space {space.name!r}")]
    lines += [(f"  {head.name}", f"{len(head.classes)}: {' '.join(head.classes)}") for head in space.heads]
    if space.heading is not None:
        lines.append((f"  {space.heading.name}", f"{len(space.heading.sectors)}: {' '.join(space.heading.sectors)}"))
    lines += [("input", _tensor(spec)) for spec in card.inputs] + [("output", _tensor(spec)) for spec in card.outputs]
    framing = f"a cell per {card.stride} px" if card.kind == "segmenter" else f"crops of {card.crop_size} px"
    views = f", {card.views} views" if card.views > 1 else ""
    lines.append(("framing", f"{framing}, margin {card.crop_margin:g}{views}"))
    thresholds = card.thresholds
    own = f"mask {thresholds.mask:g}" if card.kind == "segmenter" else f"target {thresholds.target:g}"
    lines.append(("thresholds", ", ".join([own, *(f"{name} {at:g}" for name, at in thresholds.abstain.items())])))
    rows: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("temperature", card.temperature),
        ("scores", {name: f"{value:.4g}" for name, value in card.scores.items()}),
        ("training", card.training),
        ("made with", made.tools if made else {}),
    )
    lines += [(key, _flat(values)) for key, values in rows if values]
    lines.append(("weights", card.weights_sha256 or "not recorded"))
    lines += [(f"made of {role}", digest) for role, digest in (made.ancestors.items() if made else ())]
    return lines


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _flat(values: Mapping[str, Any]) -> str:
    """Return "a 1, b 2" of a table; empty values are left out."""
    parts = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            parts.append(f"{key} ({_flat(value)})")
        elif value not in ("", [], None):
            parts.append(f"{key} {value}")
    return ", ".join(parts)

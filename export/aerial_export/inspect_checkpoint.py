"""`aerial-export --inspect` of a checkpoint: on the ground, where torch is."""

from __future__ import annotations

from pathlib import Path

from aerial_export.inspect_model import card_lines, cost_line, description
from aerial_train.checkpoint import load_checkpoint
from aerial_train.network_summary import summarise


def inspect_checkpoint(path: Path, frame_size: tuple[int, int]) -> str:
    """Return the description of a checkpoint, some lines. frame_size: width, height in pixels, for the cost.

    Raises ModelError for the file.
    """
    checkpoint = load_checkpoint(path)
    card = checkpoint.card
    width, height = frame_size if card.kind == "segmenter" else (card.crop_size or 0, card.crop_size or 0)
    summary = summarise(checkpoint.network, (1, height, width, 3))
    per = f"a {width}x{height} frame" if card.kind == "segmenter" else "a crop"
    return description(path, [("cost", cost_line(summary.parameters, summary.macs, per)), *card_lines(card)])

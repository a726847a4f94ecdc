"""`aerial-export --verify`: the gate again, where the model flies. Free of torch and onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aerial_export.goldens import goldens_beside
from aerial_export.parity import check_control, check_parity
from aerial_export.parity_report import report_block
from aerial_runtime.backends import open_backend


def verify(path: Path, device: str, progress: Callable[[str], None]) -> None:
    """Run the gate on a model file, with the goldens beside it.

    Raises InputError for the file or its goldens, ResourceError for the device, CheckError where the gate closes.
    """
    with open_backend(path, device) as backend:
        goldens = goldens_beside(path, backend.card)
        precision = backend.card.precision
        reports = [check_parity(backend, goldens, precision), check_control(backend.card, goldens, precision)]
    progress("\n\n".join(map(report_block, reports)))
    reports[0].require(goldens.reference)

"""`aerial-export --verify`: the gate again, where the model flies. Free of torch and onnx."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from aerial_export.devices import devices_for
from aerial_export.engine_gate import judge_engine
from aerial_export.goldens import SUFFIX, GoldenSet, check_owner, goldens_beside, goldens_from_bytes
from aerial_export.parity import check_control, check_parity
from aerial_export.parity_report import report_block
from aerial_runtime.backends import Backend, open_backend
from aerial_runtime.bundle import MODELS, Bundle
from aerial_runtime.bundle import SUFFIX as BUNDLE_SUFFIX
from aerial_runtime.engine_card import ENGINE_SUFFIX, read_engine_card
from aerial_runtime.errors import InputError
from aerial_runtime.pipeline import Pipeline

Progress = Callable[[str], None]


def verify(path: Path, device: str | None, progress: Progress) -> None:
    """Run the gate on a model file with the goldens beside it, or on a bundle with what it holds.

    device: None takes the CPU, of an engine its GPU. Raises InputError for the file or its goldens, ResourceError for
    the device, CheckError where the gate closes.
    """
    device = device or devices_for(path)[0]
    if path.suffix == BUNDLE_SUFFIX:
        _verify_bundle(Bundle(path), device, progress)
        return
    if path.suffix == ENGINE_SUFFIX:
        judge_engine(path, path.with_name(read_engine_card(path).onnx), device, progress)
        return
    with open_backend(path, device) as backend:
        _verify_model(backend, goldens_beside(path, backend.card), progress)


def _verify_model(backend: Backend, goldens: GoldenSet, progress: Progress) -> None:
    precision = backend.card.precision
    report = check_parity(backend, goldens, precision)
    progress(report_block(report) + "\n\n" + report_block(check_control(backend.card, goldens, precision)))
    report.require(goldens.reference)


def _verify_bundle(bundle: Bundle, device: str, progress: Progress) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(bundle.unpacked())
        backends = [stack.enter_context(open_backend(folder / name, device)) for name in MODELS]
        segmenter, classifier = backends
        bundle.check(segmenter.card, classifier.card, Pipeline(segmenter, classifier))
        progress(f"{bundle.path.name}: checksums, cards and the {len(bundle.manifest.golden)} golden targets are right")
        for backend in backends:
            name = Path(backend.name).with_suffix(SUFFIX).name
            if name not in bundle.names:
                raise InputError(
                    f"{bundle.path} holds no {name}, so no more than the above can be checked; bundle models that have "
                    "their .goldens.npz beside them"
                )
            goldens = goldens_from_bytes(bundle.read(name), f"{bundle.path}/{name}")
            check_owner(goldens, backend.card, name, backend.name)
            _verify_model(backend, goldens, progress)

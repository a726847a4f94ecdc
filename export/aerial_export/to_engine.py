"""ONNX file -> TensorRT engine, on the machine that flies it. Free of torch.

The file's own types decide the precision: the network is strongly typed, which TensorRT 10 offers and 11 enforces.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from aerial_export.new_files import new_files
from aerial_export.onnx_file import read_model
from aerial_export.tensorrt_graph import fixed_card, for_tensorrt
from aerial_export.timings import TIMINGS_SUFFIX, read_timings, timings_to_bytes
from aerial_runtime import __version__
from aerial_runtime.backends.nvidia import Gpu, cuda_errors, gpu_number, host_of, import_libraries, make_log
from aerial_runtime.card import Artefact, ModelCard
from aerial_runtime.engine_card import (
    EngineCard,
    Host,
    card_path,
    check_engine,
    engine_card_to_json,
    engine_name,
    host_tag,
    read_engine_card,
)
from aerial_runtime.errors import ModelError, ResourceError
from aerial_runtime.segment import MAX_CANDIDATES

if TYPE_CHECKING:
    import tensorrt as trt

MEMINFO: Final = Path("/proc/meminfo")
MIB: Final = 1 << 20
BUILDER_MIB: Final = 1024  # what TensorRT takes beside the workspace: an estimate, nothing was measured
USUAL_CROPS: Final = 16  # the batch that a classifier's kernels are chosen for
TELL_EVERY_S: Final = 5.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for.

    frame_size: width, height in pixels, the only one that a segmenter's engine takes. max_crops: of a classifier's
    call. workspace_mib: GPU memory that a layer may use for itself. device: "auto" (the first GPU) or "cuda:N".
    """

    frame_size: tuple[int, int] = (1920, 1080)
    max_crops: int = MAX_CANDIDATES
    workspace_mib: int = 1024
    device: str = "auto"


def build_engine(
    onnx: Path, options: EngineOptions, progress: Progress, judge: Callable[[Path], None] | None = None
) -> Path:
    """Write this machine's engine of an FP16 (or FP32) ONNX file, and its card, beside it; return the engine's path.

    judge: is given the new engine before it replaces an old one, and raises to keep the old. An engine that was built
    from the same file for the same use stays as it is. Raises ModelError for the file, ResourceError for TensorRT, the
    GPU, memory or the disk.
    """
    data, model, card = read_model(onnx)
    trt, cuda = import_libraries()
    number = gpu_number(options.device, onnx)
    facts = _facts(onnx, data, card, host_of(trt, cuda, number), options)
    engine = onnx.with_name(engine_name(Path(facts.onnx).stem, facts.host, card.precision))
    if _is_built(engine, facts.key):
        progress(f"{engine.name} is there already, built from the same {onnx.name} for the same use")
        return engine
    timings_path = onnx.with_name(host_tag(facts.host) + TIMINGS_SUFFIX)
    known_timings = read_timings(timings_path, progress)
    graph = for_tensorrt(model, facts.card).SerializeToString()
    progress(f"building {engine.name}: minutes, on a Jetson more")
    monitor = make_monitor(trt, progress)

    def build() -> tuple[bytes, bytes]:
        with cuda_errors(cuda, f"the building of {engine.name}"):
            gpu = Gpu(cuda, number, engine.name)
            try:
                with gpu.current():
                    _require_memory(cuda, number, options.workspace_mib)
                    return _built(trt, graph, facts, known_timings, monitor, progress)
            finally:
                gpu.close()

    plan, timings = _interruptible(build, monitor)
    facts = msgspec.structs.replace(facts, sha256=hashlib.sha256(plan).hexdigest())
    with new_files(onnx.parent) as folder:
        new = folder / engine.name
        new.write_bytes(plan)
        card_path(new).write_text(engine_card_to_json(facts), encoding="utf-8")
        (folder / timings_path.name).write_bytes(timings_to_bytes(timings))
        if judge is not None:
            judge(new)
    return engine


def _facts(onnx: Path, data: bytes, card: ModelCard, host: Host, options: EngineOptions) -> EngineCard:
    """Return the card of the engine that is to be built, without the engine's own hash."""
    digest = hashlib.sha256(data).hexdigest()
    is_segmenter = card.kind == "segmenter"
    frame_size, max_crops = (options.frame_size, None) if is_segmenter else (None, options.max_crops)
    workspace_mib = options.workspace_mib
    went_in = (digest, host, frame_size, max_crops, workspace_mib, __version__)
    made = card.artefact or Artefact()
    role = "onnx" if card.precision == "fp32" else f"{card.precision}.onnx"
    artefact = msgspec.structs.replace(
        made,
        ancestors={**made.ancestors, role: digest},
        tools={**made.tools, "aerial": __version__, "tensorrt": host.tensorrt},
    )
    fixed = fixed_card(card, options.frame_size) if is_segmenter else card
    return EngineCard(
        card=msgspec.structs.replace(fixed, artefact=artefact),
        host=host,
        onnx=onnx.name.removesuffix(".onnx").removesuffix(f".{card.precision}") + ".onnx",
        sha256="",
        key=hashlib.sha256(msgspec.json.encode(went_in)).hexdigest(),
        workspace_mib=workspace_mib,
        frame_size=frame_size,
        max_crops=max_crops,
    )


def _is_built(engine: Path, key: str) -> bool:
    """Tell whether an engine of this key is there, whole."""
    try:
        card = read_engine_card(engine)
        check_engine(engine, engine.read_bytes(), card)
    except (ModelError, OSError):  # missing, damaged, of an older version: it is built anew
        return False
    return card.key == key


def _require_memory(cuda: Any, number: int, workspace_mib: int) -> None:
    """Raise ResourceError where building would fail, after minutes, for want of memory."""
    free_mib, main_mib = cuda.mem_get_info()[0] // MIB, _available_mib()
    needed_mib = workspace_mib + BUILDER_MIB
    if cuda.Device(number).get_attribute(cuda.device_attribute.INTEGRATED):
        # A Jetson's GPU uses the main memory, and does not count as free what files are cached in.
        wants = [("memory", needed_mib, max(free_mib, main_mib or 0))]
    else:
        wants = [("GPU memory", needed_mib, free_mib), ("main memory", BUILDER_MIB, main_mib)]
    for what, needed, free in wants:
        if free is not None and free < needed:
            raise ResourceError(
                f"building an engine takes about {needed} MiB of {what} ({workspace_mib} of them the workspace), "
                f"{free} are free; close other programs, or give a smaller --workspace"
            )


def _available_mib() -> int | None:
    """Return the main memory that programs can still get; None where the system does not say."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["MemAvailable"].split()[0]) // 1024


def _built(
    trt: Any, graph: bytes, facts: EngineCard, known_timings: bytes, monitor: Any, progress: Progress
) -> tuple[bytes, bytes]:
    """Return the engine and the timing cache of a graph, on the GPU whose context is current."""
    log = make_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        first = parser.get_error(0).desc() if parser.num_errors else log.reason()
        raise ModelError(f"TensorRT does not understand the model {facts.card.name} ({first}); fly its ONNX file")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, facts.workspace_mib * MIB)
    config.clear_flag(trt.BuilderFlag.TF32)  # what the file leaves in FP32 is there to be exact
    config.progress_monitor = monitor
    config.add_optimization_profile(_profile(builder, facts))
    cache = _set_cache(config, known_timings, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ResourceError(
            f"TensorRT could not build an engine of {facts.card.name} ({log.reason()}); give another --workspace, or "
            "fly the ONNX file"
        )
    timings = config.get_timing_cache().serialize()
    del cache  # not before: TensorRT does not own it
    return bytes(plan), bytes(timings)


def _profile(builder: trt.Builder, facts: EngineCard) -> trt.IOptimizationProfile:
    """Return the least, the usual and the largest shape of the input."""
    spec = facts.card.inputs[0]
    largest = facts.largest_shape(spec)
    least, usual = largest, largest  # of a frame there is one size alone
    if facts.max_crops is not None:
        least, usual = ((count, *largest[1:]) for count in (1, min(USUAL_CROPS, facts.max_crops)))
    profile = builder.create_optimization_profile()
    profile.set_shape(spec.name, least, usual, largest)
    return profile


def _set_cache(config: trt.IBuilderConfig, known: bytes, progress: Progress) -> trt.ITimingCache:
    """Let TensorRT start from what it measured before; return the cache, which must outlive the building."""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        progress("TensorRT does not take the timings of earlier builds; measuring anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _interruptible(build: Callable[[], tuple[bytes, bytes]], monitor: Any) -> tuple[bytes, bytes]:
    """Build in another thread, for within TensorRT's own code nobody hears Ctrl-C."""
    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(build).result()
        except BaseException:
            monitor.stopped.set()  # and the pool waits until TensorRT has ended, at its next step
            raise


def make_monitor(trt: Any, progress: Progress) -> Any:
    """Return what TensorRT reports its progress to, and asks whether to go on."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """stopped: set it to end the building."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = threading.Event()
            self._lock = threading.Lock()
            self._steps: dict[str, int] = {}
            self._start_s = self._told_s = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Remember how long a phase is; TensorRT calls this, and the others, from any of its threads."""
            with self._lock:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Tell how far it is, every few seconds; return whether to go on."""
            with self._lock:
                now_s = time.monotonic()
                if now_s - self._told_s >= TELL_EVERY_S:
                    self._told_s = now_s
                    steps = self._steps.get(phase_name, 0)
                    progress(f"{now_s - self._start_s:.0f} s: {phase_name}, step {step + 1} of {steps}")
            return not self.stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """Nothing is left of a phase that is over."""
            with self._lock:
                self._steps.pop(phase_name, None)

    return Monitor()

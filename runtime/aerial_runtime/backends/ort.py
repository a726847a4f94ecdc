"""ONNX Runtime, on the CPU or on an NVIDIA GPU by its CUDA or its TensorRT provider."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from aerial_runtime.backends.base import Array, Backend
from aerial_runtime.card import CARD_METADATA_KEY, ModelCard, TensorSpec, card_from_json
from aerial_runtime.contract import U8
from aerial_runtime.errors import ModelError, ResourceError

DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}  # of the graph contract; others show as they are
LOG_ERRORS_ONLY = 3
CPU = "CPUExecutionProvider"
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}  # by the device's kind
SAME_SIZE_RUNS = 16  # after which a frame size is taken for the camera's; no frame has as many equal tiles in a row
WORK = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # a GPU that leaves these to the CPU does nothing


class OrtBackend(Backend):
    """A model in an ONNX file, run by ONNX Runtime."""

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None) -> None:
        """Load `path`.

        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda:N", or "tensorrt:N" (CUDA device N by ONNX
        Runtime's TensorRT provider, which builds engines of its own); a named device never falls back.
        threads: at most so many; None: one for each core this process may use.
        Raises ModelError for the file or its card, ResourceError for the engine or the device.
        """
        self._ort = ort = _import_engine()
        self._threads = threads
        try:
            # Read once: the bytes that are hashed are the bytes that fly, even if the file is replaced meanwhile.
            self._data = data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the model {path} ({error.strerror}); check the path") from error
        self._errors = engine_errors()
        try:
            self._session = self._open(_providers(ort, device), {})
        except self._errors as error:
            raise ModelError(f"{path} is not a usable ONNX model ({_first_line(error)}); export it again") from error
        provider = self._session.get_providers()[0]
        if device != "auto":
            self._require(device, provider)
        card = self._read_card(path)
        super().__init__(path.name, card, "sha256:" + hashlib.sha256(data).hexdigest(), provider)
        self._device_memory = None if provider == CPU else DeviceMemory(ort, self._session, "cuda", _number(device))
        self._axes = self._session.get_inputs()[0].shape  # a name where the size is open
        self._sized_for: tuple[int, ...] | None = None
        self._last_shape: tuple[int, ...] = ()
        self._in_a_row = 0

    def _open(self, providers: list[Any], sizes: Mapping[str, int]) -> Any:
        """Return a session whose graph has these sizes of open axes. Raises the engine's own errors."""
        options = session_options(self._ort, self._threads)
        for axis, size in sizes.items():
            options.add_free_dimension_override_by_name(axis, size)
        session = self._ort.InferenceSession(self._data, options, providers)
        session.disable_fallback()
        return session

    def _require(self, device: str, provider: str) -> None:
        """Raise ResourceError unless the provider asked for is used: ONNX Runtime falls back with a mere log line."""
        if provider != _provider(device):
            raise ResourceError(f"the device {device} could not be opened; check the driver, or give --device cpu")
        left = work_on_cpu(self._session) if provider != CPU else []
        if left:
            raise ResourceError(
                f"the device {device} leaves {', '.join(left)} to the CPU; install an ONNX Runtime that fits the "
                "driver, or give --device cpu"
            )

    def _read_card(self, path: Path) -> ModelCard:
        """Return the card inside the file, after comparing it with the graph."""
        try:
            text = self._session.get_modelmeta().custom_metadata_map.get(CARD_METADATA_KEY)
        except self._errors as error:  # UnicodeDecodeError is a ValueError
            raise ModelError(f"the metadata of {path} are damaged ({error}); export it again") from error
        if text is None:
            raise ModelError(f"{path} holds no model card; make it with aerial-export, which puts the card inside")
        card = card_from_json(text, str(path))
        _compare(path, card.inputs, self._session.get_inputs())
        _compare(path, card.outputs, self._session.get_outputs())
        return card

    def _run(self, inputs: U8) -> Mapping[str, Array]:
        names, name = [spec.name for spec in self.card.outputs], self.card.inputs[0].name
        try:
            if self._device_memory is not None:
                return dict(zip(names, self._device_memory.run(name, inputs, names), strict=True))
            if self.card.kind == "segmenter":
                self._fit_session(inputs.shape)
            return dict(zip(names, self._session.run(names, {name: inputs}), strict=True))
        except self._errors as error:
            shape = list(inputs.shape)
            raise ModelError(f"{self.name} failed on an input of {shape} ({_first_line(error)})") from error

    def _fit_session(self, shape: tuple[int, ...]) -> None:
        """Take a session for this very size once SAME_SIZE_RUNS frames in a row had it, and one for any size else.

        With its size known the graph pads inside a convolution, in the layout that the convolutions use: the same
        numbers in 0.94 times the time. A session takes 7 ms to make.
        """
        self._in_a_row = self._in_a_row + 1 if shape == self._last_shape else 1
        self._last_shape = shape
        if self._sized_for is None and self._in_a_row == SAME_SIZE_RUNS:
            sizes = {axis: size for axis, size in zip(self._axes, shape, strict=True) if isinstance(axis, str)}
            self._session, self._sized_for = self._open([CPU], sizes), shape
        elif self._sized_for not in (None, shape):
            self._session, self._sized_for = self._open([CPU], {}), None

    def close(self) -> None:
        """Free the session and its memory arena."""
        self._session = self._device_memory = None


class DeviceMemory:
    """Inputs and outputs of a session that stay on the device from one call to the next of the same shape."""

    def __init__(self, ort: Any, session: Any, kind: str, number: int) -> None:
        """kind, number: the device, as ONNX Runtime names it."""
        self._ort, self._session, self._place = ort, session, (kind, number)
        self._binding = session.io_binding()
        self._input: Any = None

    def run(self, name: str, inputs: U8, outputs: Sequence[str]) -> list[Array]:
        """Copy the one input over, run, copy the outputs back. Raises the engine's own errors."""
        if self._input is not None and tuple(self._input.shape()) == inputs.shape:
            self._input.update_inplace(inputs)
        else:
            self._input = self._ort.OrtValue.ortvalue_from_numpy(inputs, *self._place)
            self._binding.bind_ortvalue_input(name, self._input)
            for output in outputs:  # anew, for they have other shapes as well
                self._binding.bind_output(output, *self._place)
        self._session.run_with_iobinding(self._binding)
        results: list[Array] = self._binding.copy_outputs_to_cpu()
        return results


def _import_engine() -> Any:
    """Return the onnxruntime module. Raises ResourceError where there is none, or two that overwrite each other."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) > 1:
        raise ResourceError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "uninstall both, then, in the checkout, pip install '.[cpu]' or '.[gpu]'"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise ResourceError(f"no inference engine ({error}); in the checkout, pip install '.[cpu]'") from error
    onnxruntime.set_default_logger_severity(LOG_ERRORS_ONLY)
    return onnxruntime


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def engine_errors() -> tuple[type[Exception], ...]:
    """Return the engine's exception classes: they share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*errors, RuntimeError, ValueError)


def session_options(ort: Any, threads: int | None) -> Any:
    """Return the settings that were fastest at 1080p (docs/decisions.md); the defaults not named here stay."""
    options = ort.SessionOptions()
    options.log_severity_level = LOG_ERRORS_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL  # the only one with the NCHWc layout
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    cores = _cores()
    options.intra_op_num_threads = min(threads or cores, cores)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning robs camera and socket
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # for `work_on_cpu`
    options.enable_cpu_mem_arena = True
    return options


def _cores() -> int:
    """Return the CPU cores of this process: a container or taskset may hold fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _provider(device: str) -> str:
    """Return the name of the provider that a named device is reached by."""
    return CPU if device == "cpu" else PROVIDERS[device.partition(":")[0]]


def _number(device: str) -> int:
    return 0 if device == "auto" else int(device.partition(":")[2])


def _providers(ort: Any, device: str) -> list[Any]:
    """Return ONNX Runtime's provider list for a device. Raises ResourceError where a named device cannot be."""
    available = ort.get_available_providers()
    if device == "cpu" or (device == "auto" and PROVIDERS["cuda"] not in available):
        return [CPU]
    wanted = _provider("cuda" if device == "auto" else device)
    if wanted not in available:
        raise ResourceError(
            f"the device {device} is not available, the installed engine has no {wanted}; "
            "in the checkout, pip install '.[gpu]' instead of '.[cpu]', or give --device cpu"
        )
    # TensorRT leaves what it cannot do to CUDA; the sizes are computed on the CPU in any case.
    names = dict.fromkeys((wanted, PROVIDERS["cuda"]))
    return [*((name, {"device_id": _number(device)}) for name in names), CPU]


def work_on_cpu(session: Any) -> list[str]:
    """Return the operators among WORK that run on the CPU; none where ONNX Runtime is too old to tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == CPU]
    return sorted({node.op_type for part in parts for node in part.get_nodes() if node.op_type in WORK})


def _compare(path: Path, specs: tuple[TensorSpec, ...], tensors: list[Any]) -> None:
    """Raise ModelError where the card and the graph disagree about inputs or outputs."""
    graph = {tensor.name: tensor for tensor in tensors}
    if set(graph) != {spec.name for spec in specs}:
        names = sorted(spec.name for spec in specs)
        raise ModelError(f"the card of {path} names {names}, its graph {sorted(graph)}; export it again")
    for spec in specs:
        tensor = graph[spec.name]
        dtype = DTYPES.get(tensor.type, tensor.type)
        fits = dtype == spec.dtype and len(tensor.shape) == len(spec.shape)
        if not fits or any(_differs(*axes) for axes in zip(spec.shape, tensor.shape, strict=True)):
            card_says = f"the card of {path} says that {spec.name!r} is {spec.dtype} {list(spec.shape)}"
            raise ModelError(f"{card_says}, its graph that it is {dtype} {tensor.shape}; export it again")


def _differs(of_card: int | str, of_graph: int | str | None) -> bool:
    """Tell whether one axis differs; where the graph leaves it open, the check of each result decides."""
    return isinstance(of_graph, int) and of_card != of_graph


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

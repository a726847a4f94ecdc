"""The stand-in of tensorrt; see nvidia_standin.py."""

from __future__ import annotations

import json
import weakref
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import onnx
import onnxruntime
from nvidia_api import recorded
from nvidia_conform import conform, make_module
from onnx import TensorProto

MAGIC = b"STANDIN1"
STEPS = 4  # of a building


def make_tensorrt(world: Any) -> Any:
    """Return the stand-in of tensorrt."""
    api = recorded()[f"tensorrt {world.version}"]
    enums = {
        name: IntEnum(name, {member: number for number, member in enumerate(api[name])})  # type: ignore[misc]
        for name in ("NetworkDefinitionCreationFlag", "BuilderFlag", "MemoryPoolType", "DataType", "TensorIOMode")
    }
    data_types = {TensorProto.UINT8: enums["DataType"].UINT8, TensorProto.FLOAT: enums["DataType"].FLOAT}

    class ILogger:
        Severity = Enum("Severity", list(api["ILogger.Severity"]))

        def __init__(self) -> None: ...

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    class IProgressMonitor:
        def __init__(self) -> None: ...

    def fail(logger: Any, message: str) -> None:
        logger.log(ILogger.Severity.ERROR, f"{message}\nfurther lines")

    class Builder:
        def __init__(self, logger: Any) -> None:
            world.need_context()
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            strict = 1 << int(enums["NetworkDefinitionCreationFlag"].STRONGLY_TYPED)
            if world.version.startswith("10.") and not flags & strict:
                raise AssertionError(
                    "a weakly typed network takes its precision from builder flags, not from the graph"
                )
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            return IBuilderConfig(self._logger)

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            world.need_context()
            if world.break_at("build_serialized_network") == "none":
                fail(self._logger, "Error Code 10: no implementation for node conv1")
                return None
            if not _report_steps(config._monitor):
                return None
            model = network._model
            name = model.graph.input[0].name
            largest, shapes = config._profile[name][2], config._profile[name]
            dims = [dim.dim_value or -1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
            for dim, *sizes in zip(dims, *shapes, strict=True):
                if dim != -1 and set(sizes) != {dim}:
                    fail(self._logger, f"Error Code 4: the profile of {name} contradicts the network")
                    return None
            world.builds.append({"largest": largest, "pools": config._pools, "cleared": config._cleared})
            config._cache._tactics = b"timed"
            head = {"version": world.version, "gpu": world.gpu, "shapes": shapes}
            text = json.dumps(head).encode()
            return IHostMemory(MAGIC + len(text).to_bytes(4, "little") + text + model.SerializeToString())

    def _report_steps(monitor: Any) -> bool:
        if monitor is None:
            return True
        monitor.phase_start("Building Engine", None, STEPS)
        for step in range(STEPS):
            world.on_step(step)
            if not monitor.step_complete("Building Engine", step):
                return False
        monitor.phase_finish("Building Engine")
        return True

    class INetworkDefinition:
        def __init__(self) -> None:
            self._model: Any = None

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network, self._errors = network, []

        def parse(self, model: bytes, path: Any = None) -> bool:
            proto = onnx.load_model_from_string(model)
            self._errors = [ParserError(text) for text in _refusals(proto)]
            self._network._model = proto
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    class ParserError:
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

    class IBuilderConfig:
        def __init__(self, logger: Any) -> None:
            self._logger, self._monitor, self._profile = logger, None, {}
            self._pools: dict[str, int] = {}
            self._cleared: list[str] = []
            self._cache = ITimingCache(b"")

        @property
        def progress_monitor(self) -> Any:
            return self._monitor

        @progress_monitor.setter
        def progress_monitor(self, monitor: Any) -> None:
            self._monitor = monitor

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._pools[pool.name] = pool_size

        def clear_flag(self, flag: Any) -> None:
            self._cleared.append(flag.name)

        def add_optimization_profile(self, profile: Any) -> int:
            self._profile = profile._shapes
            return 0

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            return world.break_at("create_timing_cache") or ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if not isinstance(cache, ITimingCache):
                raise TypeError("set_timing_cache(): incompatible function arguments")
            if cache._tactics and cache._tactics != b"timed":
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            if not all(low <= usual <= high for low, usual, high in zip(min, opt, max, strict=True)):
                raise ValueError("Shape provided for min, opt and max are not in order")
            self._shapes[input] = (min, opt, max)

    class ITimingCache:
        def __init__(self, tactics: bytes) -> None:
            self._tactics = tactics

        def serialize(self) -> Any:
            return IHostMemory(self._tactics)

    class IHostMemory(bytes):
        @property
        def nbytes(self) -> int:
            return len(self)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            world.need_context()
            self._logger = logger
            _watch(self, "runtime")

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            world.need_context()
            data = serialized_engine
            if data[:8] != MAGIC:
                fail(self._logger, "Error Code 1: Serialization (magicTag is wrong)")
                return None
            size = int.from_bytes(data[8:12], "little")
            head = json.loads(data[12 : 12 + size])
            if (head["version"], head["gpu"]) != (world.version, world.gpu):
                fail(self._logger, "Error Code 6: the engine plan file is not compatible with this version of TensorRT")
                return None
            return ICudaEngine(self, head["shapes"], data[12 + size :])

    class ICudaEngine:
        def __init__(self, runtime: Any, shapes: Any, model: bytes) -> None:
            self._runtime, self._shapes = runtime, shapes
            self._model = onnx.load_model_from_string(model)
            self._tensors = [*self._model.graph.input, *self._model.graph.output]
            _watch(self, "engine")

        def _tensor(self, name: str) -> Any:
            return next(tensor for tensor in self._tensors if tensor.name == name)

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return str(self._tensors[index].name)

        def get_tensor_mode(self, name: str) -> Any:
            mode = enums["TensorIOMode"]
            return mode.INPUT if name == self._model.graph.input[0].name else mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return data_types[self._tensor(name).type.tensor_type.elem_type]

        def create_execution_context(self, strategy: Any = None) -> Any:
            world.need_context()
            if world.break_at("create_execution_context") == "none":
                fail(self._runtime._logger, "Error Code 2: OutOfMemory")
                return None
            return IExecutionContext(self)

    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self._engine, self._logger = engine, engine._runtime._logger
            self._session = onnxruntime.InferenceSession(
                engine._model.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            self._addresses: dict[str, int] = {}
            self._shape: tuple[int, ...] = ()
            _watch(self, "execution")

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            least, _, largest = self._engine._shapes
            if not all(low <= size <= high for low, size, high in zip(least, shape, largest, strict=True)):
                fail(self._logger, "Error Code 3: the shape is outside the profile")
                return False
            self._shape = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> Any:
            dims = self._engine._tensor(name).type.tensor_type.shape.dim
            return [dim.dim_value or self._shape[0] for dim in dims]

        def execute_async_v3(self, stream_handle: int) -> bool:
            world.need_context()
            if world.break_at("execute_async_v3") == "false":
                fail(self._logger, "Error Code 1: Cuda Runtime (an illegal memory access was encountered)")
                return False
            world.streams[stream_handle].append(self._compute)
            return True

        def _compute(self) -> None:
            source = self._engine._model.graph.input[0].name
            frame = self._bytes_of(source, int(np.prod(self._shape))).reshape(self._shape)
            for info, values in zip(self._session.get_outputs(), self._session.run(None, {source: frame}), strict=True):
                wrong = np.roll(values, 1, axis=-1) if world.break_at("compute") else values
                self._bytes_of(info.name, values.nbytes)[:] = wrong.reshape(-1).view(np.uint8)

        def _bytes_of(self, name: str, size: int) -> Any:
            memory = world.memory[self._addresses[name]]._bytes  # a KeyError here would be a crash on a GPU
            if memory.nbytes < size:
                raise AssertionError(f"the buffer of {name} has {memory.nbytes} bytes, {size} are used")
            return memory[:size]

    def _watch(thing: Any, name: str) -> None:
        """Note when a thing is freed: outside a context it could not be."""
        weakref.finalize(thing, lambda: world.events.append(name if world.stack() else f"{name} without a context"))

    classes = [
        Builder, INetworkDefinition, OnnxParser, ParserError, IBuilderConfig, IOptimizationProfile, ITimingCache,
        IHostMemory, Runtime, ICudaEngine, IExecutionContext, ILogger, IProgressMonitor,
    ]  # fmt: skip
    for kind in classes:
        conform(kind, api, kind.__name__)
    members: dict[str, Any] = {kind.__name__: kind for kind in classes} | enums
    return make_module("tensorrt", api, {**members, "__version__": world.version})


def _refusals(model: Any) -> list[str]:
    """Return why TensorRT would not take a graph: bytes that something other than a Cast reads or makes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    of_bytes = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.UINT8}
    strange = [
        node.op_type
        for node in graph.node
        if node.op_type != "Cast" and of_bytes.intersection((*node.input, *node.output))
    ]
    inner = of_bytes - {info.name for info in (*graph.input, *graph.output)}
    return [f"TensorRT does not support UINT8 types for {name}" for name in (*strange, *inner)]

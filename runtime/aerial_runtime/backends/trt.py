"""NVIDIA TensorRT: an engine with its buffers and its stream on one GPU, used by the one thread that opened it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aerial_runtime.backends.base import Array, Backend
from aerial_runtime.backends.nvidia import Gpu, cuda_errors, gpu_number, host_of, import_libraries, make_log
from aerial_runtime.card import TensorSpec
from aerial_runtime.contract import U8
from aerial_runtime.engine_card import (
    build_again,
    check_engine,
    check_host,
    check_source,
    engine_name,
    read_engine_card,
)
from aerial_runtime.errors import ModelError, ResourceError

if TYPE_CHECKING:
    import pycuda.driver as cuda


class _Buffer(NamedTuple):
    """An input or output at its largest. host: an array in `pinned` memory. device: its twin on the GPU."""

    host: Array
    pinned: cuda.PagelockedHostAllocation
    device: cuda.DeviceAllocation


class TrtBackend(Backend):
    """A model in a TensorRT engine."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        """Load an engine, after checking that it was built for this GPU and this TensorRT.

        device: "auto" (the first GPU) or "cuda:N". The thread that loads it owns the CUDA context: every other call
        must come from it. Raises ModelError for the file or its card, ResourceError for TensorRT or the GPU.
        """
        number = gpu_number(device, path)
        self._path = path
        self._facts = read_engine_card(path)
        try:
            data = path.read_bytes()
            check_engine(path, data, self._facts)
        except OSError as error:
            raise ModelError(f"cannot read the engine {path} ({error.strerror}); check the path") from error
        self._trt, self._cuda = import_libraries()
        host = host_of(self._trt, self._cuda, number)
        check_host(path, self._facts, host)
        provider = f"TensorRT {host.tensorrt} on {host.gpu}"
        super().__init__(path.name, self._facts.card, f"sha256:{self._facts.sha256}", provider)
        self._gpu: Gpu | None = None
        self._buffers: dict[str, _Buffer] = {}
        with cuda_errors(self._cuda, path.name):
            self._gpu = Gpu(self._cuda, number, path.name)
            try:
                with self._gpu.current():
                    self._open(data)
            except BaseException:
                self.close()
                raise

    def _open(self, data: bytes) -> None:
        trt, cuda = self._trt, self._cuda
        self._log = make_log(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            again = build_again(self._path, self._facts)
            raise ModelError(f"TensorRT cannot load {self.name} ({self._log.reason()}); {again}")
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise ResourceError(
                f"no room on the GPU for {self.name} ({self._log.reason()}); close other programs that use it"
            )
        self._check_tensors()
        self._stream = cuda.Stream()
        for spec in (*self.card.inputs, *self.card.outputs):
            shape = self._facts.largest_shape(spec)
            host = cuda.pagelocked_empty(shape, np.dtype(spec.dtype))
            buffer = _Buffer(host, host.base, cuda.mem_alloc(host.nbytes))
            self._buffers[spec.name] = buffer
            self._execution.set_tensor_address(spec.name, int(buffer.device))

    def _check_tensors(self) -> None:
        """Raise ModelError unless the engine's tensors are the card's: the buffers' sizes rest on them."""
        if not (self._takes_the_input() and self._gives_the_outputs()):
            again = build_again(self._path, self._facts)
            raise ModelError(f"the inputs and outputs of {self.name} are not those of its card; {again}")

    def _takes_the_input(self) -> bool:
        """Tell whether the input is the card's, and give it its largest shape."""
        trt, engine, spec = self._trt, self._engine, self.card.inputs[0]
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        if {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT} != {spec.name}:
            return False
        is_bytes = engine.get_tensor_dtype(spec.name) == trt.DataType.UINT8
        return is_bytes and bool(self._execution.set_input_shape(spec.name, self._facts.largest_shape(spec)))

    def _gives_the_outputs(self) -> bool:
        """Tell whether the outputs are the card's, at the input's largest shape."""
        trt, engine, specs = self._trt, self._engine, self.card.outputs
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        if names != {spec.name for spec in (*self.card.inputs, *specs)}:
            return False
        dtypes = {"uint8": trt.DataType.UINT8, "float32": trt.DataType.FLOAT}
        return all(
            engine.get_tensor_dtype(spec.name) == dtypes.get(spec.dtype)
            and tuple(self._execution.get_tensor_shape(spec.name)) == self._facts.largest_shape(spec)
            for spec in specs
        )

    def infer(self, inputs: U8) -> dict[str, Array]:
        """See the base class. The arrays returned are the caller's to keep."""
        size = self._facts.frame_size
        if size is not None and inputs.ndim == 4 and inputs.shape[1:3] != size[::-1]:
            height, width = inputs.shape[1:3]
            again = build_again(self._path, self._facts, (width, height))
            raise ModelError(f"{self.name} takes frames of {size[0]}x{size[1]} px, not {width}x{height}; {again}")
        return super().infer(inputs)

    def _run(self, inputs: U8) -> Mapping[str, Array]:
        """Run the engine, several times where there are more crops than it takes at once."""
        if self._gpu is None:
            raise ResourceError(f"{self.name} is closed; open it again")
        most = len(self._buffers[self.card.inputs[0].name].host)
        outputs = {spec.name: self._empty(spec, len(inputs)) for spec in self.card.outputs}
        with cuda_errors(self._cuda, self.name), self._gpu.current():
            for start in range(0, len(inputs), most):
                self._run_batch(inputs[start : start + most], {name: out[start:] for name, out in outputs.items()})
        return outputs

    def _empty(self, spec: TensorSpec, count: int) -> Array:
        host = self._buffers[spec.name].host
        return np.empty((count, *host.shape[1:]), host.dtype)

    def _run_batch(self, batch: U8, outputs: Mapping[str, Array]) -> None:
        """Run once; write into the first rows of `outputs`."""
        cuda, name, count = self._cuda, self.card.inputs[0].name, len(batch)
        source = self._buffers[name]
        np.copyto(source.host[:count], batch)
        cuda.memcpy_htod_async(source.device, source.host[:count], self._stream)
        shaped = self._execution.set_input_shape(name, tuple(batch.shape))
        if not (shaped and self._execution.execute_async_v3(self._stream.handle)):
            raise ModelError(f"{self.name} failed on an input of {list(batch.shape)} ({self._log.reason()})")
        for output in outputs:
            result = self._buffers[output]
            cuda.memcpy_dtoh_async(result.host[:count], result.device, self._stream)
        self._stream.synchronize()
        for output, array in outputs.items():
            np.copyto(array[:count], self._buffers[output].host[:count])

    def close(self) -> None:
        """Free everything, what needs something before what is needed. Raises ResourceError in another thread."""
        if self._gpu is None:
            return
        # A GPU that has failed can free nothing, and its error has been told already.
        with suppress(self._cuda.Error), self._gpu.current():
            self._execution = self._engine = self._runtime = None
            while self._buffers:
                _, buffer = self._buffers.popitem()
                buffer.device.free()
                buffer.pinned.free()
            self._stream = None
        self._gpu.close()
        self._gpu = None


def find_engine(onnx: Path) -> Path:
    """Return this device's engine beside an FP32 ONNX file, of the names that aerial-export gives.

    Raises ResourceError without TensorRT or GPU, ModelError where no engine is for them or it was built from another
    model.
    """
    trt, cuda = import_libraries()
    host = host_of(trt, cuda, 0)
    paths = [onnx.with_name(engine_name(onnx.stem, host, precision)) for precision in ("fp16", "fp32")]
    engine = next((path for path in paths if path.is_file()), None)
    if engine is None:
        again = build_again(paths[0])
        raise ModelError(f"no engine beside {onnx} is for {host.gpu} with TensorRT {host.tensorrt}; {again}")
    check_source(engine, read_engine_card(engine), onnx)
    return engine

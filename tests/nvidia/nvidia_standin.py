"""Stand-ins for `tensorrt` and `pycuda.driver`: the names and signatures of the real ones, ONNX Runtime inside.

A stand-in that offered a name the recorded API lacks would not be built; a call that the real signature does not take
is a TypeError, as it is with pybind11. "Device memory" lies in arrays; what is asynchronous happens when its stream is
synchronised, from what the memory holds then. CUDA calls fail without a current context. TensorRT's rules that our
graphs have met are kept: bytes at the edges alone and made or read by a Cast, strongly typed, shapes within the
profile, plans of this very version and GPU.
"""

from __future__ import annotations

import gc
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

from nvidia_standin_cuda import make_driver
from nvidia_standin_tensorrt import make_tensorrt


class World:
    """One machine: what its GPU is, what is allocated, what happened, and what is to go wrong.

    events: what was freed, in order. broken: name of a call -> what it raises, or returns, instead of working.
    """

    def __init__(self, version: str, gpu: str = "Orin", capability: tuple[int, int] = (8, 7)) -> None:
        self.version, self.gpu, self.capability, self.gpus = version, gpu, capability, 1
        self.free_bytes, self.is_integrated = 6 << 30, 1
        # Address -> DeviceAllocation, and pinned memory: weak, for PyCUDA too frees what nobody holds any more.
        self.memory: Any = weakref.WeakValueDictionary()
        self.pinned: Any = weakref.WeakSet()
        self.streams: dict[int, Any] = {}
        self.retained = 0
        self.current = threading.local()
        self.events: list[str] = []
        self.broken: dict[str, Any] = {}
        self.builds: list[dict[str, Any]] = []
        self.on_step: Callable[[int], None] = lambda step: None
        self.cuda = make_driver(self)
        self.trt = make_tensorrt(self)

    def modules(self) -> dict[str, types.ModuleType]:
        """Return what to put into sys.modules."""
        package = types.ModuleType("pycuda")
        package.driver = self.cuda  # type: ignore[attr-defined]
        return {"tensorrt": self.trt, "pycuda": package, "pycuda.driver": self.cuda}

    def stack(self) -> list[Any]:
        """Return the contexts that are pushed in this thread."""
        if not hasattr(self.current, "stack"):
            self.current.stack = []
        stack: list[Any] = self.current.stack
        return stack

    def is_clean(self) -> bool:
        """Tell whether everything has been given back."""
        gc.collect()
        return not (self.retained or len(self.memory) or len(self.pinned) or self.streams or self.stack())

    def need_context(self) -> None:
        """Fail as CUDA does where no context is current."""
        if not self.stack():
            raise self.cuda.LogicError("invalid device context")

    def break_at(self, name: str) -> Any:
        """Raise, or return, what is to happen at a call of this name; None where all is well."""
        trouble = self.broken.get(name)
        if isinstance(trouble, Exception):
            raise trouble
        return trouble

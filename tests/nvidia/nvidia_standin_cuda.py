"""The stand-in of pycuda.driver; see nvidia_standin.py."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
from nvidia_api import PYCUDA, recorded
from nvidia_conform import conform, make_module


def make_driver(world: Any) -> Any:
    """Return the stand-in of pycuda.driver."""
    api = recorded()[f"pycuda {PYCUDA}"]

    class Error(Exception): ...

    class LogicError(Error): ...

    class MemoryError(Error): ...

    class LaunchError(Error): ...

    class Device:
        def __init__(self, number: int) -> None:
            if not 0 <= number < world.gpus:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        def name(self) -> str:
            return world.gpu

        def compute_capability(self) -> tuple[int, int]:
            return world.capability

        def get_attribute(self, attribute: Any) -> int:
            return {device_attribute.INTEGRATED: world.is_integrated}[attribute]

        def retain_primary_context(self) -> Context:
            world.break_at("retain_primary_context")
            return Context()

    class Context:
        def __init__(self) -> None:
            world.retained += 1
            weakref.finalize(self, _release)

        def push(self) -> None:
            world.stack().append(self)

        @staticmethod
        def pop() -> None:
            world.need_context()
            world.stack().pop()

    def _release() -> None:
        world.retained -= 1
        world.events.append("context")

    class Stream:
        def __init__(self) -> None:
            world.need_context()
            self._work: list[Callable[[], None]] = []
            world.streams[id(self)] = self._work
            weakref.finalize(self, _end, id(self))

        @property
        def handle(self) -> int:
            return id(self)

        def synchronize(self) -> None:
            world.need_context()
            world.break_at("synchronize")
            work = self._work[:]
            self._work.clear()
            for task in work:
                task()

    def _end(number: int) -> None:
        del world.streams[number]
        world.events.append("stream")

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self._bytes: Any = np.full(size, 0xCC, np.uint8)
            world.memory[int(self)] = self

        def __int__(self) -> int:
            return int(self._bytes.ctypes.data)

        def free(self) -> None:
            if int(self) not in world.memory:
                raise LogicError("device_allocation::free failed: invalid resource handle")
            world.need_context()
            del world.memory[int(self)]
            world.events.append("device memory")

    class PagelockedHostAllocation:
        def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
            self._bytes = np.full(int(np.prod(shape)) * dtype.itemsize, 0xCC, np.uint8)
            # An array made from this has this as its base, as PyCUDA's arrays have.
            place = (self._bytes.ctypes.data, False)
            self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": place, "version": 3}
            world.pinned.add(self)

        def free(self) -> None:
            world.pinned.remove(self)
            world.events.append("pinned memory")

    device_attribute = Enum("device_attribute", list(api["device_attribute"]))  # type: ignore[misc]

    def init(flags: int = 0) -> None:
        world.break_at("init")

    def mem_get_info() -> tuple[int, int]:
        world.need_context()
        return world.free_bytes, 8 << 30

    def mem_alloc(size: int) -> Any:
        world.need_context()
        world.break_at("mem_alloc")
        return DeviceAllocation(size)

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        world.need_context()
        return np.asarray(PagelockedHostAllocation(shape, np.dtype(dtype)))

    def _pinned_bytes(array: Any) -> Any:
        if not array.flags.c_contiguous or not any(_within(array, owner._bytes) for owner in world.pinned):
            raise LogicError("the host memory is not pinned, or not in one piece")
        return array.reshape(-1).view(np.uint8)

    def memcpy_htod_async(dest: Any, src: Any, stream: Any = None) -> None:
        world.need_context()
        source, target = _pinned_bytes(src), dest._bytes[: src.nbytes]
        stream._work.append(lambda: np.copyto(target, source))

    def memcpy_dtoh_async(dest: Any, src: Any, stream: Any = None) -> None:
        world.need_context()
        target, source = _pinned_bytes(dest), src._bytes[: dest.nbytes]
        stream._work.append(lambda: np.copyto(target, source))

    classes = [Device, Context, Stream, DeviceAllocation, PagelockedHostAllocation]
    for kind in classes:
        conform(kind, api, kind.__name__)
    functions = [init, mem_get_info, mem_alloc, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async]
    errors = [Error, LogicError, MemoryError, LaunchError]
    members = {item.__name__: item for item in (*classes, *functions, *errors)}
    return make_module("pycuda.driver", api, {**members, "device_attribute": device_attribute})


def _within(array: Any, owner: Any) -> bool:
    start = owner.ctypes.data
    return bool(start <= array.ctypes.data and array.ctypes.data + array.nbytes <= start + owner.nbytes)

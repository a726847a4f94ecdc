"""A V4L2 driver in memory: it answers the calls on raw bytes, at the offsets of linux/videodev2.h on 64 bits.

Offsets and call numbers were printed by a C program with the kernel's header, so that the device layer is checked
against them and not against itself.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque

BUFFER_BYTES = 1 << 20
ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0xC0405602, 0xC02C564A, 0xC034564B


def code(fourcc: str) -> int:
    return int.from_bytes(fourcc.encode(), "little")


class FakeKernel:
    """One camera: formats {fourcc: {(width, height): rates}}; `send` lets a picture arrive."""

    def __init__(self) -> None:
        self.formats = {
            "YUYV": {(64, 48): [30, 15], (128, 96): [10]},
            "MJPG": {(64, 48): [30], (128, 96): [30]},
        }
        self.capabilities = 0x04200001
        self.exposure = (1, 5000)  # in 100 us; None: no such control
        self.now = ["YUYV", 64, 48]
        self.rate = 30
        self.row_bytes = 0  # 0: as many as the pixels need
        self.controls: dict[int, int] = {}
        self.memory = os.memfd_create("camera")
        os.ftruncate(self.memory, 4 * BUFFER_BYTES)
        self.free: deque[int] = deque()
        self.ready: deque[tuple[int, int, int, int, int]] = deque()
        self.is_streaming = False
        self.failure: int | None = None  # errno of all further calls

    def open(self, *_: object) -> int:
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        return os.dup(self.memory)

    def send(self, data: bytes, sequence: int, mono_ns: int = 0, flags: int = 0x2000) -> None:
        """Fill a buffer, if one is free; else the picture is lost, as in life."""
        if self.free:
            index = self.free.popleft()
            os.pwrite(self.memory, data, index * BUFFER_BYTES)
            self.ready.append((index, len(data), sequence, mono_ns, flags))

    def wait(self, wait_s: float) -> bool:
        return bool(self.ready) or self.failure is not None

    def ioctl(self, _: int, number: int, argument: object) -> int:
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        view = memoryview(argument).cast("B")  # type: ignore[arg-type]
        calls = {
            0x80685600: self._capability,
            ENUM_FMT: self._format_entry,
            ENUM_FRAMESIZES: self._size_entry,
            ENUM_FRAMEINTERVALS: self._interval_entry,
            0xC0D05604: self._get_format,
            0xC0D05605: self._set_format,
            0xC0CC5615: self._get_rate,
            0xC0CC5616: self._set_rate,
            0xC008561C: self._control,
            0xC0445624: self._control_range,
            0xC0145608: lambda view: struct.pack_into("=I", view, 0, 3),
            0xC0585609: self._buffer,
            0xC058560F: lambda view: self.free.append(*struct.unpack_from("=I", view, 0)),
            0xC0585611: self._take,
            0x40045612: lambda _: setattr(self, "is_streaming", True),
            0x40045613: lambda _: setattr(self, "is_streaming", False),
        }
        if number not in calls:
            raise OSError(errno.ENOTTY, "unknown call")
        calls[number](view)
        return 0

    def _capability(self, view: memoryview) -> None:
        struct.pack_into("=II", view, 0x54, 0x80000000 | self.capabilities | 1, self.capabilities)

    def _format_entry(self, view: memoryview) -> None:
        index, kind = struct.unpack_from("=II", view, 0)
        struct.pack_into("=I", view, 0x2C, code(self._entry(list(self.formats), index)))
        assert kind == 1

    def _size_entry(self, view: memoryview) -> None:
        index, fourcc = struct.unpack_from("=II", view, 0)
        size = self._entry(list(self._sizes(fourcc)), index)
        if len(size) == 2:
            struct.pack_into("=III", view, 8, 1, *size)
        else:  # stepwise: lowest, highest, step of width, then of height
            struct.pack_into("=I6I", view, 8, 3, *size)

    def _interval_entry(self, view: memoryview) -> None:
        index, fourcc, width, height = struct.unpack_from("=4I", view, 0)
        rates = self._sizes(fourcc).get((width, height), [])
        struct.pack_into("=III", view, 16, 1, 1, self._entry(rates, index))

    def _sizes(self, fourcc: int) -> dict:
        return next(sizes for name, sizes in self.formats.items() if code(name) == fourcc)

    def _entry(self, entries: list, index: int):
        if index >= len(entries):
            raise OSError(errno.EINVAL, "no more")
        return entries[index]

    def _get_format(self, view: memoryview) -> None:
        fourcc, width, height = self.now
        struct.pack_into("=5I", view, 8, width, height, code(fourcc), 1, self.row_bytes)

    def _set_format(self, view: memoryview) -> None:
        width, height, fourcc = struct.unpack_from("=3I", view, 8)
        name = next((name for name in self.formats if code(name) == fourcc), next(iter(self.formats)))
        sizes = list(self.formats[name])
        size = (width, height) if (width, height) in sizes else sizes[0]
        self.now = [name, *size]
        self.rate = self.formats[name][size][0]
        self._get_format(view)

    def _get_rate(self, view: memoryview) -> None:
        struct.pack_into("=IIII", view, 4, 0x1000, 0, 1, self.rate)

    def _set_rate(self, view: memoryview) -> None:
        above, below = struct.unpack_from("=II", view, 12)
        name, *size = self.now
        self.rate = min(self.formats[name][tuple(size)], key=lambda rate: abs(rate - below / above))
        self._get_rate(view)

    def _control(self, view: memoryview) -> None:
        number, value = struct.unpack_from("=Ii", view, 0)
        if self.exposure is None:
            raise OSError(errno.EINVAL, "no such control")
        if number == 0x9A0902 and not self.exposure[0] <= value <= self.exposure[1]:
            raise OSError(errno.ERANGE, "out of range")
        self.controls[number] = value

    def _control_range(self, view: memoryview) -> None:
        if self.exposure is None:
            raise OSError(errno.EINVAL, "no such control")
        struct.pack_into("=ii", view, 0x28, *self.exposure)

    def _buffer(self, view: memoryview) -> None:
        (index,) = struct.unpack_from("=I", view, 0)
        struct.pack_into("=I", view, 0x40, index * BUFFER_BYTES)
        struct.pack_into("=I", view, 0x48, BUFFER_BYTES)

    def _take(self, view: memoryview) -> None:
        if not self.ready:
            raise BlockingIOError(errno.EAGAIN, "none is ready")
        index, used, sequence, mono_ns, flags = self.ready.popleft()
        struct.pack_into("=I", view, 0, index)
        struct.pack_into("=II", view, 8, used, flags)
        struct.pack_into("=qq", view, 0x18, mono_ns // 10**9, mono_ns % 10**9 // 1000)
        struct.pack_into("=I", view, 0x38, sequence)

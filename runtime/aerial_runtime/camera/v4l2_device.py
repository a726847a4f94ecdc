"""A V4L2 camera by the kernel's calls, and nothing that decides.

OpenCV has a V4L2 reader too, but it tells neither what a device offers nor how many frames were lost nor when one was
taken, and it waits in whole seconds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerial_runtime.camera import v4l2_kernel as kernel
from aerial_runtime.contract import U8

LISTED = 64  # entries of each list that are asked for: a driver that counts on for ever would hold us


@dataclass(frozen=True)
class Format:
    """How pictures come: four letters, pixels, bytes from row to row."""

    fourcc: str
    width: int
    height: int
    row_bytes: int = 0


@dataclass(frozen=True)
class Picture:
    """One buffer of the driver, valid until it is given back. mono_ns: None where its clock is not ours, or it
    has left the time out."""

    index: int
    data: U8  # [bytes]
    sequence: int
    mono_ns: int | None
    is_damaged: bool


class V4l2Device:
    """One open device. Every method may raise OSError, and only that."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises OSError, ENOTTY where it is no camera."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._maps: list[mmap.mmap] = []
        try:
            found = kernel.Capability()
            self._call(kernel.QUERYCAP, found)
            can = found.own_capabilities if found.capabilities & kernel.HAS_OWN_CAPABILITIES else found.capabilities
            if not (can & kernel.CAN_CAPTURE and can & kernel.CAN_STREAM):
                raise OSError(errno.ENOTTY, "it captures no video")
        except OSError:
            self.close()
            raise

    def formats(self) -> list[str]:
        """Return the pixel formats that the device offers, in its own order."""
        entries = (kernel.FormatEntry(index=index, type=kernel.CAPTURE) for index in range(LISTED))
        return [_letters(entry.fourcc) for entry in self._listed(kernel.ENUM_FMT, entries)]

    def sizes(self, fourcc: str) -> list[str]:
        """Return the sizes of a format, each with its rates, for a person to read; empty where the driver has none."""
        entries = (kernel.SizeEntry(index=index, fourcc=_code(fourcc)) for index in range(LISTED))
        lines = []
        for entry in self._listed(kernel.ENUM_FRAMESIZES, entries):
            size = list(entry.size)
            if entry.type == kernel.DISCRETE:
                lines.append(f"{size[0]}x{size[1]}{self._rates(fourcc, size[0], size[1])}")
            else:
                lines.append(f"{size[0]}x{size[3]} to {size[1]}x{size[4]}{self._rates(fourcc, size[1], size[4])}")
        return lines

    def _rates(self, fourcc: str, width: int, height: int) -> str:
        code = _code(fourcc)
        entries = (
            kernel.IntervalEntry(index=index, fourcc=code, width=width, height=height) for index in range(LISTED)
        )
        rates: list[str] = []
        for entry in self._listed(kernel.ENUM_FRAMEINTERVALS, entries):
            pairs = list(entry.fraction)
            ends = [pairs[0:2]] if entry.type == kernel.DISCRETE else [pairs[2:4], pairs[0:2]]
            rates.append(" to ".join(f"{below / above:g}" for above, below in ends if above))
        return f" at {', '.join(rates)}" if rates else ""

    def format(self) -> Format:
        """Return how pictures come at present."""
        found = kernel.Format(type=kernel.CAPTURE)
        self._call(kernel.G_FMT, found)
        return _plain(found.fmt.pixels)

    def set_format(self, wish: Format) -> Format:
        """Ask for a format; return what the device made of it."""
        found = kernel.Format(type=kernel.CAPTURE)
        found.fmt.pixels = kernel.Pixels(width=wish.width, height=wish.height, fourcc=_code(wish.fourcc))
        self._call(kernel.S_FMT, found)
        return _plain(found.fmt.pixels)

    def set_rate(self, fps: float | None) -> float | None:
        """Ask for frames a second, where given; return what the device made of it, None where it does not say."""
        rate = kernel.Rate(type=kernel.CAPTURE)
        try:
            self._call(kernel.G_PARM, rate)
            if fps is not None and rate.capability & kernel.CAN_SET_RATE:
                rate.numerator, rate.denominator = 1000, round(1000 * fps)
                self._call(kernel.S_PARM, rate)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise
        above: int = rate.denominator
        below: int = rate.numerator
        return above / below if above and below else None

    def set_exposure(self, exposure_ms: float | None) -> float | None:
        """Set a fixed exposure, or automatic for None; return what the device made of it in ms.

        OSError where the device cannot; automatic where it has none is no error.
        """
        if exposure_ms is None:
            for mode in (kernel.APERTURE_PRIORITY, kernel.AUTOMATIC):
                with suppress(OSError):
                    self._call(kernel.S_CTRL, kernel.Control(id=kernel.EXPOSURE_MODE, value=mode))
                    break
            return None
        with suppress(OSError):  # some have no automatic and no switch for it
            self._call(kernel.S_CTRL, kernel.Control(id=kernel.EXPOSURE_MODE, value=kernel.MANUAL))
        control = kernel.Control(id=kernel.EXPOSURE_100_US, value=min(round(exposure_ms * 10), 2**31 - 1))
        self._call(kernel.S_CTRL, control)
        return float(control.value) / 10

    def exposure_range_ms(self) -> tuple[float, float]:
        """Return the shortest and the longest exposure in ms."""
        found = kernel.ControlRange(id=kernel.EXPOSURE_100_US)
        self._call(kernel.QUERYCTRL, found)
        return found.minimum / 10, found.maximum / 10

    def start(self, buffers: int) -> None:
        """Let pictures come, into at most so many buffers."""
        request = kernel.Request(count=buffers, type=kernel.CAPTURE, memory=kernel.MAPPED)
        self._call(kernel.REQBUFS, request)
        for index in range(request.count):
            buffer = kernel.Buffer(index=index, type=kernel.CAPTURE, memory=kernel.MAPPED)
            self._call(kernel.QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._descriptor, buffer.length, offset=buffer.where.offset))
            self._call(kernel.QBUF, buffer)
        self._call(kernel.STREAMON, ctypes.c_int(kernel.CAPTURE))

    def wait(self, wait_s: float) -> bool:
        """Tell whether a picture is there within so many seconds. Raises OSError where none will ever be."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        events = poll.poll(wait_s * 1000)
        if events and not events[0][1] & select.POLLIN:  # `take` would say "none yet" again and again
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return bool(events)

    def take(self) -> Picture | None:
        """Return the oldest picture that is ready, None where none is. Raises OSError where the device is gone."""
        buffer = kernel.Buffer(type=kernel.CAPTURE, memory=kernel.MAPPED)
        try:
            self._call(kernel.DQBUF, buffer)
        except BlockingIOError:
            return None
        mono_ns = None
        if buffer.flags & kernel.CLOCK_MASK == kernel.CLOCK_MONOTONIC:
            mono_ns = (buffer.time.seconds * 1_000_000 + buffer.time.microseconds) * 1000 or None
        data = np.frombuffer(self._maps[buffer.index], np.uint8)[: buffer.used_bytes]
        return Picture(buffer.index, data, buffer.sequence, mono_ns, bool(buffer.flags & kernel.IS_DAMAGED))

    def give_back(self, picture: Picture) -> None:
        """Let the driver fill a buffer anew."""
        self._call(kernel.QBUF, kernel.Buffer(index=picture.index, type=kernel.CAPTURE, memory=kernel.MAPPED))

    def close(self) -> None:
        """Free the device, also one that is gone."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            self._call(kernel.STREAMOFF, ctypes.c_int(kernel.CAPTURE))
        self._maps.clear()  # each map ends when the last picture in it is dropped
        with suppress(OSError):
            self._call(kernel.REQBUFS, kernel.Request(type=kernel.CAPTURE, memory=kernel.MAPPED))  # none any more
        os.close(self._descriptor)
        self._descriptor = -1

    def _listed(self, call: int, entries: Iterator[ctypes.Structure]) -> Iterator[ctypes.Structure]:
        """Fill in entry after entry until the driver has no more, or no such list."""
        for entry in entries:
            try:
                self._call(call, entry)
            except OSError:
                return
            yield entry

    def _call(self, call: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        fcntl.ioctl(self._descriptor, call, argument)


def _letters(code: int) -> str:
    return code.to_bytes(4, "little").decode("ascii", "replace").strip()


def _code(fourcc: str) -> int:
    return int.from_bytes(fourcc.ljust(4).encode("ascii", "replace"), "little")


def _plain(pixels: kernel.Pixels) -> Format:
    return Format(_letters(pixels.fourcc), pixels.width, pixels.height, pixels.row_bytes)

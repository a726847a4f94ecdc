"""The kernel's side of a V4L2 camera: its calls and structures (linux/videodev2.h), and nothing that decides.

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

from aerial_runtime.contract import U8

CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, of one plane
MAPPED = 1  # V4L2_MEMORY_MMAP
CAN_CAPTURE, CAN_STREAM, HAS_OWN_CAPABILITIES = 0x1, 0x0400_0000, 0x8000_0000
CAN_SET_RATE = 0x1000
EXPOSURE_MODE, EXPOSURE_100_US = 0x9A0901, 0x9A0902  # V4L2_CID_EXPOSURE_AUTO and ..._ABSOLUTE
MANUAL, APERTURE_PRIORITY, AUTOMATIC = 1, 3, 0  # what webcams call automatic is the second
IS_DAMAGED = 0x40
CLOCK_MASK, CLOCK_MONOTONIC = 0xE000, 0x2000
DISCRETE = 1
LISTED = 64  # entries of each list that are asked for: a driver that counts on for ever would hold us

_U32 = ctypes.c_uint32


class _Capability(ctypes.Structure):
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus", ctypes.c_char * 32),
        ("version", _U32),
        ("capabilities", _U32),
        ("own_capabilities", _U32),
        ("reserved", _U32 * 3),
    )


class _FormatEntry(ctypes.Structure):
    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("flags", _U32),
        ("description", ctypes.c_char * 32),
        ("fourcc", _U32),
        ("rest", _U32 * 4),
    )


class _SizeEntry(ctypes.Structure):
    # Discrete: width, height. Else: lowest, highest, step of the width, then of the height.
    _fields_ = (("index", _U32), ("fourcc", _U32), ("type", _U32), ("size", _U32 * 6), ("reserved", _U32 * 2))


class _IntervalEntry(ctypes.Structure):
    # Seconds as fractions. Discrete: one. Else: shortest, longest, step.
    _fields_ = (
        ("index", _U32),
        ("fourcc", _U32),
        ("width", _U32),
        ("height", _U32),
        ("type", _U32),
        ("fraction", _U32 * 6),
        ("reserved", _U32 * 2),
    )


class _Pixels(ctypes.Structure):
    _fields_ = (
        ("width", _U32),
        ("height", _U32),
        ("fourcc", _U32),
        ("field", _U32),
        ("row_bytes", _U32),
        ("image_bytes", _U32),
        ("rest", _U32 * 6),
    )


class _FormatUnion(ctypes.Union):
    _fields_ = (("pixels", _Pixels), ("raw", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p))


class _Format(ctypes.Structure):
    _fields_ = (("type", _U32), ("fmt", _FormatUnion))


class _Rate(ctypes.Structure):
    _fields_ = (
        ("type", _U32),
        ("capability", _U32),
        ("mode", _U32),
        ("numerator", _U32),
        ("denominator", _U32),
        ("rest", ctypes.c_uint8 * 184),
    )


class _Control(ctypes.Structure):
    _fields_ = (("id", _U32), ("value", ctypes.c_int32))


class _ControlRange(ctypes.Structure):
    _fields_ = (
        ("id", _U32),
        ("type", _U32),
        ("name", ctypes.c_char * 32),
        ("minimum", ctypes.c_int32),
        ("maximum", ctypes.c_int32),
        ("rest", ctypes.c_int32 * 5),
    )


class _Request(ctypes.Structure):
    _fields_ = (("count", _U32), ("type", _U32), ("memory", _U32), ("rest", _U32 * 2))


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))


class _Where(ctypes.Union):
    _fields_ = (("offset", _U32), ("pointer", ctypes.c_ulong))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("used_bytes", _U32),
        ("flags", _U32),
        ("field", _U32),
        ("time", _Time),
        ("timecode", _U32 * 4),
        ("sequence", _U32),
        ("memory", _U32),
        ("where", _Where),
        ("length", _U32),
        ("rest", _U32 * 2),
    )


def _number(read: bool, write: bool, number: int, kind: type) -> int:
    """Return the number of a call as the macros _IOR, _IOW and _IOWR make it."""
    return (read << 31) | (write << 30) | (ctypes.sizeof(kind) << 16) | (ord("V") << 8) | number


QUERYCAP = _number(True, False, 0, _Capability)
ENUM_FMT = _number(True, True, 2, _FormatEntry)
G_FMT, S_FMT = _number(True, True, 4, _Format), _number(True, True, 5, _Format)
REQBUFS = _number(True, True, 8, _Request)
QUERYBUF, QBUF, DQBUF = (_number(True, True, number, _Buffer) for number in (9, 15, 17))
STREAMON, STREAMOFF = _number(False, True, 18, ctypes.c_int), _number(False, True, 19, ctypes.c_int)
G_PARM, S_PARM = _number(True, True, 21, _Rate), _number(True, True, 22, _Rate)
S_CTRL = _number(True, True, 28, _Control)
QUERYCTRL = _number(True, True, 36, _ControlRange)
ENUM_FRAMESIZES = _number(True, True, 74, _SizeEntry)
ENUM_FRAMEINTERVALS = _number(True, True, 75, _IntervalEntry)


@dataclass(frozen=True)
class Format:
    """How pictures come: four letters, pixels, bytes from row to row."""

    fourcc: str
    width: int
    height: int
    row_bytes: int = 0


@dataclass(frozen=True)
class Picture:
    """One buffer of the driver, valid until it is given back. mono_ns: None where its clock is not ours."""

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
            found = _Capability()
            self._call(QUERYCAP, found)
            can = found.own_capabilities if found.capabilities & HAS_OWN_CAPABILITIES else found.capabilities
            if not (can & CAN_CAPTURE and can & CAN_STREAM):
                raise OSError(errno.ENOTTY, "it captures no video")
        except OSError:
            self.close()
            raise

    def formats(self) -> list[str]:
        """Return the pixel formats that the device offers, in its own order."""
        entries = (_FormatEntry(index=index, type=CAPTURE) for index in range(LISTED))
        return [_letters(entry.fourcc) for entry in self._listed(ENUM_FMT, entries)]

    def sizes(self, fourcc: str) -> list[str]:
        """Return the sizes of a format, each with its rates, for a person to read; empty where the driver has none."""
        entries = (_SizeEntry(index=index, fourcc=_code(fourcc)) for index in range(LISTED))
        lines = []
        for entry in self._listed(ENUM_FRAMESIZES, entries):
            size = list(entry.size)
            if entry.type == DISCRETE:
                lines.append(f"{size[0]}x{size[1]}{self._rates(fourcc, size[0], size[1])}")
            else:
                lines.append(f"{size[0]}x{size[3]} to {size[1]}x{size[4]}{self._rates(fourcc, size[1], size[4])}")
        return lines

    def _rates(self, fourcc: str, width: int, height: int) -> str:
        code = _code(fourcc)
        entries = (_IntervalEntry(index=index, fourcc=code, width=width, height=height) for index in range(LISTED))
        rates: list[str] = []
        for entry in self._listed(ENUM_FRAMEINTERVALS, entries):
            pairs = list(entry.fraction)
            ends = [pairs[0:2]] if entry.type == DISCRETE else [pairs[2:4], pairs[0:2]]
            rates.append(" to ".join(f"{below / above:g}" for above, below in ends if above))
        return f" at {', '.join(rates)}" if rates else ""

    def format(self) -> Format:
        """Return how pictures come at present."""
        found = _Format(type=CAPTURE)
        self._call(G_FMT, found)
        return _plain(found.fmt.pixels)

    def set_format(self, wish: Format) -> Format:
        """Ask for a format; return what the device made of it."""
        found = _Format(type=CAPTURE)
        found.fmt.pixels = _Pixels(width=wish.width, height=wish.height, fourcc=_code(wish.fourcc))
        self._call(S_FMT, found)
        return _plain(found.fmt.pixels)

    def set_rate(self, fps: float | None) -> float | None:
        """Ask for frames a second, where given; return what the device made of it, None where it does not say."""
        rate = _Rate(type=CAPTURE)
        try:
            self._call(G_PARM, rate)
            if fps is not None and rate.capability & CAN_SET_RATE:
                rate.numerator, rate.denominator = 1000, round(1000 * fps)
                self._call(S_PARM, rate)
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
            for mode in (APERTURE_PRIORITY, AUTOMATIC):
                with suppress(OSError):
                    self._call(S_CTRL, _Control(id=EXPOSURE_MODE, value=mode))
                    break
            return None
        with suppress(OSError):  # some have no automatic and no switch for it
            self._call(S_CTRL, _Control(id=EXPOSURE_MODE, value=MANUAL))
        control = _Control(id=EXPOSURE_100_US, value=min(round(exposure_ms * 10), 2**31 - 1))
        self._call(S_CTRL, control)
        return float(control.value) / 10

    def exposure_range_ms(self) -> tuple[float, float]:
        """Return the shortest and the longest exposure in ms."""
        found = _ControlRange(id=EXPOSURE_100_US)
        self._call(QUERYCTRL, found)
        return found.minimum / 10, found.maximum / 10

    def start(self, buffers: int) -> None:
        """Let pictures come, into at most so many buffers."""
        request = _Request(count=buffers, type=CAPTURE, memory=MAPPED)
        self._call(REQBUFS, request)
        for index in range(request.count):
            buffer = _Buffer(index=index, type=CAPTURE, memory=MAPPED)
            self._call(QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._descriptor, buffer.length, offset=buffer.where.offset))
            self._call(QBUF, buffer)
        self._call(STREAMON, ctypes.c_int(CAPTURE))

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
        buffer = _Buffer(type=CAPTURE, memory=MAPPED)
        try:
            self._call(DQBUF, buffer)
        except BlockingIOError:
            return None
        mono_ns = None
        if buffer.flags & CLOCK_MASK == CLOCK_MONOTONIC:
            mono_ns = (buffer.time.seconds * 1_000_000 + buffer.time.microseconds) * 1000
        data = np.frombuffer(self._maps[buffer.index], np.uint8)[: buffer.used_bytes]
        return Picture(buffer.index, data, buffer.sequence, mono_ns, bool(buffer.flags & IS_DAMAGED))

    def give_back(self, picture: Picture) -> None:
        """Let the driver fill a buffer anew."""
        self._call(QBUF, _Buffer(index=picture.index, type=CAPTURE, memory=MAPPED))

    def close(self) -> None:
        """Free the device, also one that is gone."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            self._call(STREAMOFF, ctypes.c_int(CAPTURE))
        self._maps.clear()  # each map ends when the last picture in it is dropped
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


def _plain(pixels: _Pixels) -> Format:
    return Format(_letters(pixels.fourcc), pixels.width, pixels.height, pixels.row_bytes)

"""The calls, structures and constants of a V4L2 camera, as the kernel has them in linux/videodev2.h."""

from __future__ import annotations

import ctypes

CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, of one plane
MAPPED = 1  # V4L2_MEMORY_MMAP
CAN_CAPTURE, CAN_STREAM, HAS_OWN_CAPABILITIES = 0x1, 0x0400_0000, 0x8000_0000
CAN_SET_RATE = 0x1000
EXPOSURE_MODE, EXPOSURE_100_US = 0x9A0901, 0x9A0902  # V4L2_CID_EXPOSURE_AUTO and ..._ABSOLUTE
MANUAL, APERTURE_PRIORITY, AUTOMATIC = 1, 3, 0  # what webcams call automatic is the second
IS_DAMAGED = 0x40
CLOCK_MASK, CLOCK_MONOTONIC = 0xE000, 0x2000
DISCRETE = 1

_U32 = ctypes.c_uint32


class Capability(ctypes.Structure):
    """What a device is and can."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus", ctypes.c_char * 32),
        ("version", _U32),
        ("capabilities", _U32),
        ("own_capabilities", _U32),
        ("reserved", _U32 * 3),
    )


class FormatEntry(ctypes.Structure):
    """A pixel format of the device's list."""

    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("flags", _U32),
        ("description", ctypes.c_char * 32),
        ("fourcc", _U32),
        ("rest", _U32 * 4),
    )


class SizeEntry(ctypes.Structure):
    """A size of a format's list, or a range: lowest, highest, step of the width, then of the height."""

    _fields_ = (("index", _U32), ("fourcc", _U32), ("type", _U32), ("size", _U32 * 6), ("reserved", _U32 * 2))


class IntervalEntry(ctypes.Structure):
    """A time from picture to picture of a size's list, in seconds as fractions, or a range: shortest, longest, step."""

    _fields_ = (
        ("index", _U32),
        ("fourcc", _U32),
        ("width", _U32),
        ("height", _U32),
        ("type", _U32),
        ("fraction", _U32 * 6),
        ("reserved", _U32 * 2),
    )


class Pixels(ctypes.Structure):
    """How pictures come."""

    _fields_ = (
        ("width", _U32),
        ("height", _U32),
        ("fourcc", _U32),
        ("field", _U32),
        ("row_bytes", _U32),
        ("image_bytes", _U32),
        ("rest", _U32 * 6),
    )


class FormatUnion(ctypes.Union):
    """Pixels are the first of several kinds of format."""

    _fields_ = (("pixels", Pixels), ("raw", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p))


class Format(ctypes.Structure):
    """The format that is set."""

    _fields_ = (("type", _U32), ("fmt", FormatUnion))


class Rate(ctypes.Structure):
    """Seconds from picture to picture, as a fraction."""

    _fields_ = (
        ("type", _U32),
        ("capability", _U32),
        ("mode", _U32),
        ("numerator", _U32),
        ("denominator", _U32),
        ("rest", ctypes.c_uint8 * 184),
    )


class Control(ctypes.Structure):
    """The value of a control."""

    _fields_ = (("id", _U32), ("value", ctypes.c_int32))


class ControlRange(ctypes.Structure):
    """Which values a control takes."""

    _fields_ = (
        ("id", _U32),
        ("type", _U32),
        ("name", ctypes.c_char * 32),
        ("minimum", ctypes.c_int32),
        ("maximum", ctypes.c_int32),
        ("rest", ctypes.c_int32 * 5),
    )


class Request(ctypes.Structure):
    """How many buffers."""

    _fields_ = (("count", _U32), ("type", _U32), ("memory", _U32), ("rest", _U32 * 2))


class Time(ctypes.Structure):
    """The driver's time of capture."""

    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))


class Where(ctypes.Union):
    """Where a buffer lies."""

    _fields_ = (("offset", _U32), ("pointer", ctypes.c_ulong))


class Buffer(ctypes.Structure):
    """A buffer of the driver and the picture in it."""

    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("used_bytes", _U32),
        ("flags", _U32),
        ("field", _U32),
        ("time", Time),
        ("timecode", _U32 * 4),
        ("sequence", _U32),
        ("memory", _U32),
        ("where", Where),
        ("length", _U32),
        ("rest", _U32 * 2),
    )


def _number(read: bool, write: bool, number: int, kind: type) -> int:
    """Return the number of a call as the macros _IOR, _IOW and _IOWR make it."""
    return (read << 31) | (write << 30) | (ctypes.sizeof(kind) << 16) | (ord("V") << 8) | number


QUERYCAP = _number(True, False, 0, Capability)
ENUM_FMT = _number(True, True, 2, FormatEntry)
G_FMT, S_FMT = _number(True, True, 4, Format), _number(True, True, 5, Format)
REQBUFS = _number(True, True, 8, Request)
QUERYBUF, QBUF, DQBUF = (_number(True, True, number, Buffer) for number in (9, 15, 17))
STREAMON, STREAMOFF = _number(False, True, 18, ctypes.c_int), _number(False, True, 19, ctypes.c_int)
G_PARM, S_PARM = _number(True, True, 21, Rate), _number(True, True, 22, Rate)
S_CTRL = _number(True, True, 28, Control)
QUERYCTRL = _number(True, True, 36, ControlRange)
ENUM_FRAMESIZES = _number(True, True, 74, SizeEntry)
ENUM_FRAMEINTERVALS = _number(True, True, 75, IntervalEntry)

"""Decode one image file, refusing what is damaged or absurdly large before it costs memory."""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from aerial_runtime.camera.base import check_megapixels
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError
from aerial_runtime.say import stderr_taken

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START = b"\x89PNG\r\n\x1a\n"
DAMAGE = re.compile(r"^(libpng error|Corrupt JPEG data|Premature end of JPEG file).*", re.MULTILINE)
EXTRA_BYTES = re.compile(r"extraneous bytes before marker")
OURS = re.compile(r"aerial-|\{")  # how the lines of this program begin, for a person and as JSON
MESSAGE_BYTES = 65536  # of lines that are looked at; more do not fit the pipe
JPEG_START_OF_SCAN = 0xDA
JPEG_SIZE_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, without tables and extensions


def read_image(path: Path) -> U8:
    """Return the picture in a file as uint8 [H, W, 3] BGR, sensor pixels: an EXIF rotation is ignored.

    Grey becomes three equal channels, alpha is dropped, 16 bits are scaled to 8.
    Raises InputError where there is no whole picture in it, or one of more than MAX_FRAME_MEGAPIXELS.
    """
    return read_picture(path)[0]


def read_picture(path: Path) -> tuple[U8, bytes | None]:
    """Return the same, and the file itself where it is a JPEG or PNG. Raises InputError."""
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise InputError(f"{path} is no regular file")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    if not data:
        raise InputError(f"{path} is empty")
    try:
        width, height = image_size(data)
    except (struct.error, ValueError) as error:
        raise InputError(f"{path} is not a JPEG, PNG, TIFF or BMP image, or its header is damaged") from error
    check_megapixels(str(path), width, height)
    try:
        return decode_image(data), data if data.startswith((JPEG_START, PNG_START)) else None
    except InputError as error:
        raise InputError(f"{path} {error}") from error


def decode_image(data: bytes, *, may_be_padded: bool = False) -> U8:
    """Return a picture whose header `image_size` accepts, as uint8 [H, W, 3] BGR.

    Raises InputError that says what is wrong, without naming a file.
    may_be_padded: bytes too many are no damage; many webcams fill up their JPEGs.
    """
    if not _is_whole(data):
        raise InputError("is cut short: the end of the image is missing")
    try:
        image, lines = _decode(data)
    except cv2.error as error:
        raise InputError(f"cannot be decoded ({error.err})") from error
    except OSError as error:
        raise InputError(f"cannot be decoded ({error.strerror})") from error
    damage = DAMAGE.search(lines)
    if damage and not (may_be_padded and EXTRA_BYTES.search(damage.group())):
        raise InputError(f"is damaged ({damage.group()})")
    if image is None:
        raise InputError("cannot be decoded: its image data are damaged or of an unusual kind")
    return image


def _decode(data: bytes) -> tuple[U8 | None, str]:
    """Return the picture, and the lines that the decoder wrote to stderr, which do not get there.

    libjpeg says only there that half a picture is missing. What other threads write to stderr meanwhile gets there
    after all, a moment late. One thread at a time: of two, the later would put back what the earlier had put there.
    Raises cv2.error, and OSError where no file can be opened.
    """
    with stderr_taken:
        return _decode_alone(data)


def _decode_alone(data: bytes) -> tuple[U8 | None, str]:
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)  # a full pipe loses lines instead of waiting
        stderr = os.dup(2)
        try:
            os.dup2(writing, 2)
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        lines = _read_lines(reading)
        others = "".join(line for line in lines.splitlines(True) if OURS.match(line))
        if others:
            with suppress(OSError):  # nobody takes them
                os.write(2, others.encode(errors="surrogateescape"))
        return None if image is None else np.ascontiguousarray(image, dtype=np.uint8), lines
    finally:
        os.close(reading)
        os.close(writing)


def _read_lines(reading: int) -> str:
    try:
        return os.read(reading, MESSAGE_BYTES).decode(errors="surrogateescape")
    except BlockingIOError:  # nothing was written
        return ""


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels from the header of a JPEG, PNG, TIFF or BMP file, without decoding.

    OpenCV has a limit of its own, but only as an environment variable read when it is first imported.
    Raises ValueError or struct.error where there is no such header.
    """
    if data.startswith(JPEG_START):
        return _jpeg_size(data)
    if data.startswith(PNG_START):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith((b"II*\0", b"MM\0*")):
        return _tiff_size(data)
    elif data.startswith(b"BM"):
        (header_bytes,) = struct.unpack_from("<I", data, 14)
        width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    else:
        raise ValueError("unknown header")
    return width, abs(height)  # a BMP stored from the top down has a negative height


def _jpeg_segments(data: bytes) -> dict[int, int]:
    """Return marker -> offset of its last segment's length field, up to and with the first start of scan."""
    segments: dict[int, int] = {}
    offset = 2
    while JPEG_START_OF_SCAN not in segments:
        fill, marker = struct.unpack_from("BB", data, offset)
        if fill != 0xFF:
            raise ValueError("no marker where one must be")
        if marker == 0xFF:  # padding before a marker
            offset += 1
            continue
        segments[marker] = offset + 2
        (length,) = struct.unpack_from(">H", data, offset + 2)
        offset += 2 + length
    return segments


def _jpeg_size(data: bytes) -> tuple[int, int]:
    segments = _jpeg_segments(data)
    marker = min(JPEG_SIZE_MARKERS & segments.keys())  # ValueError if there is none
    height, width = struct.unpack_from(">HH", data, segments[marker] + 3)
    return width, height


def _tiff_size(data: bytes) -> tuple[int, int]:
    """Return the size of the first page (TIFF 6.0: tags 256 width and 257 height, as SHORT 3 or LONG 4)."""
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    sizes: dict[int, int] = {}
    for offset in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", data, offset)
        if tag in (256, 257):
            (sizes[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, offset + 8)
    if len(sizes) != 2:
        raise ValueError("no size in the first page")
    return sizes[256], sizes[257]


def _is_whole(data: bytes) -> bool:
    """Tell whether a JPEG has its end mark (true for the other formats: their decoders refuse a part).

    Half a JPEG decodes without an error where the missing bytes are zeros, as after a power cut on a memory
    card, and in some OpenCV versions always; the rest of the picture is then grey. The end mark is looked for
    after the start of scan, since a thumbnail before it has one too, and anywhere, since cameras append data.
    """
    return not data.startswith(JPEG_START) or data.find(JPEG_END, _jpeg_segments(data)[JPEG_START_OF_SCAN]) >= 0

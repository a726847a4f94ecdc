"""One image file: every kind of picture, every kind of damage."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerial_runtime.camera.image_file import decode_image, image_size, read_image
from aerial_runtime.errors import InputError

SUFFIXES = (".jpg", ".png", ".tif", ".bmp")


def encoded(suffix: str, image, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), dtype=np.uint8)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(width=st.integers(1, 70), height=st.integers(1, 70))
@settings(max_examples=20, deadline=None)
def test_reads_the_size_from_the_header(suffix, width, height):
    assert image_size(encoded(suffix, noise(height, width, 3))) == (width, height)


def test_reads_progressive_jpeg_and_big_endian_tiff():
    progressive = encoded(".jpg", noise(30, 50, 3), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert image_size(progressive) == (50, 30)
    entries = struct.pack(">HHIHHHHII", 256, 3, 1, 640, 0, 257, 4, 1, 480)
    assert image_size(b"MM\0*" + struct.pack(">IH", 8, 2) + entries) == (640, 480)


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (np.full((4, 6), 9, np.uint8), [9, 9, 9]),
        (np.full((4, 6, 4), (1, 2, 3, 100), np.uint8), [1, 2, 3]),
        (np.full((4, 6), 0x8123, np.uint16), [0x81] * 3),
        (np.full((4, 6, 3), (0x0180, 0x02FF, 0x0300), np.uint16), [1, 2, 3]),
        (np.full((4, 6, 4), (0x0180, 0x02FF, 0x0300, 7), np.uint16), [1, 2, 3]),
        (np.full((1, 1, 3), (1, 2, 3), np.uint8), [1, 2, 3]),
    ],
    ids=["grey", "rgba", "grey16", "rgb16", "rgba16", "1x1"],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_kind_becomes_8_bit_bgr(tmp_path, suffix, image, pixel):
    path = tmp_path / f"frame{suffix}"
    path.write_bytes(encoded(suffix, image))
    frame = read_image(path)
    assert frame.dtype == np.uint8
    assert frame.shape == (*image.shape[:2], 3)
    assert frame.flags.c_contiguous
    assert np.abs(frame - np.array(pixel, int)).max() <= (suffix == ".tif")  # libtiff rounds, PNG cuts


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_ignores_the_exif_rotation(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_exif_orientation(encoded(".jpg", noise(20, 40, 3)), 6))
    assert cv2.imread(str(path)).shape == (40, 20, 3)  # OpenCV turns it unless told not to
    assert read_image(path).shape == (20, 40, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.9, 0.99])
def test_a_part_of_a_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"part{suffix}"
    data = encoded(suffix, noise(60, 80, 3))
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="part"):
        read_image(path)


def test_a_jpeg_whose_tail_is_zeros_is_refused(tmp_path):
    data = with_exif_orientation(encoded(".jpg", noise(60, 80, 3)), 1)
    path = tmp_path / "power_cut.jpg"
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(InputError, match="cut short"):
        read_image(path)


def gradient() -> np.ndarray:
    """A smooth picture: its codes are short, so that libjpeg survives damage that noise would not."""
    y, x = np.mgrid[:200, :300]
    return np.dstack([x * 255 // 300, y * 255 // 200, (x + y) // 2]).astype(np.uint8)


@pytest.mark.parametrize("restart", [0, 4])
def test_half_a_jpeg_with_an_end_mark_is_refused(tmp_path, capfd, restart):
    data = encoded(".jpg", gradient(), cv2.IMWRITE_JPEG_RST_INTERVAL, restart)
    path = tmp_path / "half.jpg"
    half = len(data) // 2
    for zeros in (0, len(data) - half - 2):
        path.write_bytes(data[:half] + bytes(zeros) + b"\xff\xd9")
        with pytest.raises(InputError, match=r"half\.jpg is damaged \(Corrupt JPEG data: "):
            read_image(path)
    path.write_bytes(data)
    assert read_image(path).shape == (200, 300, 3)
    assert capfd.readouterr().err == ""


def test_the_lines_of_libpng_are_the_reason(tmp_path, capfd):
    data = encoded(".png", gradient())
    path = tmp_path / "half.png"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"half\.png is damaged \(libpng error: .*\)$"):
        read_image(path)
    os.write(2, b"stderr is itself again\n")
    assert capfd.readouterr().err == "stderr is itself again\n"


def test_lines_of_other_threads_are_not_lost(tmp_path, capfd, monkeypatch):
    path = tmp_path / "half.png"
    path.write_bytes(encoded(".png", gradient())[:9000])
    decode = cv2.imdecode

    def decode_while_others_talk(*arguments):
        os.write(2, b'aerial-runtime: degraded\n{"level": "warning"}\n')
        return decode(*arguments)

    monkeypatch.setattr("aerial_runtime.camera.image_file.cv2.imdecode", decode_while_others_talk)
    with pytest.raises(InputError, match="libpng error"):
        read_image(path)
    assert capfd.readouterr().err == 'aerial-runtime: degraded\n{"level": "warning"}\n'


def test_two_decoders_at_once_leave_stderr_as_it_was(monkeypatch):
    """A camera's reader that was left behind, and the next one."""
    data = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: (time.sleep(0.2), decode(*given))[1])
    stderr = os.dup(2)
    try:
        threads = [threading.Thread(target=decode_image, args=(data,)) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert os.path.sameopenfile(2, stderr)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("raise InputError('why')", 3, "name: error: why\n"),
        ("raise KeyboardInterrupt", 130, "name: interrupted\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
    ],
)
def test_what_a_command_ends_with_is_said_while_a_reader_that_was_left_behind_decodes(end, code, said):
    program = f"""
import sys, threading, time
import cv2, numpy
from aerial_runtime.camera.image_file import decode_image
from aerial_runtime.errors import InputError, run_command

def decode(*given):
    started.set()
    time.sleep(0.5)
    return numpy.zeros((8, 8, 3), numpy.uint8)

def command():
    started.wait()
    {end}

started, cv2.imdecode = threading.Event(), decode
threading.Thread(target=decode_image, args=(b"II",), daemon=True).start()
sys.exit(run_command("name", command))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == code
    assert ended.stderr.endswith(said)


def test_bytes_too_many_are_damage_in_a_file_but_not_of_a_webcam():
    data = encoded(".jpg", gradient())
    padded = data[:-2] + bytes(300) + data[-2:]
    with pytest.raises(InputError, match="extraneous bytes"):
        decode_image(padded)
    assert decode_image(padded, may_be_padded=True).shape == (200, 300, 3)
    with pytest.raises(InputError, match="is damaged"):
        decode_image(data[: len(data) // 2] + b"\xff\xd9", may_be_padded=True)


def open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_reading_leaves_no_file_open(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(".png", noise(4, 4, 3)))
    (tmp_path / "b.png").write_bytes(encoded(".png", noise(60, 40, 3))[:3000])
    before = open_files()
    for _ in range(5):
        read_image(tmp_path / "a.png")
        with pytest.raises(InputError):
            read_image(tmp_path / "b.png")
    assert open_files() == before


def test_a_jpeg_with_something_behind_it_is_whole(tmp_path):
    path = tmp_path / "trailer.jpg"
    path.write_bytes(encoded(".jpg", noise(60, 80, 3)) + b"maker's preview" * 9000)
    assert read_image(path).shape == (60, 80, 3)


STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")


@pytest.mark.parametrize("content", [b"", b"This is text.\n" * 30, *STARTS])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"text\.jpg"):
        read_image(path)


@given(data=st.binary(max_size=200), start=st.sampled_from(STARTS))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_header_reader(data, start):
    try:
        width, height = image_size(start + data)
    except (ValueError, struct.error):
        return
    assert isinstance(width, int) and isinstance(height, int)


def huge(suffix: str) -> bytes:
    """Return a small whole file whose header claims 20000x20000 pixels."""
    data = bytearray(encoded(suffix, noise(16, 16, 3)))
    if suffix == ".jpg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 20000, 20000)
    elif suffix == ".png":
        struct.pack_into(">II", data, 16, 20000, 20000)
    elif suffix == ".bmp":
        struct.pack_into("<ii", data, 18, 20000, -20000)
    else:
        (directory,) = struct.unpack_from("<I", data, 4)
        for offset in range(directory + 2, directory + 2 + 24, 12):
            if struct.unpack_from("<H", data, offset)[0] in (256, 257):
                struct.pack_into("<HII", data, offset + 2, 4, 1, 20000)
    return bytes(data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_than_100_megapixels_cost_no_memory(tmp_path, suffix):
    path = tmp_path / f"huge{suffix}"
    path.write_bytes(huge(suffix))
    script = (
        "import resource, sys; from pathlib import Path; from aerial_runtime.camera.image_file import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_image(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    answer = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    message, grown_kb = answer.stdout.splitlines()
    assert message == f"{path} has 20000x20000 pixels, more than 100 megapixels"
    assert int(grown_kb) < 50_000


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png is no regular file"):
        read_image(tmp_path / "x.png")

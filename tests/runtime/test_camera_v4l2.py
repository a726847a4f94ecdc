"""V4L2 cameras against a driver in memory (fake_v4l2.py); a real one where there is one."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import cv2
import fake_v4l2
import numpy as np
import pytest

from aerial_runtime.camera import CameraOptions, open_source, v4l2
from aerial_runtime.camera.v4l2_device import V4l2Device
from aerial_runtime.errors import CameraError, InputError, UsageError


@pytest.fixture
def kernel(monkeypatch):
    """A driver whose camera every path is."""
    kernel = fake_v4l2.FakeKernel()
    monkeypatch.setattr("aerial_runtime.camera.v4l2_device.os.open", kernel.open)
    monkeypatch.setattr("aerial_runtime.camera.v4l2_device.fcntl.ioctl", kernel.ioctl)
    monkeypatch.setattr(V4l2Device, "wait", lambda _, wait_s: kernel.wait(wait_s))
    yield kernel
    monkeypatch.undo()
    os.close(kernel.memory)


def grey(level: int, width: int = 64, height: int = 48) -> bytes:
    return bytes([level, 128]) * (width * height)  # YUYV without colour


def jpeg(width: int = 64, height: int = 48, level: int = 100) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), level, np.uint8))[1].tobytes()


def test_frames_with_the_numbers_and_the_time_of_the_driver(kernel):
    taken_ns = time.monotonic_ns() - 50_000_000
    with open_source("/dev/video0") as source:
        assert (source.name, source.live) == ("video0", True)
        reader = iter(source)
        assert next(reader) is None  # nothing within the wait
        kernel.send(grey(126), 7, taken_ns)
        first = next(reader)
        kernel.send(grey(126), 9, taken_ns, flags=0)  # the driver's clock is another
        second = next(reader)
    assert first.image_bgr.shape == (48, 64, 3) and abs(float(first.image_bgr.mean()) - 128) < 2
    assert (first.index, first.name) == (0, "video0:0")
    assert first.captured_mono_ns == taken_ns // 1000 * 1000
    assert abs(first.captured_utc_ns - (time.time_ns() - 50_000_000)) < 1e9
    assert (second.index, source.dropped) == (2, 1)  # number 8 never came
    assert second.captured_mono_ns > taken_ns + 50_000_000
    assert not kernel.is_streaming


def test_a_driver_that_leaves_the_time_out_has_that_of_the_arrival(kernel):
    start_ns = time.monotonic_ns()
    with open_source("/dev/video0") as source:
        reader = iter(source)
        next(reader)
        kernel.send(grey(126), 0, mono_ns=0)
        frame = next(reader)
    assert start_ns <= frame.captured_mono_ns <= time.monotonic_ns()


def test_the_newest_of_the_waiting_pictures(kernel):
    with open_source("0") as source:
        reader = iter(source)
        for sequence in range(3):
            kernel.send(grey(20 * sequence + 40), sequence)
        frame = next(reader)
        assert (frame.index, source.dropped) == (0, 0)  # before the first there was nobody to lose one
        assert abs(float(frame.image_bgr.mean()) - (80 - 16) * 1.164) < 2
        for sequence in range(3, 6):
            kernel.send(grey(80), sequence)
        frame = next(reader)
        assert (frame.index, source.dropped) == (3, 2)
        assert len(kernel.free) == 3  # every buffer went back


def test_a_driver_that_counts_anew_has_lost_nothing(kernel):
    """A loopback device whose writer has started again; after 2^32 pictures every driver."""
    with open_source("/dev/video0") as source:
        reader = iter(source)
        indices = []
        for sequence in (2**32 - 1, 1, 900, 0, 0, 1):
            kernel.send(grey(126), sequence)
            indices.append(next(reader).index)
    assert indices == [0, 2, 901, 902, 903, 904]
    assert source.dropped == 1 + 898


def test_a_frame_owns_its_pixels(kernel):
    kernel.formats = {"BGR3": {(64, 48): [30]}}
    with open_source("0") as source:
        reader = iter(source)
        kernel.send(bytes([1, 2, 3]) * 64 * 48, 0)
        frame = next(reader)
        for sequence in range(1, 4):
            kernel.send(bytes(64 * 48 * 3), sequence)
        next(reader)
    assert (frame.image_bgr == [1, 2, 3]).all()


@pytest.mark.parametrize("fourcc", ["BGR3", "RGB3", "YUYV", "UYVY", "NV12", "GREY"])
@pytest.mark.parametrize("padding", [0, 24])
def test_every_format_and_padded_rows(kernel, fourcc, padding):
    """One blue picture (grey for GREY) in each format; the last row of a driver may lack its padding."""
    y, u, v = 41, 240, 110  # blue: ITU-R BT.601, studio range
    row = {
        "BGR3": bytes([255, 0, 0]) * 64,
        "RGB3": bytes([0, 0, 255]) * 64,
        "YUYV": bytes([y, u, y, v]) * 32,
        "UYVY": bytes([u, y, v, y]) * 32,
        "NV12": bytes([y]) * 64,
        "GREY": bytes([77]) * 64,
    }[fourcc]
    rows = [row + bytes(padding)] * 48
    if fourcc == "NV12":
        rows += [bytes([u, v]) * 32 + bytes(padding)] * 24
    kernel.formats = {fourcc: {(64, 48): [30]}}
    kernel.row_bytes = len(row) + padding
    with open_source("0") as source:
        kernel.send(b"".join(rows)[: len(rows) * len(rows[0]) - padding], 0)
        image = next(iter(source)).image_bgr
    assert image.shape == (48, 64, 3) and image.flags.c_contiguous
    wanted = [77, 77, 77] if fourcc == "GREY" else [255, 0, 0]
    assert np.abs(image.astype(int) - wanted).max() <= 2


def test_jpegs_damaged_ones_and_padded_ones(kernel, capsys):
    whole = jpeg()
    sent = [
        (whole, 0x2000),
        (whole[: len(whole) // 3] + b"\xff\xd9", 0x2000),
        (whole, 0x2040),  # the driver's own mark
        (b"no jpeg", 0x2000),
        (jpeg(20_000, 2), 0x2000),
        (whole[:-2] + bytes(300) + whole[-2:], 0x2000),
    ]
    with open_source("0", CameraOptions(pixel_format="MJPG")) as source:
        reader = iter(source)
        frames = []
        for sequence, (data, flags) in enumerate(sent):
            kernel.send(data, sequence, flags=flags)
            frames.append(next(reader))
    assert [frame and frame.index for frame in frames] == [0, None, None, None, None, 5]
    assert source.unreadable == 4
    (line,) = capsys.readouterr().err.splitlines()  # a damaged camera does not fill the log
    assert "unreadable frame" in line and "/dev/video0" in line


def test_raw_pictures_that_are_too_short(kernel, capsys):
    with open_source("0") as source:
        kernel.send(grey(5)[:-1], 0)
        assert next(iter(source)) is None
    assert "has 6143 bytes, too few for 64x48 YUYV" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({}, ["YUYV", 64, 48]),  # of equal rates the uncompressed one
        ({"width": 128, "height": 96}, ["MJPG", 128, 96]),  # the fastest
        ({"width": 128, "height": 96, "fps": 10}, ["YUYV", 128, 96]),
        ({"pixel_format": "MJPG"}, ["MJPG", 64, 48]),
        ({"fps": 15}, ["YUYV", 64, 48]),
    ],
)
def test_what_is_asked_for_is_set(kernel, options, got):
    with open_source("0", CameraOptions(**options)):
        assert kernel.now == got
        assert kernel.rate == options.get("fps", 30)
        assert kernel.is_streaming


OFFER = "it offers YUYV 64x48 at 30, 15, 128x96 at 10; MJPG 64x48 at 30, 128x96 at 30"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"width": 640, "height": 480}, "640x480"),
        ({"width": 128, "height": 96, "fps": 60}, "128x96 at 60 frames/s"),
        ({"width": 128, "height": 96, "fps": 30, "pixel_format": "YUYV"}, "128x96 at 30 frames/s as YUYV"),
        ({"pixel_format": "NV12"}, "NV12"),
        ({"pixel_format": "H264"}, "H264"),
    ],
)
def test_what_a_camera_does_not_give_is_refused_with_what_it_offers(kernel, options, asked):
    with pytest.raises(UsageError) as caught:
        open_source("0", CameraOptions(**options))
    assert str(caught.value).startswith(f"the camera /dev/video0 does not give {asked}")
    assert str(caught.value).endswith(OFFER)


def test_ranges_of_sizes_and_a_camera_of_unreadable_formats_only(kernel):
    kernel.formats = {"RG10": {(16, 1280, 16, 8, 720, 8): []}}
    with pytest.raises(UsageError, match=r"a format that can be read here .*; it offers RG10 16x8 to 1280x720$"):
        open_source("0")


def test_exposure(kernel):
    with open_source("0", CameraOptions(exposure_ms=2)):
        assert kernel.controls == {0x9A0901: 1, 0x9A0902: 20}
    with open_source("0"):
        assert kernel.controls[0x9A0901] == 3
    with pytest.raises(UsageError, match=r"does not expose for 900 ms; it offers 0\.1 to 500 ms"):
        open_source("0", CameraOptions(exposure_ms=900))
    kernel.exposure = None
    open_source("0").close()
    with pytest.raises(UsageError, match="has no exposure to set"):
        open_source("0", CameraOptions(exposure_ms=2))


def test_more_than_100_megapixels(kernel, monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.base.MAX_FRAME_MEGAPIXELS", 0.003)
    with pytest.raises(InputError, match="64x48 pixels"):
        open_source("0")
    assert not kernel.is_streaming


def test_a_camera_that_is_pulled_out(kernel):
    with open_source("0") as source:
        reader = iter(source)
        kernel.send(grey(100), 0)
        next(reader)
        kernel.failure = errno.ENODEV
        with pytest.raises(CameraError, match=r"/dev/video0 is gone .No such device.; check cable and power"):
            next(reader)


def test_a_camera_that_is_pulled_out_while_a_picture_is_decoded(kernel, monkeypatch):
    decode = v4l2._decode

    def pull_out(data, form):
        kernel.failure = errno.ENODEV
        return decode(data, form)

    with open_source("0") as source:
        kernel.send(grey(100), 0)
        monkeypatch.setattr(v4l2, "_decode", pull_out)
        with pytest.raises(CameraError, match=r"is gone .No such device.; check cable"):
            next(iter(source))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EBUSY, "is busy; close the program"),
        (errno.EACCES, "no permission to open the camera"),
        (errno.ENODEV, "there is no camera"),
        (errno.EIO, "cannot be opened"),
    ],
)
def test_says_why_a_device_cannot_be_opened(kernel, number, reason):
    kernel.failure = number
    with pytest.raises(CameraError, match=reason) as caught:
        open_source("/dev/video3")
    assert "/dev/video3" in str(caught.value)


def test_a_device_that_captures_nothing(kernel):
    kernel.capabilities = 0x04000002  # an output
    with pytest.raises(CameraError, match="it is no capture device; try the next number"):
        open_source("0")


def test_closing_ends_the_reading(kernel):
    source = open_source("0")
    reader = iter(source)
    assert next(reader) is None
    source.close()
    source.close()
    assert list(reader) == []


@pytest.mark.device
def test_a_real_camera_gives_frames():
    if not Path("/dev/video0").exists():
        pytest.skip("there is no /dev/video0")
    with open_source("/dev/video0") as source:
        frame = next(frame for frame in source if frame is not None)
    assert frame.index == 0

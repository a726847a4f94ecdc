"""Video files and V4L2 devices."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from aerial_runtime.camera import open_source
from aerial_runtime.camera.video import V4l2Camera
from aerial_runtime.errors import CameraError, InputError


def write_video(path: Path, frames: int, codec: str = "MJPG") -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 10 * index, np.uint8))
    writer.release()


def test_every_frame_in_order(tmp_path):
    write_video(tmp_path / "flight.avi", 5)
    with open_source(str(tmp_path / "flight.avi")) as source:
        frames = list(source)
    assert [frame.name for frame in frames] == [f"flight.avi:{index}" for index in range(5)]
    assert [frame.index for frame in frames] == list(range(5))
    assert [frame.image_bgr.shape for frame in frames] == [(48, 64, 3)] * 5
    assert np.abs([frame.image_bgr.mean() - 10 * frame.index for frame in frames]).max() < 3


def test_frames_that_a_cut_video_lacks_are_counted_and_said(tmp_path, capsys):
    path = tmp_path / "cut.avi"
    write_video(path, 25)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(str(path)) as source:
        read = len(list(source))
    assert 0 < read < 25
    assert source.unreadable == 25 - read
    assert capsys.readouterr().err == (
        f"aerial-runtime: {25 - read} unreadable frames: {path} promises 25 frames, but gave {read}; "
        "it is cut short or damaged\n"
    )


def test_ignores_the_rotation(tmp_path):
    path = tmp_path / "turned.mp4"
    write_video(path, 3, "mp4v")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2, version 0
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[1].shape == (64, 48, 3)  # turned unless told not to
    with open_source(str(path)) as source:
        assert {frame.image_bgr.shape for frame in source} == {(48, 64, 3)}


def test_a_video_of_too_many_megapixels(tmp_path, monkeypatch):
    path = tmp_path / "huge.avi"
    write_video(path, 1)
    monkeypatch.setattr("aerial_runtime.camera.video.MAX_FRAME_MEGAPIXELS", 0.003)
    with pytest.raises(InputError, match=r"huge\.avi has 64x48 pixels, more than 0\.003 megapixels"):
        open_source(str(path))


def test_a_video_without_frames(tmp_path):
    path = tmp_path / "empty.avi"
    write_video(path, 0)
    with pytest.raises(InputError, match=r"empty\.avi holds no"):
        with open_source(str(path)) as source:
            list(source)


@pytest.mark.parametrize("content", [b"", b"This is text.\n" * 50])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"text\.mp4 holds no video"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EBUSY, "is busy; close the program"),
        (errno.EACCES, "no permission to open the camera"),
        (errno.ENODEV, "there is no camera"),
        (errno.EIO, "cannot be opened"),
    ],
)
def test_says_why_a_device_cannot_be_opened(monkeypatch, number, reason):
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("aerial_runtime.camera.video.os.open", refuse)
    with pytest.raises(CameraError, match=reason) as caught:
        V4l2Camera(Path("/dev/video3"))
    assert "/dev/video3" in str(caught.value)


@pytest.mark.device
def test_a_real_camera_gives_frames():
    if not Path("/dev/video0").exists():
        pytest.skip("there is no /dev/video0")
    with open_source("/dev/video0") as source:
        frame = next(iter(source))
    assert frame.index == 0

"""Video files and V4L2 devices."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from aerial_runtime.camera import open_source
from aerial_runtime.camera.video import V4l2Camera
from aerial_runtime.errors import CameraError, InputError


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
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
    assert source.live and frame.index == 0

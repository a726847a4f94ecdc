"""Video files."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera import WaitedClock, until

from aerial_runtime.camera import CameraOptions, open_source
from aerial_runtime.errors import InputError


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


def test_a_video_whose_sound_goes_on_lacks_no_frames(tmp_path, capsys):
    """Matroska tells how long it lasts, sound included, and not how many frames there are."""
    path = tmp_path / "flight.mkv"
    write_video(path, 25)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # RFC 9559: the duration, a float of 8 bytes
    struct.pack_into(">d", data, at, struct.unpack_from(">d", data, at)[0] + 300)  # ms
    path.write_bytes(data)
    with open_source(str(path)) as source:
        assert len(list(source)) == 25
    assert source.unreadable == 0
    assert capsys.readouterr().err == ""


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
    monkeypatch.setattr("aerial_runtime.camera.base.MAX_FRAME_MEGAPIXELS", 0.003)
    with pytest.raises(InputError, match=r"huge\.avi has 64x48 pixels, more than 0\.003 megapixels"):
        open_source(str(path))


def test_a_name_that_is_no_utf_8(tmp_path):
    """OpenCV ends the process over it, so this is seen before."""
    path = tmp_path / os.fsdecode(b"fl\xfcg.avi")
    write_video(tmp_path / "flight.avi", 1)
    (tmp_path / "flight.avi").rename(path)
    with pytest.raises(InputError, match=r"is no UTF-8, and cannot be opened; rename it"):
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


def test_paced_frames_come_in_the_time_of_the_film(tmp_path):
    path = tmp_path / "flight.avi"
    write_video(path, 4)  # at 10 frames a second
    with open_source(str(path), CameraOptions(pace=True)) as source:
        times_s = [frame.captured_mono_ns / 1e9 for frame in source]
    assert len(times_s) == 4
    assert all(t - times_s[0] >= 0.1 * index - 0.02 for index, t in enumerate(times_s))
    assert times_s[-1] - times_s[0] < 2


def test_paced_frames_are_not_dropped_where_we_are_late(tmp_path, monkeypatch):
    path, clock = tmp_path / "flight.avi", WaitedClock()
    write_video(path, 8)
    monkeypatch.setattr("aerial_runtime.camera.video.time", clock)
    with open_source(str(path), CameraOptions(pace=True)) as source:
        monkeypatch.setattr(source._closing, "wait", clock.wait)
        given = []
        for frame in source:
            given.append((frame.index, round(clock.monotonic(), 2)))
            if frame.index == 0:
                clock.wait(0.55)
    # Those that were due meanwhile come at once.
    assert given == [(0, 0.0), *[(index, 0.55) for index in range(1, 6)], (6, 0.6), (7, 0.7)]


def test_a_long_pause_of_a_paced_film_is_given_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.video.WAIT_S", 0.02)
    path = tmp_path / "flight.avi"
    write_video(path, 2)
    with open_source(str(path), CameraOptions(pace=True)) as source:
        frames = list(source)
    assert [frame and frame.index for frame in frames] == [0, *[None] * (len(frames) - 2), 1]
    assert len(frames) > 3


def test_closing_ends_a_paced_film_that_another_thread_reads(tmp_path):
    path = tmp_path / "flight.avi"
    write_video(path, 25)
    source = open_source(str(path), CameraOptions(pace=True))
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    until(lambda: frames)
    source.close()
    reader.join(1)
    assert not reader.is_alive()
    assert 0 < len(frames) < 25
    assert source.unreadable == 0

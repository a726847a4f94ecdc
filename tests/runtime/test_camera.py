"""`open_source`: which URI is which source; files, folders and patterns."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from aerial_runtime.camera import open_source
from aerial_runtime.camera.demo import demo_source
from aerial_runtime.errors import CameraError, InputError, UsageError


def write_frame(path, width=8, height=6):
    path.parent.mkdir(exist_ok=True, parents=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 50, np.uint8))


def flown(uri):
    with open_source(str(uri)) as source:
        return [(frame.name, frame.index) for frame in source if frame is not None], source


def test_a_folder_in_the_order_of_its_names_with_other_files_left_out(tmp_path):
    for name in ("b.png", "a.JPG", "c.tiff"):
        write_frame(tmp_path / "flight" / name)
    (tmp_path / "flight" / "labels.json").write_text("[]")
    (tmp_path / "flight" / "deeper").mkdir()
    frames, source = flown(tmp_path / "flight")
    assert frames == [("a.JPG", 0), ("b.png", 1), ("c.tiff", 2)]
    assert (source.name, source.unreadable, source.truth_path) == ("flight", 0, None)


def test_one_file_and_a_pattern(tmp_path):
    for name in ("x1.png", "x2.png", "y.png"):
        write_frame(tmp_path / name)
    assert flown(tmp_path / "y.png")[0] == [("y.png", 0)]
    assert flown(tmp_path / "x*.png")[0] == [("x1.png", 0), ("x2.png", 1)]


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    write_frame(tmp_path / "run[1]" / "a.png")
    assert flown(tmp_path / "run[1]")[0] == [("a.png", 0)]


def test_unreadable_files_are_counted_and_said_and_keep_their_index(tmp_path, capsys):
    for name in ("a.png", "d.png"):
        write_frame(tmp_path / name)
    (tmp_path / "b.jpg").write_text("text")
    (tmp_path / "c.jpg").write_bytes(b"")
    frames, source = flown(tmp_path)
    assert frames == [("a.png", 0), ("d.png", 3)]
    assert source.unreadable == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "b.jpg" in lines[0] and "c.jpg is empty" in lines[1]


def test_an_unreadable_file_is_an_attempt_without_a_frame(tmp_path):
    write_frame(tmp_path / "b.png")
    (tmp_path / "a.png").write_text("text")
    with open_source(str(tmp_path)) as source:
        assert [frame and frame.name for frame in source] == [None, "b.png"]


def test_sizes_may_change_in_mid_stream(tmp_path):
    for index, (width, height) in enumerate([(8, 6), (1, 1), (30, 20)]):
        write_frame(tmp_path / f"{index}.png", width, height)
    with open_source(str(tmp_path)) as source:
        assert [frame.image_bgr.shape[:2] for frame in source] == [(6, 8), (1, 1), (20, 30)]


def test_frames_carry_the_moment_they_were_read(tmp_path):
    for name in ("a.png", "b.png"):
        write_frame(tmp_path / name)
    with open_source(str(tmp_path)) as source:
        first, second = source
    assert 0 < first.captured_mono_ns <= second.captured_mono_ns
    assert 0 < first.captured_utc_ns <= second.captured_utc_ns


def test_the_demo_brings_its_truth(tmp_path):
    write_frame(tmp_path / "demo_00.jpg")
    assert demo_source(tmp_path).truth_path is None
    (tmp_path / "labels.json").write_text("[]")
    source = demo_source(tmp_path)
    assert (source.name, source.truth_path) == ("demo", tmp_path / "labels.json")
    with pytest.raises(InputError, match="no demo flight"):
        demo_source(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("uri", "error", "reason"),
    [
        ("missing.png", InputError, "no file or folder 'missing.png'"),
        ("missing/*.png", InputError, "no image .* matches 'missing/\\*.png'"),
        ("csi://0", UsageError, "csi://0"),
        ("rtsp://10.0.0.1/stream", UsageError, "rtsp://10.0.0.1/stream"),
        ("udp://@:5600", UsageError, "udp://@:5600"),
        ("watch:folder", UsageError, "watch:folder"),
        ("replay:flight.mcap", UsageError, "replay:flight.mcap"),
        ("videotestsrc ! appsink", UsageError, "videotestsrc"),
        ("77", CameraError, "no camera /dev/video77"),
        ("/dev/video78", CameraError, "no camera /dev/video78"),
        ("/dev/null", CameraError, "/dev/null is there but gives no pictures"),
    ],
)
def test_what_is_not_there_is_named(uri, error, reason):
    with pytest.raises(error, match=reason):
        open_source(uri)


def test_an_empty_folder_and_a_strange_ending(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        open_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"notes\.txt is neither an image nor a video"):
        open_source(str(tmp_path / "notes.txt"))

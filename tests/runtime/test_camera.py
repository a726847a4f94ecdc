"""`open_source`: which URI is which source; files, folders and patterns."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerial_runtime.camera import CameraOptions, open_source, source_name
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


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs /dev/shm")
def test_pictures_in_memory_are_no_camera():
    with TemporaryDirectory(dir="/dev/shm") as folder:
        write_frame(Path(folder) / "a.png")
        assert flown(folder)[0] == flown(f"{folder}/a.png")[0] == [("a.png", 0)]
        assert source_name(folder) == folder


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
        ("csi://", UsageError, "csi://.* names no CSI camera"),
        ("csi://front", UsageError, "csi://front"),
        ("gopher://10.0.0.1/stream", UsageError, "gopher://10.0.0.1/stream"),
        ("rtsp://", UsageError, "rtsp://"),
        ("watch:", InputError, "no folder is named"),
        ("watch:nowhere", InputError, "cannot watch the folder nowhere"),
        ("", UsageError, "names nothing"),
        ("   ", UsageError, "names nothing"),
        ("a\0b", UsageError, "names nothing"),
        ("x" * 300, InputError, "cannot be looked up .File name too long"),
        ("rtsp://\ud800", UsageError, "names nothing"),
        ("rtsp://127.0.0.1:1/\udcff", InputError, "is no UTF-8"),
        ("/dev/\udcff", CameraError, "there is no camera"),
        ("replay:flight.mcap", InputError, "flight.mcap"),
        ("videotestsrc ! 'appsink", UsageError, "check the quotes"),
        ("! ! appsink", UsageError, "starts with no element"),
        ("--version ! appsink", UsageError, "starts with no element"),
        ("77", CameraError, "no camera /dev/video77"),
        ("/dev/video78", CameraError, "no camera /dev/video78"),
        ("/dev/null", CameraError, "/dev/null is there but gives no pictures"),
        ("/dev/shm", CameraError, "/dev/shm cannot be opened"),
    ],
)
def test_what_is_not_there_is_named(uri, error, reason):
    with pytest.raises(error, match=reason):
        open_source(uri)


@pytest.mark.parametrize(
    ("uri", "option", "flag"),
    [
        ("demo", {"fps": 5}, "--fps"),
        ("folder", {"pace": True}, "--pace"),
        ("watch:folder", {"exposure_ms": 2}, "--exposure-ms"),
        ("flight.mp4", {"width": 640, "height": 480}, "--width"),
        ("0", {"pace": True}, "--pace"),
        ("csi://0", {"pixel_format": "NV12"}, "--pixel-format"),
        ("udp://@:5600", {"fps": 30}, "--fps"),
        ("videotestsrc ! identity", {"width": 64, "height": 48}, "--width"),
    ],
)
def test_an_option_that_the_kind_of_source_does_not_have(tmp_path, monkeypatch, uri, option, flag):
    monkeypatch.chdir(tmp_path)
    write_frame(tmp_path / "folder" / "a.png")
    (tmp_path / "flight.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=f"has no {flag}; leave it out"):
        open_source(uri, CameraOptions(**option))


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("3", "video3"),
        ("/dev/aerial-camera", "aerial-camera"),
        ("csi://0", "csi0"),
        ("rtspsrc location=rtsp://h/s user-id=me user-pw=secret ! decodebin", "gstreamer"),
        ("rtsp://me:secret@10.0.0.2/s", "rtsp://***@10.0.0.2/s"),
        ("rtsp://me:se/cret@10.0.0.2/s", "rtsp://***@10.0.0.2/s"),
        ("rtsp://me:sec@ret@10.0.0.2:554/s", "rtsp://***@10.0.0.2:554/s"),
        ("http://10.0.0.2/s?user=me&pwd=secret&fps=5", "http://10.0.0.2/s?user=me&pwd=***&fps=5"),
        ("http://10.0.0.2/s?Password=secret", "http://10.0.0.2/s?Password=***"),
        ("rtsp://10.0.0.2:554/stream@1?bypass=no", "rtsp://10.0.0.2:554/stream@1?bypass=no"),
    ],
)
def test_a_camera_has_its_name_before_it_is_there(uri, name):
    assert source_name(uri) == name


def test_passwords_do_not_get_into_messages():
    for uri in ("gopher://me:secret@10.0.0.1/live", "udp://me:secret@127.0.0.1:1"):
        with pytest.raises(UsageError) as caught:
            open_source(uri, CameraOptions(fps=3) if uri.startswith("udp") else CameraOptions())
        assert "secret" not in str(caught.value) and "***@1" in str(caught.value)


@given(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            str.__add__,
            st.sampled_from(["csi://", "watch:", "/dev/", "gopher://", "0", "demo", "~", "file:", "./", "*", "["]),
            st.text(max_size=20),
        ),
    )
)
@settings(max_examples=300, deadline=None)
def test_no_address_ends_in_a_traceback(uri):
    if " ! " in uri:
        return  # a program of its own: test_camera_gstreamer.py
    try:
        open_source(uri).close()
    except (UsageError, InputError, CameraError) as error:
        assert str(error)


def test_an_empty_folder_and_a_strange_ending(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        open_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"notes\.txt is neither an image nor a video"):
        open_source(str(tmp_path / "notes.txt"))

"""The benchmark beside another detector, with a tiny one made by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

BENCH = Path(__file__).parent


@pytest.fixture
def bench_peer(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import bench_peer

    return bench_peer


def detector(path, height, width, dtype=TensorProto.FLOAT):
    """Write a detector that answers [1, 3, (H / 32) * (W / 32)]: the mean colour of each patch, not really boxes."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Concat", ["pooled", "pooled"], ["six"], axis=1),
        helper.make_node("Flatten", ["six"], ["flat"], axis=2),
        helper.make_node("Identity", ["flat"], ["boxes"]),
    ]
    shape = helper.make_tensor_value_info("images", dtype, [1, 3, height, width])
    graph = helper.make_graph(nodes, "peer", [shape], [helper.make_tensor_value_info("boxes", dtype, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def run(*arguments):
    command = [sys.executable, str(BENCH / "bench_peer.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("size", "ways"),
    [
        (("h", "w"), ["at native size, 640x384", "in slices of 640x640 (1)"]),
        ((384, 640), ["at native size, 640x384", "in slices of 640x384 (1)"]),
        ((320, 320), ["in slices of 320x320 (6)"]),
    ],
)
def test_says_how_many_times_faster_we_are(tmp_path, size, ways):
    done = run(detector(tmp_path / "peer.onnx", *size), "--rounds", 2, "--frame", "640x360")
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"peer\.onnx (.*): ([\d.]+) ms; ours, end to end: ([\d.]+) ms; we are ([\d.]+) times", done.stdout
    )
    assert [way for way, *_ in found] == ways
    assert all(float(value) > 0 for _, *values in found for value in values)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b"no model"), "cannot load .*; give a detector as ONNX"),
        (lambda path: None, "cannot load .*; give a detector as ONNX"),
        (lambda path: detector(path, 64, 64, TensorProto.FLOAT16), "one float32 input"),
    ],
)
def test_a_file_that_is_no_detector_is_named(bench_peer, tmp_path, make, reason):
    make(tmp_path / "peer.onnx")
    with pytest.raises(SystemExit, match=reason):
        bench_peer.Peer(tmp_path / "peer.onnx")


def test_slices_overlap_and_end_with_the_frame(bench_peer):
    assert bench_peer.starts(1920, 640) == [0, 512, 1024, 1280]
    assert bench_peer.starts(1080, 640) == [0, 440]
    assert bench_peer.starts(640, 640) == bench_peer.starts(360, 640) == [0]
    for length in range(641, 3000, 37):
        found = bench_peer.starts(length, 640)
        assert found[-1] == length - 640 and max(np.diff(found)) <= 512 and min(np.diff(found)) > 0


def test_the_same_boxes_in_every_layout(bench_peer):
    """Two boxes that overlap, one elsewhere, and one too weak."""
    corners = np.array([[10, 20, 50, 60], [12, 20, 52, 60], [200, 100, 240, 180], [0, 0, 9, 9]], np.float32)
    centres = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
    confidences = np.array([0.8, 0.9, 0.5, 0.1], np.float32)[:, np.newaxis]
    by_class = np.hstack([centres, confidences, confidences / 2, confidences / 3])
    by_class = np.pad(by_class, ((0, 20), (0, 0)))  # a real one has thousands of rows
    ends = np.hstack([corners, confidences, np.zeros((4, 1), np.float32)])
    ends = np.pad(ends, ((0, 20), (0, 0)))
    expected = np.hstack([corners[:3, :2], (corners[:, 2:] - corners[:, :2])[:3], confidences[:3]])
    for output in (by_class, by_class.T, ends):
        found = bench_peer.read_boxes([np.zeros((1, 2), np.float32), output[np.newaxis]])
        assert np.allclose(found, expected)
        assert sorted(bench_peer.nms(found)) == [1, 2]
    assert len(bench_peer.nms(bench_peer.read_boxes([np.zeros((1, 5), np.float32)]))) == 0


def test_boxes_of_slices_lie_in_the_frame(bench_peer, tmp_path, monkeypatch):
    peer = bench_peer.Peer(detector(tmp_path / "peer.onnx", 320, 320))
    seen = []
    monkeypatch.setattr(peer, "boxes", lambda picture, size: seen.append(picture) or np.array([[1, 2, 3, 4, 0.9]]))
    monkeypatch.setattr(bench_peer, "nms", lambda found: found)
    frame = np.zeros((360, 640, 3), np.uint8)
    assert peer.in_slices(frame)[:, :2].tolist() == [[1 + x, 2 + y] for y in (0, 40) for x in (0, 256, 320)]
    assert all(np.shares_memory(picture, frame) for picture in seen)

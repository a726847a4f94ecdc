"""The frames of a recording, as the camera gave them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_camera import WaitedClock

from aerial_runtime import record as recorder_module
from aerial_runtime.camera import CameraOptions, open_source
from aerial_runtime.contract import Frame
from aerial_runtime.errors import InputError, UsageError
from aerial_runtime.health import HealthMonitor
from aerial_runtime.log import setup_log
from aerial_runtime.outlet import Outlet
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.record import Recorder, RecordOptions


def record(path, frames, kind="original"):
    """Write a recording of these frames, each without targets."""
    monitor = HealthMonitor("cam7")
    with Recorder(path, RecordOptions(kind), {"source": "cam7"}, {}, monitor=monitor, lossless=True) as recorder:
        with Outlet("cam7", {}, None, None, monitor, recorder=recorder, lossless=True) as outlet:
            for frame in frames:
                outlet.put(frame, PipelineResult([], 0, 0, 1.0, 1.0, 2.0), 0)


def frames(count=4, interval_ns=100_000_000):
    rng = np.random.default_rng(2)
    return [
        Frame(rng.integers(0, 256, (12, 16, 3), np.uint8), f"cam7:{2 * n}", 2 * n, 5_000 + n, 10**15 + n * interval_ns)
        for n in range(count)
    ]


def test_a_replay_gives_the_frames_of_the_flight(tmp_path):
    path, flown = tmp_path / "f.mcap", frames()
    record(path, flown)
    with open_source(f"replay:{path}") as replay:
        again = list(replay)
    assert (replay.name, replay.live, replay.unreadable) == ("cam7", False, 0)
    assert all(np.array_equal(one.image_bgr, other.image_bgr) for one, other in zip(flown, again, strict=True))
    labels = [(frame.name, frame.index, frame.captured_utc_ns) for frame in again]
    assert labels == [(frame.name, frame.index, frame.captured_utc_ns) for frame in flown]
    assert np.diff([frame.captured_mono_ns for frame in again]).tolist() == [100_000_000] * 3
    assert all(frame.encoded.startswith(b"\x89PNG") for frame in again)


def test_a_replay_in_its_own_time(tmp_path, monkeypatch):
    path, clock = tmp_path / "f.mcap", WaitedClock()
    record(path, frames())
    monkeypatch.setattr("aerial_runtime.camera.replay.time", clock)
    with open_source(f"replay:{path}", CameraOptions(pace=True)) as replay:
        monkeypatch.setattr(replay._closing, "wait", clock.wait)
        due = [(frame.captured_mono_ns, clock.monotonic_ns()) for frame in replay if frame is not None]
    assert due == [(100_000_000 * n, 100_000_000 * n) for n in range(4)]


def test_what_cannot_be_replayed_is_said(tmp_path):
    path = tmp_path / "f.mcap"
    record(path, frames(), "none")
    with pytest.raises(InputError, match="holds no pictures; record without --record-frames none"):
        open_source(f"replay:{path}")
    with pytest.raises(InputError, match="cannot read the recording"):
        open_source(f"replay:{tmp_path / 'no.mcap'}")
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="is no recording"):
        open_source(f"replay:{path}")
    with pytest.raises(UsageError, match=r"the recording .* has no --fps"):
        open_source(f"replay:{path}", CameraOptions(fps=3.0))


def test_a_recording_that_lacks_something_is_told_and_one_of_a_killed_flight_is_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recorder_module, "SYNC_S", 0.0)  # each frame in a chunk of its own
    path = tmp_path / "f.mcap"
    record(path, frames())
    whole = path.read_bytes()
    fourth = 0
    for _ in range(4):
        fourth = whole.index(b"zstd", fourth + 1)
    begin = fourth - 41  # of the chunk's record: numbers stand before the name of its compression
    for name, data, is_told in (
        ("whole", whole, False),
        ("killed", whole[:begin], False),
        ("cut", whole[: fourth + 20], True),
        ("damaged", whole[:begin] + b"\x06" + b"\xff" * 8 + whole[begin + 9 :], True),
    ):
        path.write_bytes(data)
        with open_source(f"replay:{path}") as replay:
            assert len(list(replay)) > 0
        assert ("was cut short or is damaged; frames may be missing" in capsys.readouterr().err) == is_told, name
        setup_log("console")  # forget that it was told


def test_a_picture_that_cannot_be_decoded_is_counted(tmp_path):
    path, flown = tmp_path / "f.mcap", frames()
    flown[1] = replace(flown[1], encoded=b"\xff\xd8no picture")
    record(path, flown)
    with open_source(f"replay:{path}") as replay:
        again = list(replay)
    assert [frame.name for frame in again if frame is not None] == ["cam7:0", "cam7:4", "cam7:6"]
    assert replay.unreadable == 1

"""What goes and what does not, each row with its reason; cameras are stand-ins, everything else is real."""

from __future__ import annotations

import json
import os
import socket
import time

import cv2
import numpy as np
import pytest

from aerial_runtime import preflight_checks
from aerial_runtime.camera import Source
from aerial_runtime.camera.base import frame_now
from aerial_runtime.config import parse_config
from aerial_runtime.daemon import main as daemon
from aerial_runtime.errors import CameraError
from aerial_runtime.machine import Readings
from aerial_runtime.preflight import main, preflight

SECONDS = 1.0


@pytest.fixture
def flags(tmp_path, kit, tiny_models):
    """The flags of a flight that goes."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), kit.frame(64, 48, (8, 8, 8, (0, 0, 255))))
    return ["--camera", str(folder), "--models", str(tiny_models), "--bind", f"ipc://{tmp_path}/socket", "--device=cpu"]


class LiveCamera(Source):
    """A live camera of 64x48 whose pictures are noise, all the same, or black."""

    live = True

    def __init__(self, fps=50.0, picture="noise", error=None):
        super().__init__("stand-in")
        self.fps, self.picture, self.error = fps, picture, error
        self.closed = False

    def __iter__(self):
        rng = np.random.default_rng(0)
        same = rng.integers(0, 255, (48, 64, 3), np.uint8)
        index, start_s = 0, time.monotonic()
        while not self.closed:
            if self.error:
                raise self.error
            time.sleep(max(0.0, start_s + index / self.fps - time.monotonic()))
            noise = rng.integers(0, 255, (48, 64, 3), np.uint8)
            yield frame_now({"noise": noise, "same": same, "black": same * 0}[self.picture], f"c:{index}", index)
            index += 1

    def close(self):
        self.closed = True


@pytest.fixture
def camera(monkeypatch):
    """Put a camera in the place of every source."""

    def put(**kind):
        monkeypatch.setattr(preflight_checks, "open_source", lambda *_: LiveCamera(**kind))

    return put


def rows(*flags):
    return {check.what: check for check in preflight(parse_config([*map(str, flags)]), SECONDS)}


def no_go(row, reason):
    assert not row.go and reason in row.remedy, row


def test_a_flight_that_goes(flags, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    assert main([*flags, "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and not output.exists()
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["go", what] for what in ("clock", "temperature", "camera", "models", "device", "speed", "sockets", "output")
    ]
    assert lines[-1] == "go: 8 checks passed"
    assert "64x48, 3 frames read, 0 unreadable" in lines[2]
    assert "with 1 candidates" in lines[5] and "[<= 1000 ms]" in lines[5]
    assert main([*flags, "--output", str(output)]) == 0  # nothing was left open


def test_a_dry_run_is_the_same_and_flies_nothing(flags, tmp_path, capsys):
    assert daemon([*flags, "--dry-run", "--output", str(tmp_path / "out.jsonl")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "go: 8 checks passed" and "frames/s;" not in out
    assert daemon([*flags, "--dry-run", "--segmenter", "nowhere.onnx"]) == 6


def test_the_configuration_is_printed_and_nothing_is_opened(flags, tmp_path, capsys):
    assert main([*flags, "--print-config"]) == 0
    (tmp_path / "flight.toml").write_text(capsys.readouterr().out)
    assert parse_config(["--config", str(tmp_path / "flight.toml")]) == parse_config(flags)


def test_the_shipped_bundle_gives_its_golden_answer():
    row = rows("--camera", "demo", "--bind", "none", "--device", "cpu")["models"]
    assert row.go and "golden answer found" in row.measured


def test_json_is_one_object(flags, capsys):
    assert main([*flags, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["go"] and {row["what"] for row in answer["checks"]} >= {"camera", "models", "sockets"}
    assert main([*flags, "--json", "--camera", "nowhere.png"]) == 6
    out, err = capsys.readouterr()
    answer = json.loads(out)
    (bad,) = [row for row in answer["checks"] if not row["go"]]
    assert not answer["go"] and bad["what"] == "camera" and "nowhere.png" in bad["remedy"]
    assert err == "aerial-preflight: error: no-go: 1 of 7 checks failed (camera); see the remedies\n"


def test_json_of_names_that_are_no_utf8(flags, tmp_path, capsys):
    output = tmp_path / "o\udcff.jsonl"
    assert main([*flags, "--json", "--output", str(output)]) == 0
    assert main([*flags, "--json", "--output", str(output / "below")]) == 6
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert "o\\udcff.jsonl" in good["checks"][-1]["measured"] and "o\\udcff.jsonl" in bad["checks"][-1]["remedy"]


def test_every_failure_is_told_not_only_the_first(flags, tmp_path, capsys):
    bad = ["--camera", "/dev/video77", "--segmenter", "nowhere.onnx", "--output", str(tmp_path / "no" / "out.jsonl")]
    assert main([*flags, *bad, "--inject", "camera-loss@1s"]) == 6
    out, err = capsys.readouterr()
    assert "no-go: 4 of 7 checks failed (camera, models, output, rehearsal)" in err
    assert all(word in out for word in ("there is no camera /dev/video77", "nowhere.onnx", "no/out.jsonl", "--inject"))


def test_settings_that_cannot_be_are_usage_errors(flags, capsys):
    assert main([*flags, "--conf", "2"]) == 2
    assert "--conf cannot be 2.0" in capsys.readouterr().err


def test_the_rate_of_a_camera_is_measured(flags, camera):
    camera(fps=20)
    row = rows(*flags, "--fps", "10")["camera"]
    assert row.go and row.limit == ">= 9.0 frames/s"
    assert 9 < float(row.measured.split(", ")[1].split()[0]) < 20.5
    no_go(rows(*flags, "--fps", "30")["camera"], "slower than --fps")


def test_a_camera_of_another_size(flags, camera):
    camera()
    row = rows(*flags, "--width", "640", "--height", "480")["camera"]
    assert row.limit == "640x480"
    no_go(row, "another size")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [({"picture": "black"}, "check lens, cover"), ({"picture": "same"}, "the picture is the same")],
)
def test_a_camera_that_shows_nothing(flags, camera, kind, reason):
    camera(**kind)
    no_go(rows(*flags)["camera"], reason)
    assert rows(*flags, "--black-s", "0", "--frozen-s", "0")["camera"].go


def test_a_camera_that_gives_nothing(flags, camera):
    camera(error=CameraError("the camera is gone; check its cable"))
    row = rows(*flags)["camera"]
    no_go(row, "the camera is gone")
    assert row.measured.startswith("no frame")


def test_a_watched_folder_wants_a_picture_meanwhile(flags, tmp_path):
    row = rows(*flags, "--camera", f"watch:{tmp_path}")["camera"]
    no_go(row, "no frame came in 1 s; let the camera put a picture there meanwhile")


def test_unreadable_frames(flags, tmp_path):
    (tmp_path / "frames" / "bad.png").write_text("text")
    row = rows(*flags)["camera"]
    no_go(row, "cannot be decoded")
    assert "3 frames read, 1 unreadable" in row.measured


def test_what_the_camera_gives_and_the_models_take(flags, camera, monkeypatch):
    camera(fps=20)
    assert "keeps up at the camera's" in rows(*flags)["speed"].measured
    run = preflight_checks.Pipeline.__call__

    def slow(self, frame):
        return preflight_checks.replace(run(self, frame), total_ms=100.0)

    monkeypatch.setattr(preflight_checks.Pipeline, "__call__", slow)
    row = rows(*flags)["speed"]
    assert row.go and "100.0 ms" in row.measured and " % at the camera's" in row.measured
    monkeypatch.setattr(preflight_checks, "MAX_FRAME_MS", 99.0)
    no_go(rows(*flags)["speed"], "too slow")


def test_a_gpu_that_is_not_used(flags, tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(preflight_checks, "GPU_FILES", (tmp_path / "nvidia0",))
    assert rows(*flags)["device"].go  # --device cpu means it
    no_go(rows(*flags, "--device", "auto")["device"], "has a GPU, but")


def test_sockets(flags, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        no_go(rows(*flags, "--bind", f"tcp://127.0.0.1:{port}")["sockets"], f"{port} is in use")
        no_go(rows(*flags, "--metrics-port", port)["metrics"], str(port))
    no_go(rows(*flags, "--bind", "tcp://*:5599")["sockets"], "aerial-keygen")
    found = rows(*flags, "--bind", f"tcp://127.0.0.1:{port}", "--metrics-port", port + 1)
    assert found["sockets"].go and f"tcp://127.0.0.1:{port} plain" in found["sockets"].measured
    assert rows(*flags[:4], "--bind", "none")["sockets"].measured == "none is asked for"


def test_a_disk_that_is_soon_full(flags, tmp_path, monkeypatch):
    output = ["--output", tmp_path / "out.jsonl"]
    assert "MiB free" in rows(*flags, *output)["output"].measured
    monkeypatch.setattr(preflight_checks, "read_machine", lambda *_: Readings(disk_free_mib=1.0))
    no_go(rows(*flags, *output)["output"], "make room")
    (tmp_path / "out.jsonl").write_text("old\n")
    no_go(rows(*flags, *output)["output"], "--overwrite")
    assert (tmp_path / "out.jsonl").read_text() == "old\n"


def test_a_list_of_targets_that_cannot_be_written(flags, tmp_path):
    path = tmp_path / "targets.json"
    assert rows(*flags, "--targets", path)["targets"].go and not path.exists()
    no_go(rows(*flags, "--targets", tmp_path / "nowhere" / "targets.json")["targets"], "check the folder")
    path.write_text("old\n")
    no_go(rows(*flags, "--targets", path)["targets"], "--overwrite")
    assert rows(*flags, "--targets", path, "--overwrite")["targets"].go
    assert path.read_text() == "old\n"


def test_a_disk_without_room_for_the_recording(flags, tmp_path, monkeypatch):
    path = tmp_path / "flight.mcap"
    record = ["--record", path, "--record-limit", "100"]
    monkeypatch.setattr(preflight_checks, "read_machine", lambda *_: Readings(disk_free_mib=96.0))
    assert rows(*flags, *record)["record"].go
    monkeypatch.setattr(preflight_checks, "read_machine", lambda *_: Readings(disk_free_mib=95.0))
    no_go(rows(*flags, *record)["record"], "--record-limit")
    path.write_text("old\n")
    no_go(rows(*flags, *record)["record"], "--overwrite")
    no_go(rows(*flags, *record, "--overwrite")["record"], "make room")
    assert path.read_text() == "old\n"
    path.write_bytes(os.urandom(1 << 20))  # an old recording makes room for the new one
    assert rows(*flags, *record, "--overwrite")["record"].go and path.stat().st_size == 1 << 20


def test_a_clock_that_has_lost_the_time(flags, tmp_path):
    config = parse_config(flags)
    assert preflight_checks.check_clock(config, time.time()).go
    row = preflight_checks.check_clock(config, 0.0)
    no_go(row, "date -s")
    assert row.measured == "1970-01-01 00:00 UTC"
    later_s = time.time() + 1000
    os.utime(tmp_path, (later_s, later_s))
    later = parse_config([*flags, "--models", str(tmp_path)])
    no_go(preflight_checks.check_clock(later, time.time()), "behind files")


def test_temperature(monkeypatch):
    monkeypatch.setattr(preflight_checks, "read_machine", lambda *_: Readings())
    row = preflight_checks.check_temperature()
    assert row.go and row.measured == "not told by this machine"
    monkeypatch.setattr(preflight_checks, "read_machine", lambda *_: Readings({"cpu": 40.0, "gpu": 92.0}))
    row = preflight_checks.check_temperature()
    no_go(row, "let it cool")
    assert row.measured == "92 °C (gpu)"

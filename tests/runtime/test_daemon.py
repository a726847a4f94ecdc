"""Whole flights through the real command: what it publishes, prints and returns."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.request

import cv2
import msgspec
import numpy as np
import zmq
from daemon_kit import RED, fly, read_jsonl, start

from aerial_runtime import daemon
from aerial_runtime.camera.demo import demo_source
from aerial_runtime.contract import Box, Health
from aerial_runtime.daemon import main
from aerial_runtime.errors import CameraError, ModelError
from aerial_runtime.targets_file import read_targets


def test_targets_are_followed_and_listed_at_the_end(tmp_path, flight, tiny_models, capsys):
    for name in ("f1.png", "f2.png", "f3.png"):
        (flight / name).write_bytes((flight / "f0.png").read_bytes())
    output, listed = tmp_path / "out.jsonl", tmp_path / "targets.json"
    assert fly(flight, tiny_models, "--output", output, "--targets", listed) == 0
    assert [[target.track_id for target in message.targets] for message in read_jsonl(output)] == [[1]] * 4
    found = read_targets(listed)
    assert (found.source, found.frames, [target.sightings for target in found.targets]) == ("flight", 4, [4])
    assert found.targets[0].attributes["kind"].label == "plain"
    assert fly(flight, tiny_models, "--targets", listed) == 2
    assert "targets.json exists; give --overwrite" in capsys.readouterr().err
    assert fly(flight, tiny_models, "--output", output, "--overwrite", "--no-track") == 0
    assert b"track_id" not in output.read_bytes()


def test_one_message_per_frame_even_when_nothing_was_seen(tmp_path, flight, tiny_models, capsys):
    output = tmp_path / "out.jsonl"
    assert fly(flight, tiny_models, "--output", output) == 0
    messages = read_jsonl(output)
    assert [message.frame.name for message in messages] == ["f0.png", "f1.png", "f2.png", "f3.png"]
    assert [message.sequence for message in messages] == [0, 1, 2, 3]
    assert [[target.box for target in message.targets] for message in messages] == [
        [Box(8, 8, 8, 8)],
        [],
        [Box(0, 0, 12, 12), Box(40, 20, 16, 16)],
        [Box(28, 16, 5, 5)],
    ]
    assert {message.source for message in messages} == {"flight"}
    out, err = capsys.readouterr()
    assert err == ""
    assert "f2.png" in out and "2 targets" in out and "pink" in out
    assert "4 in " in out and "0 unreadable, 0 dropped" in out and "4 of 4 candidates" in out
    assert all(f"{stage:<9} median" in out for stage in ("segment", "classify", "total", "age"))
    assert "CPUExecutionProvider" in out


def test_the_same_flight_twice_is_the_same(tmp_path, flight, tiny_models):
    for name in ("a", "b"):
        assert fly(flight, tiny_models, "--quiet", "--output", tmp_path / name) == 0
    first, second = ([m.targets for m in read_jsonl(tmp_path / name)] for name in ("a", "b"))
    assert first == second


def test_quiet_prints_only_the_summary(flight, tiny_models, capsys):
    assert fly(flight, tiny_models, "--quiet") == 0
    out = capsys.readouterr().out
    assert "f0.png" not in out and "targets " in out


def test_max_candidates_cuts_and_says_so(tmp_path, flight, tiny_models, capsys):
    output = tmp_path / "out.jsonl"
    assert fly(flight, tiny_models, "--max-candidates", 1, "--output", output, "--source", "left") == 0
    assert [len(message.targets) for message in read_jsonl(output)] == [1, 0, 1, 1]
    assert {message.source for message in read_jsonl(output)} == {"left"}
    assert "1 cut by --max-candidates" in capsys.readouterr().out


def test_conf_reaches_the_classifier(tmp_path, flight, tiny_models):
    assert fly(flight, tiny_models, "--conf", 1.0, "--output", tmp_path / "all.jsonl") == 0
    confidences = [t.confidence for m in read_jsonl(tmp_path / "all.jsonl") for t in m.targets]
    assert all(confidence == 1.0 for confidence in confidences)


def test_a_damaged_frame_is_reported_and_the_flight_goes_on(tmp_path, kit, tiny_models, capsys):
    folder = tmp_path / "flight"
    folder.mkdir()
    whole = cv2.imencode(".jpg", kit.frame(64, 48, (8, 8, 16, RED)))[1].tobytes()
    for index in range(4):
        (folder / f"{index}.jpg").write_bytes(whole if index != 1 else whole[: len(whole) // 2])
    (folder / "4.jpg").write_text("this is text")
    output = tmp_path / "out.jsonl"
    assert fly(folder, tiny_models, "--output", output) == 0
    messages = read_jsonl(output)
    assert [message.frame.index for message in messages] == [0, 2, 3]
    assert [message.sequence for message in messages] == [0, 1, 2]
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if "1.jpg" in line or "4.jpg" in line] == err.splitlines()
    assert len(err.splitlines()) == 2
    assert "2 unreadable" in out


def test_a_video_flies(tmp_path, kit, tiny_models):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(kit.frame(64, 48, (16, 16, 16, RED)))
    writer.release()
    assert fly(tmp_path / "v.avi", tiny_models, "--output", tmp_path / "out.jsonl") == 0
    assert [len(message.targets) for message in read_jsonl(tmp_path / "out.jsonl")] == [1, 1, 1]


def test_a_camera_that_is_lost_is_opened_anew_and_the_flight_goes_on(tmp_path, tiny_models, camera, capsys):
    output = tmp_path / "out.jsonl"
    assert main(["--camera", "/dev/null", "--models", str(tiny_models), "--bind", "none", "--output", str(output)]) == 0
    messages = read_jsonl(output)
    assert camera.opened == 2
    assert [message.frame.index for message in messages] == list(range(6))
    assert all(len(message.targets) == 1 for message in messages)
    out, err = capsys.readouterr()
    assert "6 in " in out and "camera-lost: the cable is out" in err and "camera-lost is over" in err


def test_a_camera_that_is_not_there_at_the_start_ends_with_4_or_is_waited_for(tiny_models, camera, monkeypatch, capsys):
    there = daemon.open_source

    def missing_once(*_):
        monkeypatch.setattr("aerial_runtime.daemon.open_source", there)
        raise CameraError("there is no camera yet")

    words = ["--camera", "/dev/null", "--models", str(tiny_models), "--bind", "none"]
    monkeypatch.setattr("aerial_runtime.daemon.open_source", missing_once)
    assert main(words) == 4
    assert "there is no camera yet" in capsys.readouterr().err
    monkeypatch.setattr("aerial_runtime.daemon.open_source", missing_once)
    assert main([*words, "--wait-for-camera"]) == 0
    assert "6 in " in capsys.readouterr().out


def test_frames_on_which_the_models_fail_are_counted_and_the_flight_goes_on(tmp_path, tiny_models, flight, monkeypatch):
    calls = iter([None, ModelError("NaN"), None, None])

    def inferring(_):
        error = next(calls)
        if error:
            raise error

    monkeypatch.setattr("aerial_runtime.inject.Faults.inferring", inferring)
    assert fly(flight, tiny_models, "--output", tmp_path / "out.jsonl") == 0
    assert [message.frame.name for message in read_jsonl(tmp_path / "out.jsonl")] == ["f0.png", "f2.png", "f3.png"]


def test_the_configuration_in_effect_is_printed(tmp_path, flight, tiny_models, capsys):
    assert fly(flight, tiny_models, "--min-size", 12, "--print-config") == 0
    text = capsys.readouterr().out
    assert "min_size = 12" in text
    (tmp_path / "flight.toml").write_text(text)
    assert main(["--config", str(tmp_path / "flight.toml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_the_service_manager_hears_of_start_turns_and_end(tmp_path, flight, tiny_models, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2")
        assert fly(flight, tiny_models, "--quiet") == 0
        manager.setblocking(False)
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(512).decode().partition("=")[0])
    assert heard[0] == "EXTEND_TIMEOUT_USEC" and heard[-1] == "STOPPING"
    assert heard.count("READY") == 1 and "WATCHDOG" in heard[heard.index("READY") :]


def test_health_and_metrics_tell_how_the_flight_is(tmp_path, tiny_models, camera):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"ipc://{tmp_path}/socket"
    words = ["--camera", "/dev/null", "--models", str(tiny_models), "--bind", endpoint, "--metrics-port", str(port)]
    found = {}
    camera.may_stop.clear()  # it is lost again and again until somebody has heard of it

    def listen():
        try:
            hear()
        finally:
            camera.may_stop.set()

    def hear():
        with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
            subscriber.set(zmq.SUBSCRIBE, b"health")
            subscriber.set(zmq.RCVTIMEO, 20_000)
            subscriber.connect(endpoint)
            while found.get("state") != "degraded":
                health = msgspec.json.decode(subscriber.recv_multipart()[1], type=Health)
                found["state"], found["reasons"] = health.state, [reason.code for reason in health.reasons]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                found["http"] = answer.status

    listener = threading.Thread(target=listen)
    listener.start()
    assert main(words) == 0
    listener.join(20)
    assert found == {"state": "degraded", "reasons": ["camera-lost"], "http": 200}


def test_a_flight_with_truth_ends_with_its_score(tmp_path, flight, tiny_models, capsys, monkeypatch):
    truth = [
        {"image": "f2.png", "targets": [{"x": 40, "y": 20, "w": 17, "h": 17, "kind": "plain"}]},
        {"image": "f1.png", "targets": [{"x": 0, "y": 0, "w": 20, "h": 20, "kind": "pink"}]},
    ]
    (flight / "labels.json").write_text(json.dumps(truth))
    monkeypatch.setattr("aerial_runtime.camera.demo_source", lambda: demo_source(flight))
    assert fly("demo", tiny_models, "--quiet") == 0
    out = capsys.readouterr().out.lower()
    assert "found" in out and "missed" in out and "extra" in out and "kind" in out


def test_listeners_hear_what_the_file_holds(tmp_path, long_flight, tiny_models):
    endpoint, output = f"ipc://{tmp_path}/socket", tmp_path / "out.jsonl"
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.SUBSCRIBE, b"detections")
        socket.set(zmq.RCVTIMEO, 20_000)
        socket.connect(endpoint)
        process = start(long_flight, tiny_models, endpoint, "--output", output, "--quiet")
        try:
            heard = [socket.recv_multipart()[1] for _ in range(50)]
            process.terminate()
            process.communicate(timeout=20)
        finally:
            process.kill()
    written = output.read_bytes().splitlines()
    heard = list(dict.fromkeys(heard))  # who joins while a message is sent gets this one again
    sequence = msgspec.json.decode(heard[0])["sequence"]
    assert written[sequence : sequence + len(heard)] == heard and len(heard) >= 49


def test_a_nan_in_mid_flight_keeps_what_is_written(tmp_path, flight, kit, tiny_models, capsys):
    """NaN comes only with the classifier, so frame 1, which has no candidates, and those before it are fine."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "segmenter.onnx").write_bytes((tiny_models / "segmenter.onnx").read_bytes())
    kit.build_classifier(models / "classifier.onnx", kit.classifier_card(), broken="kind")
    assert fly(flight, models, "--output", tmp_path / "out.jsonl") == 3
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "aerial-runtime: error: classifier.onnx computed NaN or infinity in its output 'kind'; do not fly this model"
    ]


def test_frames_from_memory_need_little_beside_the_models(kit):
    """The share of our own code, with models that cost nothing: no full-frame copy or full-resolution step fits in."""
    from aerial_runtime.backends.fake import FakeBackend
    from aerial_runtime.contract import Frame
    from aerial_runtime.pipeline import Pipeline

    probability = np.zeros((1, 270, 480), np.uint8)
    for index in range(10):
        probability[0, 20:28, 40 * index : 40 * index + 8] = 255
    answers = {"target": np.ones((10, 1), np.float32), "kind": np.full((10, 3), 0.3, np.float32)}
    pipeline = Pipeline(
        FakeBackend(kit.segmenter_card(), lambda frame: {"probability": probability}),
        FakeBackend(kit.classifier_card(), lambda crops: answers),
    )
    frame = Frame(np.zeros((1080, 1920, 3), np.uint8), "frame", 0, 0, 0)
    times_ms = []
    for _ in range(20):
        start_ns = time.monotonic_ns()
        assert len(pipeline(frame).targets) == 10
        times_ms.append((time.monotonic_ns() - start_ns) / 1e6)
    assert min(times_ms) < 4  # measured 1 ms; a float conversion of the frame alone takes 10

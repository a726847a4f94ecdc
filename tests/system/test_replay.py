"""Flights recorded, flown again and compared through the commands; one of them is kept here, to notice any change.

`python tests/system/test_replay.py` records it anew, where what the pipeline finds is meant to change.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from aerial_runtime import publish
from aerial_runtime.client import Subscriber
from aerial_runtime.contract import Detections, Health, TargetEvents
from aerial_runtime.daemon import main as fly
from aerial_runtime.diff import MOVED, compare, read_flight
from aerial_runtime.diff import main as diff
from aerial_runtime.record_file import Recording
from aerial_runtime.record_messages import DETECTIONS, HEALTH, TARGETS

GOLDEN = Path(__file__).parent / "golden_flight.mcap"
COLOURS_BGR = ((0, 0, 255), (90, 0, 220), (0, 90, 220), (20, 20, 190), (120, 120, 120), (30, 200, 30))


def draw(folder: Path) -> Path:
    """Write a dozen tiny pictures with squares that move: what the tiny models see, half see, and do not see."""
    folder.mkdir()
    rng = np.random.default_rng(8)
    for number in range(12):
        image_bgr = rng.integers(0, 4, (72, 96, 3), np.uint8)
        for place, color_bgr in enumerate(COLOURS_BGR):
            x, y, side = 5 + 30 * (place % 3) + number, 6 + 34 * (place // 3) + number % 5, 9 + 2 * place
            image_bgr[y : y + side, x : x + side] = color_bgr
        suffix, options = (".png", []) if number % 2 else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90])
        cv2.imwrite(str(folder / f"{number:02d}{suffix}"), image_bgr, options)
    return folder


def flight(camera: object, models: Path, *more: object) -> int:
    """Fly with the tiny models; return the exit code."""
    words = ["--camera", camera, "--models", models, "--bind", "none", "--quiet", "--device", "cpu", *more]
    return fly([str(word) for word in words])


def draw_video(folder: Path) -> Path:
    """Write the same pictures as a video, which gives pixels and no files of pictures."""
    path = folder / "flight.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 72))
    for picture in sorted(draw(folder / "pictures").iterdir()):
        writer.write(cv2.imread(str(picture)))
    writer.release()
    return path


@pytest.mark.parametrize("is_video", [False, True])
def test_two_replays_and_the_flight_are_equal_bit_for_bit(tmp_path, tiny_models, is_video):
    """Pictures keep their own bytes unasked; those of a camera that gives pixels are lossless where that is asked."""
    flown, one, two = tmp_path / "flight.mcap", tmp_path / "one.jsonl", tmp_path / "two.mcap"
    camera = draw_video(tmp_path) if is_video else draw(tmp_path / "pictures")
    more = ("--record-frames", "original") if is_video else ()
    assert flight(camera, tiny_models, "--record", flown, *more) == 0
    assert flight(f"replay:{flown}", tiny_models, "--output", one) == 0
    assert flight(f"replay:{flown}", tiny_models, "--record", two) == 0
    for a, b in ((flown, one), (one, two)):
        assert diff([str(a), str(b), "--exact"]) == 0
    assert sum(len(message.targets) for message in read_flight(flown)) >= 24
    assert flight(f"replay:{flown}", tiny_models, "--output", tmp_path / "three.jsonl", "--conf", "0.97") == 0
    assert diff([str(flown), str(tmp_path / "three.jsonl")]) == 6  # the comparison can fail


def test_the_kept_flight_is_still_seen_as_it_was(tmp_path, tiny_models):
    again = tmp_path / "again.jsonl"
    assert flight(f"replay:{GOLDEN}", tiny_models, "--output", again) == 0
    found = compare(read_flight(GOLDEN), read_flight(again))
    assert (found.frames, found.only_a, found.only_b) == (12, [], [])
    assert [one for one in found.differences if one.kind != MOVED] == []
    for difference in found.differences:  # another processor, or another version of the engine
        before, after = difference.before, difference.after
        assert (before.box, before.area_px) == (after.box, after.area_px)
        assert before.confidence == pytest.approx(after.confidence, abs=1e-4)


def test_a_recording_of_a_replay_holds_the_same_bytes_and_health(tmp_path, tiny_models):
    again = tmp_path / "again.mcap"
    assert flight(f"replay:{GOLDEN}", tiny_models, "--record", again) == 0
    pictures = [[payload for _, payload in Recording(path).messages("camera")] for path in (GOLDEN, again)]
    data = [[msgspec.json.decode(payload)["data"] for payload in payloads] for payloads in pictures]
    assert data[0] == data[1] and len(data[0]) == 12
    recording = Recording(again)
    healths = [msgspec.json.decode(payload, type=Health) for _, payload in recording.messages(HEALTH)]
    assert healths[-1].frames == 12 and healths[-1].state == "stopping"
    assert recording.about["source"] == "pictures" and set(recording.cards) == {"segmenter", "classifier"}


def test_the_recording_holds_the_targets_that_were_published(tmp_path, monkeypatch):
    """The demo flight with the shipped models, heard on a socket from the first to the last; and one unheard."""
    monkeypatch.setattr(publish, "LINGER_MS", 30_000)  # a busy machine's listener may be late
    endpoint, path, heard, is_over = f"ipc://{tmp_path}/socket", tmp_path / "flight.mcap", [], threading.Event()
    words = ["--camera", "demo", "--quiet", "--device", "cpu", "--record-frames", "none"]
    with Subscriber(endpoint, ["targets"], timeout_s=1) as link:

        def hear():
            while True:
                was_over = is_over.is_set()
                try:
                    next(link)
                    heard.append(link.payload)
                except TimeoutError:
                    if was_over:
                        return

        listener = threading.Thread(target=hear)
        listener.start()
        code = fly([*words, "--bind", endpoint, "--record", str(path)])
        is_over.set()
        listener.join()
    assert code == 0
    recorded = [payload for _, payload in Recording(path).messages(TARGETS)]
    assert recorded == heard
    events = events_of(heard)
    assert events["new"] == events["final"] > 18 and events["updated"] > 0
    alone = tmp_path / "alone.mcap"
    assert fly([*words, "--bind", "none", "--record", str(alone)]) == 0
    events = events_of(payload for _, payload in Recording(alone).messages(TARGETS))
    assert events["new"] == events["final"] > 18


def events_of(payloads):
    """Return how many events of each kind these messages hold."""
    return Counter(one.event for payload in payloads for one in msgspec.json.decode(payload, type=TargetEvents).events)


def test_a_full_disk_and_a_limit_end_no_flight(tmp_path, tiny_models, capsys):
    pictures = draw(tmp_path / "pictures")
    full = ("--inject", "disk-full@0s+1000s")
    assert flight(pictures, tiny_models, "--record", tmp_path / "full.mcap", *full) == 5
    assert "are not in the recording" in capsys.readouterr().err
    assert not (tmp_path / "full.mcap").exists()
    assert flight(pictures, tiny_models, "--record", tmp_path / "small.mcap", "--record-limit", "1") == 0
    assert "left out" in capsys.readouterr().out


def test_a_recording_writes_over_nothing_that_it_reads(tmp_path, tiny_models, capsys):
    path = tmp_path / "flight.mcap"
    path.write_bytes(GOLDEN.read_bytes())
    assert flight(f"replay:{path}", tiny_models, "--record", path, "--overwrite") == 2
    assert "is also the file of --camera" in capsys.readouterr().err
    assert flight("demo", tiny_models, "--record", path, "--output", path, "--overwrite") == 2
    assert path.read_bytes() == GOLDEN.read_bytes()


def test_the_kept_flight_reads_back_where_it_is_cut(tmp_path):
    whole = GOLDEN.read_bytes()
    cut = tmp_path / "cut.mcap"
    counts = []
    for size in range(9, len(whole), 211):
        cut.write_bytes(whole[:size])
        payloads = [payload for _, payload in Recording(cut).messages(DETECTIONS)]
        counts.append(len([msgspec.json.decode(payload, type=Detections) for payload in payloads]))
    assert counts == sorted(counts) and counts[-1] == 12


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "nvidia"))  # of the conftest
    spec = importlib.util.spec_from_file_location("makers", Path(__file__).parents[1] / "conftest.py")
    makers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(makers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makers.build_segmenter(folder / "segmenter.onnx", makers.segmenter_card())
        makers.build_classifier(folder / "classifier.onnx", makers.classifier_card())
        sys.exit(flight(draw(folder / "pictures"), folder, "--record", GOLDEN, "--overwrite"))

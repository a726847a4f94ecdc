"""Class tables are data: a mission with three classes, one head and no heading, from scenes to the score."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from aerial_runtime.contract import Detections

PADS = {
    "name": "pads",
    "heads": [
        {
            "name": "kind",
            "classes": ["helipad", "marker", "cone"],
            "draw": {
                "helipad": {"shape": "circle", "letter": "H", "shape_color": "black", "letter_color": "white"},
                "marker": {"shape": "square", "shape_color": "orange"},
                "cone": {"shape": "triangle", "shape_color": "red"},
            },
        }
    ],
    "heading": None,
}


def command(*words: str | Path, cwd: Path) -> str:
    """Run one of our commands as a user would; return what it printed."""
    program = Path(sys.executable).parent / str(words[0])
    done = subprocess.run(
        [program, *map(str, words[1:])],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def mission(tmp_path_factory):
    """Train both models for a minute of laptop time, export them, fly a short flight with truth."""
    folder = tmp_path_factory.mktemp("mission")
    (folder / "pads.json").write_text(json.dumps(PADS))
    common = ("--label-space", "pads.json", "--workers", "0", "--threads", "2", "--epochs", "2", "--held-out", "16")
    command("aerial-train", "segmenter", "--name", "seg", "--preset", "fast", "--frame-size", "128",
            "--batch", "8", "--images-per-epoch", "480", *common, cwd=folder)  # fmt: skip
    command("aerial-train", "classifier", "--name", "cls", "--filters", "8-16-32", "--crop-size", "32",
            "--batch", "32", "--images-per-epoch", "1600", *common, cwd=folder)  # fmt: skip
    (folder / "models").mkdir()
    # So little trained, the segmenter stands at its threshold: rounded to FP16 it may find a target more.
    command("aerial-export", "runs/seg/last.pt", "-o", "models/segmenter.onnx", "--no-fp16", cwd=folder)
    command("aerial-export", "runs/cls/last.pt", "-o", "models/classifier.onnx", cwd=folder)
    command("aerial-train", "demo-flight", "--out", "flight", "--frames", "3", "--label-space", "pads.json", cwd=folder)
    command("aerial-runtime", "--camera", "flight", "--models", "models", "--output", "out.jsonl", "--bind", "none",
            "--conf", "0", cwd=folder)  # fmt: skip
    return folder


def test_detections_speak_of_the_missions_head_alone(mission):
    messages = [msgspec.json.decode(row, type=Detections) for row in (mission / "out.jsonl").read_bytes().splitlines()]
    targets = [target for message in messages for target in message.targets]
    assert len(messages) == 3 and targets
    for target in targets:
        assert set(target.attributes) == {"kind"}
        assert target.attributes["kind"].label in PADS["heads"][0]["classes"]


def test_the_score_knows_the_missions_head(mission):
    text = command(
        "aerial-train", "score", "flight/labels.json", "out.jsonl", "--label-space", "pads.json", cwd=mission
    )
    assert "recall" in text
    labels = json.loads((mission / "flight" / "labels.json").read_text())
    kinds = {target["kind"] for row in labels for target in row["targets"]}
    assert kinds <= set(PADS["heads"][0]["classes"]) and kinds
    assert not any("orientation" in target for row in labels for target in row["targets"])

"""`aerial-train`: every subcommand answers, and says in a sentence what is wrong."""

import json

import cv2
import numpy as np
import pytest

from aerial_train import cli


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0 and command in capsys.readouterr().out


def test_no_command_and_unknown_commands_are_usage_errors(capsys):
    for words in ([], ["nonsense"], ["scenes"], ["segmenter", "--name", "a", "--unknown", "1"]):
        assert cli.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_ground_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "score", ("package_that_is_missing", "text"))
    assert cli.main(["score"]) == 5
    assert "package_that_is_missing; in the checkout, pip install '.[train]'" in capsys.readouterr().err


def test_sheets_of_crops_and_frames(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    real = tmp_path / "real"
    real.mkdir()
    cv2.imwrite(str(real / "a.png"), np.full((30, 50, 3), 99, np.uint8))
    assert cli.main(["scenes", "--sheet", str(sheet), "--count", "5", "--beside", str(real)]) == 0
    assert cv2.imread(str(sheet)).shape == (138, 12 * 112, 3)
    assert cli.main(["scenes", "--sheet", str(sheet), "--frames", "--count", "2"]) == 0
    assert cv2.imread(str(sheet)).shape == (256, 4 * 512, 3)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--sheet", "none/sheet.png", "--count", "1"], 5, "none/sheet.png"),
        (["--sheet", "s.png", "--count", "0"], 2, "--count"),
        (["--sheet", "s.png", "--seed", "-1"], 2, "--seed"),
        (["--sheet", "sheet"], 2, ".png"),
        (["--sheet", "s.png", "--frames", "--recipe", "r32"], 2, "r32"),
        (["--sheet", "s.png", "--beside", "none"], 3, "none"),
        (["--sheet", "s.png", "--beside", "none", "--frames"], 2, "--frames"),
        (["--sheet", "s.png", "--backgrounds", "none"], 3, "none"),
        (["--sheet", "s.png", "--label-space", "none.json"], 3, "none.json"),
    ],
)
def test_bad_requests_for_sheets(words, code, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scenes", *words]) == code
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_score_checks_its_limits(tmp_path, capsys):
    labels, empty = tmp_path / "labels.json", tmp_path / "out.jsonl"
    labels.write_text(json.dumps([{"image": "a", "targets": [{"x": 0, "y": 0, "w": 30, "h": 30}]}]))
    empty.write_text("")
    assert cli.main(["score", str(labels), str(empty), "--list"]) == 0
    assert "missed a x=0 y=0 30x30" in capsys.readouterr().out
    assert cli.main(["score", str(labels), str(empty), "--min-recall", "0.5"]) == 6
    assert "recall is 0.000" in capsys.readouterr().err
    for gate in (["--min-recall", "nan"], ["--min-recall", "90"], ["--max-extras", "nan"]):
        assert cli.main(["score", str(labels), str(empty), *gate]) == 2
        assert gate[0] in capsys.readouterr().err
    labels.write_text(json.dumps([{"image": "a", "targets": []}]))
    assert cli.main(["score", str(labels), str(empty), "--min-recall", "0.5"]) == 3
    assert "no target that counts" in capsys.readouterr().err


def test_score_of_a_whole_flight(tmp_path, capsys):
    labels, flown, plain = tmp_path / "labels.json", tmp_path / "out.jsonl", tmp_path / "plain.jsonl"
    board = {"id": 0, "x": 0, "y": 0, "w": 30, "h": 30}
    labels.write_text(json.dumps([{"image": name, "targets": [board]} for name in ("a", "b")]))
    target = {"box": {"x": 0, "y": 0, "width": 30, "height": 30}, "area_px": 900, "confidence": 1, "attributes": {}}
    frame = {"index": 0, "width": 64, "height": 64, "captured_utc_ns": 0, "captured_mono_ns": 0}
    message = {"source": "s", "sequence": 0, "sent_utc_ns": 0, "dropped": 0, "models": {}}
    message["timing_ms"] = {"age": 0, "segment": 0, "classify": 0, "total": 0}
    for path, tracks in ((flown, [{"track_id": 1}, {"track_id": 2}]), (plain, [{}, {}])):
        rows = [
            message | {"frame": frame | {"name": name}, "targets": [target | track]}
            for name, track in zip("ab", tracks, strict=True)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["score", str(labels), str(flown), "--list"]) == 0
    out = capsys.readouterr().out
    assert "targets of the flight 1: once 0  doubled 1  missed 0" in out and "doubled target 0: tracks 1, 2" in out
    assert cli.main(["score", str(labels), str(flown), "--max-doubled", "0"]) == 6
    capsys.readouterr()
    assert cli.main(["score", str(labels), str(plain)]) == 0
    assert "targets of the flight" not in capsys.readouterr().out
    assert cli.main(["score", str(labels), str(plain), "--max-doubled", "0"]) == 3
    assert "fly without --no-track" in capsys.readouterr().err

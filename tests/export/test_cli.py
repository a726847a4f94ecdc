import subprocess
import sys

import numpy as np
import pytest
import torch

import aerial_export.to_onnx
from aerial_export.cli import main
from aerial_runtime.errors import CheckError


@pytest.fixture(autouse=True)
def quick_scenes(monkeypatch):
    def noise(card):
        shape = (1, 40, 52, 3) if card.kind == "segmenter" else (4, card.crop_size, card.crop_size, 3)
        return [np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)]

    monkeypatch.setattr(aerial_export.to_onnx, "synthetic_scenes", noise)


def test_it_writes_beside_the_checkpoint_and_reports(save_segmenter, capsys, quick_build):
    source = save_segmenter(name="best.pt")
    assert main([str(source)]) == 0
    assert source.with_name("best.onnx").is_file()
    out = capsys.readouterr().out
    assert "agrees with PyTorch on 8 inputs" in out and "wrote" in out and "best.onnx" in out
    assert main([str(source)]) == 0  # the default output is replaced once the new one is proven


def test_an_existing_output_needs_overwrite(save_classifier, tmp_path, capsys, quick_build):
    source, output = save_classifier(), tmp_path / "c.onnx"
    output.write_bytes(b"old")
    assert main([str(source), "--output", str(output)]) == 2
    assert output.read_bytes() == b"old" and "--overwrite" in capsys.readouterr().err
    assert main([str(source), "-o", str(output), "--overwrite"]) == 0
    assert output.stat().st_size > 1000


def error_of(capsys, words, code):
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("aerial-export: error: ")
    return captured.err


def test_bad_input_is_one_sentence_and_the_right_code(save_segmenter, tmp_path, capsys):
    source = save_segmenter()
    assert "none.pt" in error_of(capsys, [str(tmp_path / "none.pt")], 3)
    (tmp_path / "text.pt").write_text("hello")
    assert "no checkpoint" in error_of(capsys, [str(tmp_path / "text.pt")], 3)
    content = torch.load(source, weights_only=True)
    del content["aerial.card"]
    torch.save(content, tmp_path / "cardless.pt")
    assert "no model card" in error_of(capsys, [str(tmp_path / "cardless.pt")], 3)
    assert "the checkpoint itself" in error_of(capsys, [str(source), "-o", str(source), "--overwrite"], 2)
    assert "--unknown" in error_of(capsys, [str(source), "--unknown"], 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cardless.pt", "model.pt", "text.pt"]


def test_a_folder_for_the_output_is_made(save_segmenter, tmp_path, capsys, quick_build):
    output = tmp_path / "new" / "m.onnx"
    assert main([str(save_segmenter()), "-o", str(output)]) == 0 and output.is_file()
    assert "cannot write" in error_of(capsys, [str(tmp_path / "model.pt"), "-o", str(output / "m.onnx")], 5)


def test_a_failed_check_exits_with_6(save_segmenter, capsys, monkeypatch, quick_build):
    def disagree(*_args):
        raise CheckError("the exported model disagrees")

    monkeypatch.setattr(aerial_export.to_onnx, "check_parity", disagree)
    source = save_segmenter()
    assert "disagrees" in error_of(capsys, [str(source)], 6)
    assert [file.name for file in source.parent.iterdir()] == ["model.pt"]


def test_help_needs_no_torch():
    program = "import sys; sys.modules['torch'] = None; from aerial_export.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and "--overwrite" in done.stdout, done.stderr

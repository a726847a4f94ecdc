import os
import subprocess
import sys

import pytest
import torch

import aerial_export.artefacts
from aerial_export.artefacts import artefact_names
from aerial_export.cli import main
from aerial_runtime.errors import CheckError


@pytest.fixture(autouse=True)
def quick(monkeypatch, quick_scenes):
    real = aerial_export.artefacts.export_model
    monkeypatch.setattr(
        aerial_export.artefacts, "export_model", lambda *words, **more: real(*words, draw=quick_scenes, **more)
    )


def test_it_writes_beside_the_checkpoint_and_reports(save_segmenter, capsys, quick_build):
    source = save_segmenter(name="best.pt")
    assert main([str(source)]) == 0
    assert sorted(path.name for path in source.parent.iterdir()) == sorted(["best.pt", *artefact_names("best")])
    out = capsys.readouterr().out
    assert "best.onnx (fp32, CPUExecutionProvider), 8 inputs: within the limits" in out
    assert all(f"wrote {source.parent / name} (" in out for name in artefact_names("best"))
    assert main([str(source)]) == 0  # the default output is replaced once the new one is proven


@pytest.mark.parametrize("name", artefact_names("c"))
def test_an_existing_output_needs_overwrite(save_classifier, tmp_path, capsys, quick_build, name):
    source, output = save_classifier(), tmp_path / "new" / "c.onnx"
    output.parent.mkdir()
    (output.parent / name).write_bytes(b"old")
    assert main([str(source), "--output", str(output)]) == 2
    assert (output.parent / name).read_bytes() == b"old" and "--overwrite" in capsys.readouterr().err
    assert main([str(source), "-o", str(output), "--overwrite"]) == 0
    assert (output.parent / name).stat().st_size > 1000


def test_without_fp16(save_classifier, tmp_path, capsys, quick_build):
    source, output = save_classifier(), tmp_path / "new" / "c.onnx"
    assert main([str(source), "-o", str(output), "--no-fp16"]) == 0
    assert "engine" not in capsys.readouterr().out and not (tmp_path / "new" / "c.fp16.onnx").exists()
    assert main([str(source), "-o", str(output), "--overwrite"]) == 0
    again = [source, "-o", output, "--overwrite", "--no-fp16"]
    assert "c.fp16.onnx would be left of an earlier export" in error_of(capsys, again, 2)
    assert "an engine is FP16" in error_of(capsys, [source, "--no-fp16", "--engine"], 2)


def error_of(capsys, words, code):
    assert main([str(word) for word in words]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("aerial-export: error: ")
    return captured.err


def test_bad_input_is_one_sentence_and_the_right_code(save_segmenter, tmp_path, capsys):
    source = save_segmenter()
    assert "none.pt" in error_of(capsys, [tmp_path / "none.pt"], 3)
    assert "none.onnx" in error_of(capsys, [tmp_path / "none.onnx"], 3)
    (tmp_path / "text.pt").write_text("hello")
    assert "no checkpoint" in error_of(capsys, [tmp_path / "text.pt"], 3)
    content = torch.load(source, weights_only=True)
    del content["aerial.card"]
    torch.save(content, tmp_path / "cardless.pt")
    assert "no model card" in error_of(capsys, [tmp_path / "cardless.pt"], 3)
    assert "must end in .onnx" in error_of(capsys, [source, "-o", source, "--overwrite"], 2)
    name = os.fsdecode(b"caf\xe9.onnx")
    assert r"caf\udce9.onnx is no UTF-8" in error_of(capsys, [source, "-o", tmp_path / name], 2)
    assert "cannot export" in error_of(capsys, [tmp_path / "model.h5"], 2)
    assert "--unknown" in error_of(capsys, [source, "--unknown"], 2)
    assert "give one of MODEL" in error_of(capsys, [], 2)
    assert "give one of MODEL" in error_of(capsys, [source, "--inspect", source], 2)
    assert "'1920'" in error_of(capsys, ["--inspect", source, "--frame-size", "1920"], 2)
    assert "'gpu' is not cpu" in error_of(capsys, ["--verify", source, "--device", "gpu"], 2)
    assert "'0'" in error_of(capsys, ["--benchmark", source, "--batch", "0"], 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cardless.pt", "model.pt", "text.pt"]


@pytest.mark.parametrize("verb", ["--benchmark", "--inspect"])
def test_a_frame_larger_than_any_that_flies_is_refused(verb, capsys):
    words = [verb, "s.onnx", "--frame-size", "99999x99999"]
    assert "99999x99999 is more than 100 megapixels; see --help" in error_of(capsys, words, 2)


def test_a_batch_larger_than_any_that_flies_is_refused(capsys):
    words = ["--benchmark", "c.onnx", "--batch", "10000000"]
    assert "10000000 is more than 10000 crops; see --help" in error_of(capsys, words, 2)


def test_nothing_that_is_asked_for_is_silently_left_out(capsys):
    assert "--output can be given with a MODEL" in error_of(capsys, ["--verify", "s.onnx", "-o", "report.onnx"], 2)
    assert "--no-fp16 and --engine can" in error_of(capsys, ["--inspect", "s.onnx", "--engine", "--no-fp16"], 2)
    sizes = ["--frame-size", "64x48", "--frame-size", "128x96"]
    assert "several --frame-size are for --benchmark" in error_of(capsys, ["s.onnx", "--engine", *sizes], 2)
    assert "several --frame-size are for --benchmark" in error_of(capsys, ["--inspect", "s.onnx", *sizes], 2)


def test_a_folder_for_the_output_is_made(save_segmenter, tmp_path, capsys, quick_build):
    output = tmp_path / "new" / "m.onnx"
    assert main([str(save_segmenter()), "-o", str(output)]) == 0 and output.is_file()
    assert "cannot write" in error_of(capsys, [tmp_path / "model.pt", "-o", output / "m.onnx"], 5)


def test_a_failed_check_exits_with_6(save_segmenter, capsys, monkeypatch, quick_build):
    def disagree(*_args):
        raise CheckError("the exported model disagrees")

    monkeypatch.setattr(aerial_export.artefacts, "check_parity", disagree)
    source = save_segmenter()
    assert "disagrees" in error_of(capsys, [source], 6)
    assert [file.name for file in source.parent.iterdir()] == ["model.pt"]


def test_every_verb_prints_its_findings(exported, capsys):
    assert main(["--verify", str(exported / "c.fp16.onnx"), "--device", "cpu"]) == 0
    assert "c.fp16.onnx (fp16, CPUExecutionProvider), 3 inputs: within the limits" in capsys.readouterr().out
    assert main(["--inspect", str(exported / "s.onnx"), "--frame-size", "64x48"]) == 0
    assert "for a 64x48 frame" in capsys.readouterr().out
    words = ["--frame-size", "64x48", "--frame-size", "33x21", "--batch", "2", "--rounds", "2"]
    assert main(["--benchmark", str(exported / "s.onnx"), str(exported / "c.onnx"), *words]) == 0
    out = capsys.readouterr().out
    assert out.count("| s.onnx ") == 2 and out.count("| c.onnx ") == 1


BLOCKED = """
import sys
for name in {names}:
    sys.modules[name] = None
from aerial_export.cli import main
sys.exit(main({words}))
"""


def run_without(names, words):
    program = BLOCKED.replace("{names}", repr(names)).replace("{words}", repr([str(word) for word in words]))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


GROUND = ["torch", "onnx", "onnxscript", "PIL", "lightning", "torchmetrics", "aerial_train"]


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--verify", "s.fp16.onnx"], ["--benchmark", "s.onnx", "--rounds", "1", "--frame-size", "64x48"]],
    ids=lambda words: words[0],
)
def test_the_aircraft_needs_nothing_of_the_ground(exported, words):
    done = run_without(GROUND, [exported / word if word.endswith("onnx") else word for word in words])
    assert done.returncode == 0 and done.stdout, done.stderr


def test_inspect_needs_no_torch_and_says_that_it_needs_onnx(exported):
    without_torch = [name for name in GROUND if name != "onnx"]
    assert run_without(without_torch, ["--inspect", exported / "s.onnx"]).returncode == 0
    done = run_without(GROUND, ["--inspect", exported / "s.onnx"])
    assert (done.returncode, done.stderr) == (
        5, "aerial-export: error: the package onnx is missing; in the checkout, pip install '.[export]'\n",
    )  # fmt: skip


@pytest.mark.parametrize("words", [["--inspect", "s.onnx"], ["--verify", "s.onnx"], ["s.onnx"]], ids=" ".join)
def test_of_a_missing_inference_engine_the_extra_that_brings_it_is_named(words):
    done = run_without(["onnxruntime"], words)
    assert (done.returncode, done.stderr) == (
        5, "aerial-export: error: the package onnxruntime is missing; in the checkout, pip install '.[cpu]'\n",
    )  # fmt: skip

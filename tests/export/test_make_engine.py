import shutil

import pytest

from aerial_export import artefacts, make_engine
from aerial_export.to_engine import EngineOptions
from aerial_runtime.errors import CheckError, ResourceError, UsageError

OPTIONS = EngineOptions()


@pytest.fixture
def folder(exported, tmp_path, monkeypatch, quick_scenes):
    """Copies of the exported models; building is replaced by a note of what would be built."""
    for path in exported.iterdir():
        shutil.copy(path, tmp_path)
    real = artefacts.export_model
    monkeypatch.setattr(make_engine, "export_model", lambda *words: real(*words, draw=quick_scenes))
    built = []

    def build(onnx, options, progress, judge):
        built.append(onnx.name)
        return onnx.with_suffix(".engine")

    monkeypatch.setattr(make_engine, "build_engine", build)
    return tmp_path, built


def make(path):
    lines = []
    engine = make_engine.make_engine(path, OPTIONS, lines.append)
    return engine.name, "\n".join(lines)


def test_what_is_there_is_not_made_again(folder):
    path, built = folder
    before = (path / "c.fp16.onnx").stat().st_mtime_ns
    assert make(path / "c.onnx") == ("c.fp16.engine", "")
    assert built == ["c.fp16.onnx"] and (path / "c.fp16.onnx").stat().st_mtime_ns == before


def test_goldens_that_are_missing_are_made_first(folder):
    path, built = folder
    (path / "c.goldens.npz").unlink()
    _, said = make(path / "c.onnx")
    assert "has no goldens beside it" in said and f"wrote {path / 'c.goldens.npz'}" in said
    assert built == ["c.fp16.onnx"] and (path / "c.goldens.npz").is_file()


def test_an_fp16_file_that_is_missing_is_judged_by_the_goldens_that_are_there(folder):
    path, built = folder
    before, goldens = (path / "c.fp16.onnx").read_bytes(), (path / "c.goldens.npz").read_bytes()
    (path / "c.fp16.onnx").unlink()
    _, said = make(path / "c.onnx")
    assert f"wrote {path / 'c.fp16.onnx'}" in said and built == ["c.fp16.onnx"]
    assert ((path / "c.fp16.onnx").read_bytes(), (path / "c.goldens.npz").read_bytes()) == (before, goldens)


def test_an_fp16_file_that_fails_is_not_kept_and_nothing_is_built(folder, monkeypatch):
    path, built = folder
    (path / "c.fp16.onnx").unlink()
    real = artefacts.to_fp16
    monkeypatch.setattr(artefacts, "to_fp16", lambda model: real(artefacts._perturbed(model)))
    with pytest.raises(CheckError, match=r"c\.fp16\.onnx compared with PyTorch"):
        make(path / "c.onnx")
    assert built == [] and not (path / "c.fp16.onnx").exists()


def test_the_fp16_file_of_another_model_is_made_anew(folder):
    path, built = folder
    shutil.copy(path / "s.fp16.onnx", path / "c.fp16.onnx")
    _, said = make(path / "c.onnx")
    assert "c.fp16.onnx (fp16" in said and built == ["c.fp16.onnx"]


def test_an_fp16_file_is_no_source(folder):
    path, built = folder
    with pytest.raises(UsageError, match=r"c\.fp16\.onnx is fp16 already; give the FP32 file"):
        make(path / "c.fp16.onnx")
    assert built == []


def test_without_tensorrt_an_export_says_why_there_is_no_engine(exported, tmp_path, monkeypatch, capsys, quick_scenes):
    from aerial_export.cli import main

    real = artefacts.export_model
    monkeypatch.setattr(artefacts, "export_model", lambda *words, **more: real(*words, draw=quick_scenes, **more))

    def absent(*_):
        raise ResourceError("no TensorRT here")

    monkeypatch.setattr(make_engine, "build_engine", absent)
    source = shutil.copy(exported / "c.onnx", tmp_path)
    assert main([str(source)]) == 0
    out = capsys.readouterr().out
    assert "no engine was built: no TensorRT here; where it flies, run: aerial-export c.onnx --engine" in out
    assert main([str(source), "--engine"]) == 5
    assert "error: no TensorRT here" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "size"), [("s", "120x88"), ("c", "64x48")])
def test_an_engine_is_built_judged_verified_inspected_and_measured(exported, tmp_path, world, capsys, name, size):
    """TensorRT and the GPU are stand-ins that compute with ONNX Runtime; all of ours is real."""
    from aerial_export.cli import main

    for path in exported.glob(f"{name}.*"):
        shutil.copy(path, tmp_path)
    assert main([str(tmp_path / f"{name}.onnx"), "--engine", "--frame-size", size]) == 0
    out = capsys.readouterr().out
    (engine,) = tmp_path.glob("*.engine")
    assert engine.name == f"{name}.orin.10.3.0.fp16.engine" and f"the engine is {engine}" in out
    assert f"{engine.name} (fp16, TensorRT 10.3.0 on Orin)" in out and "perturbed weights" in out
    assert main(["--verify", str(engine)]) == 0
    assert "within the limits" in capsys.readouterr().out
    assert main(["--inspect", str(engine)]) == 0
    assert "Orin (compute capability 8.7), TensorRT 10.3.0" in capsys.readouterr().out
    assert main(["--benchmark", str(engine), "--rounds", "2", "--batch", "3"]) == 0
    assert "TensorRT 10.3.0 on Orin" in capsys.readouterr().out
    assert world.is_clean()


def test_an_engine_that_fails_the_gate_is_not_kept(exported, tmp_path, world, monkeypatch, capsys):
    from aerial_export import to_engine
    from aerial_export.cli import main

    for path in exported.glob("c.*"):
        shutil.copy(path, tmp_path)
    real = to_engine.for_tensorrt
    monkeypatch.setattr(to_engine, "for_tensorrt", lambda model, card: artefacts._perturbed(real(model, card)))
    (tmp_path / "c.orin.10.3.0.fp16.engine").write_bytes(b"the one of last week")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([str(tmp_path / "c.onnx"), "--engine"]) == 6
    assert "c.orin.10.3.0.fp16.engine compared with PyTorch" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

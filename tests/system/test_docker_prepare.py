"""`prepare`: engines of this device. TensorRT and the GPU are stand-ins that compute with ONNX Runtime."""

import importlib.util
import json
from pathlib import Path

import pytest

from aerial_runtime.backends import open_backend
from aerial_runtime.errors import ModelError

DOCKER = Path(__file__).parents[2] / "docker"
SIZE = "320x240"


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("prepare", DOCKER / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_models_are_built_verified_and_named(prepare, world, tmp_path, capsys):
    assert prepare.main(["--models", str(tmp_path), "--frame-size", SIZE]) == 0
    said = capsys.readouterr().out
    assert said.count("within the limits") >= 4  # building judges each, and so does --verify
    for model in ("segmenter", "classifier"):
        name = f"{model}.orin.10.3.0.fp16.engine"
        assert f"{tmp_path / model}.engine is {name}" in said
        assert (tmp_path / f"{model}.engine").readlink() == Path(name)
        with open_backend(tmp_path / f"{model}.engine", "cuda:0") as backend:  # what compose flies
            assert backend.provider == "TensorRT 10.3.0 on Orin"
    card = json.loads((tmp_path / "segmenter.engine.json").read_text())
    assert card["frame_size"] == [320, 240]

    # Again: what is built stays, it is verified anew.
    built = (tmp_path / "segmenter.orin.10.3.0.fp16.engine").stat().st_mtime_ns
    assert prepare.main(["--models", str(tmp_path), "--frame-size", SIZE]) == 0
    assert "is there already" in capsys.readouterr().out
    assert (tmp_path / "segmenter.orin.10.3.0.fp16.engine").stat().st_mtime_ns == built
    assert world.is_clean()


def test_where_an_engine_fails_the_old_one_stays_named(prepare, world, tmp_path, monkeypatch, capsys):
    (tmp_path / "segmenter.engine").symlink_to("of.last.week.engine")
    monkeypatch.setattr(prepare, "aerial_export", lambda words: 6)
    assert prepare.main(["--models", str(tmp_path)]) == 6
    assert (tmp_path / "segmenter.engine").readlink() == Path("of.last.week.engine")


def test_without_tensorrt_nothing_is_touched(prepare, tmp_path, capsys):
    assert prepare.main(["--models", str(tmp_path / "models")]) == 5
    assert "no TensorRT here" in capsys.readouterr().err and not (tmp_path / "models").exists()


def test_a_bundle_that_is_none(prepare, world, tmp_path, capsys):
    bundle = tmp_path / "x.aerial"
    bundle.write_bytes(b"no zip")
    assert prepare.main(["--models", str(tmp_path / "models"), "--bundle", str(bundle)]) == 3
    assert "is damaged or no bundle" in capsys.readouterr().err
    with pytest.raises(ModelError):
        prepare.Bundle(bundle)

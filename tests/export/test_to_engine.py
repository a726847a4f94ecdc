"""Engines are built by a stand-in for TensorRT that computes with ONNX Runtime (tests/nvidia)."""

import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from nvidia_api import TENSORRT
from nvidia_standin import World

from aerial_export import new_files, to_engine
from aerial_export.cli import main
from aerial_export.to_engine import EngineOptions, build_engine
from aerial_runtime.backends import open_backend
from aerial_runtime.engine_card import card_path, read_engine_card
from aerial_runtime.errors import CheckError, ModelError, ResourceError

OPTIONS = EngineOptions(frame_size=(63, 47), max_crops=5)
NAME = "segmenter.orin.10.3.0.fp32.engine"


@pytest.fixture(autouse=True)
def memory(tmp_path_factory, monkeypatch):
    """A machine with 4 GB free, whatever this one has; returns the file that says so."""
    path = tmp_path_factory.mktemp("proc") / "meminfo"
    path.write_text("MemTotal:        8000000 kB\nMemAvailable:    4194304 kB\n")
    monkeypatch.setattr(to_engine, "MEMINFO", path)
    return path


@pytest.fixture
def folder(tiny_models, tmp_path):
    """Copies of the tiny models."""
    for path in tiny_models.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def build(onnx, options=OPTIONS, judge=None):
    lines = []
    return build_engine(onnx, options, lines.append, judge), "\n".join(lines)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("version", TENSORRT)
def test_one_path_for_every_tensorrt(folder, plug_in, version):
    world = plug_in(World(version))
    frame = np.random.default_rng(0).integers(0, 256, (1, 47, 63, 3), dtype=np.uint8)
    engine, _ = build(folder / "segmenter.onnx")
    assert engine == folder / f"segmenter.orin.{version}.fp32.engine"
    with open_backend(engine) as fast, open_backend(folder / "segmenter.onnx", "cpu") as slow:
        assert fast.provider == f"TensorRT {version} on Orin"
        assert np.array_equal(fast.infer(frame)["probability"], slow.infer(frame)["probability"])
    assert world.is_clean()


def test_a_classifier_has_a_profile_of_batches(folder, world):
    crops = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    engine, _ = build(folder / "classifier.onnx")
    assert world.builds[0]["largest"] == (5, 16, 16, 3)
    with open_backend(engine) as fast, open_backend(folder / "classifier.onnx", "cpu") as slow:
        for count in (1, 5, 12):  # the last takes three calls
            right, seen = slow.infer(crops[:count]), fast.infer(crops[:count])
            assert seen.keys() == right.keys()
            assert all(np.allclose(seen[name], right[name], atol=1e-6) for name in right)


def test_the_card_says_where_it_comes_from_and_what_for(exported, tmp_path, world):
    for path in exported.glob("s*.onnx"):
        shutil.copy(path, tmp_path)
    engine, _ = build(tmp_path / "s.fp16.onnx")
    assert engine.name == "s.orin.10.3.0.fp16.engine"
    facts = read_engine_card(engine)
    assert facts.card.precision == "fp16" and facts.onnx == "s.onnx"
    assert set(facts.card.artefact.ancestors) == {"checkpoint", "onnx", "fp16.onnx"}
    assert facts.card.artefact.tools["tensorrt"] == "10.3.0" and "onnx" in facts.card.artefact.tools
    assert (facts.host.gpu, facts.host.compute_capability, facts.host.tensorrt) == ("Orin", "8.7", "10.3.0")
    assert (facts.frame_size, facts.max_crops, facts.workspace_mib) == ((63, 47), None, 1024)
    assert facts.card.inputs[0].shape == (1, 47, 63, 3) and facts.card.outputs[0].shape == (1, 12, 16)


def test_workspace_is_capped_and_fp32_is_not_rounded(folder, world):
    build(folder / "segmenter.onnx", EngineOptions(OPTIONS.frame_size, workspace_mib=77))
    assert world.builds[0]["pools"] == {"WORKSPACE": 77 << 20}
    assert world.builds[0]["cleared"] == ["TF32"]


def test_the_same_engine_is_not_built_twice(folder, world):
    build(folder / "segmenter.onnx")
    _, said = build(folder / "segmenter.onnx")
    assert len(world.builds) == 1
    assert said == f"{NAME} is there already, built from the same segmenter.onnx for the same use"
    assert names(folder) == ["classifier.onnx", "orin.10.3.0.timings", "segmenter.onnx", NAME, f"{NAME}.json"]


@pytest.mark.parametrize("change", ["frame size", "workspace", "model", "damaged", "no card"])
def test_whatever_went_in_another_one_comes_out(folder, world, kit, change):
    engine, _ = build(folder / "segmenter.onnx")
    options = OPTIONS
    if change == "frame size":
        options = EngineOptions((64, 47))
    elif change == "workspace":
        options = EngineOptions(OPTIONS.frame_size, workspace_mib=512)
    elif change == "model":
        kit.build_segmenter(folder / "segmenter.onnx", kit.segmenter_card(name="another"))
    elif change == "damaged":
        engine.write_bytes(engine.read_bytes()[:-1])
    else:
        card_path(engine).unlink()
    build(folder / "segmenter.onnx", options)
    assert len(world.builds) == 2
    open_backend(engine).close()


def test_too_little_memory_is_said_before_minutes_are_lost(folder, world, memory):
    memory.write_text("MemAvailable:    1024000 kB\n")
    world.free_bytes = 900 << 20
    with pytest.raises(ResourceError, match=r"about 2048 MiB of memory \(1024 of them the workspace\), 1000 are free"):
        build(folder / "segmenter.onnx")
    build(folder / "segmenter.onnx", EngineOptions(OPTIONS.frame_size, workspace_mib=-25))  # just enough
    world.is_integrated = 0
    with pytest.raises(ResourceError, match=r"about 2048 MiB of GPU memory .* 900 are free"):
        build(folder / "segmenter.onnx")
    world.free_bytes = 8 << 30
    with pytest.raises(ResourceError, match=r"about 1024 MiB of main memory .* 1000 are free"):
        build(folder / "segmenter.onnx")
    memory.unlink()
    build(folder / "segmenter.onnx")


def old_engine(folder):
    """Put something in the place of the engine; return how to tell that it is untouched."""
    for name in (NAME, f"{NAME}.json"):
        (folder / name).write_bytes(b"of last week")
    before = names(folder)

    def is_untouched():
        return names(folder) == before and (folder / NAME).read_bytes() == b"of last week"

    return is_untouched


def test_a_failed_build_keeps_the_old_engine(folder, world):
    is_untouched = old_engine(folder)
    world.broken["build_serialized_network"] = "none"
    with pytest.raises(
        ResourceError, match=r"could not build an engine of sees-red \(Error Code 10: no implem[^\n]*\)"
    ):
        build(folder / "segmenter.onnx")
    assert is_untouched() and world.is_clean()


def test_an_engine_that_the_gate_refuses_is_not_kept(folder, world):
    is_untouched = old_engine(folder)

    def refuse(engine):
        open_backend(engine).close()  # it is whole, beside its card
        raise CheckError("no")

    with pytest.raises(CheckError):
        build(folder / "segmenter.onnx", judge=refuse)
    assert is_untouched()


def test_a_full_disk_keeps_the_old_engine(folder, world, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    is_untouched = old_engine(folder)
    monkeypatch.setattr(new_files, "_sync", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        build(folder / "segmenter.onnx")
    assert is_untouched()


def test_ctrl_c_ends_the_building_and_keeps_the_old_engine(folder, world):
    is_untouched = old_engine(folder)
    steps = []

    def press(step):
        steps.append(step)
        time.sleep(0.1)  # the main thread waits by now
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # the main thread takes it meanwhile

    world.on_step = press
    with pytest.raises(KeyboardInterrupt):
        build(folder / "segmenter.onnx")
    assert steps == [0, 1] and is_untouched() and world.is_clean()


def test_progress_is_told(folder, world, monkeypatch):
    monkeypatch.setattr(to_engine, "TELL_EVERY_S", 0.0)
    _, said = build(folder / "segmenter.onnx")
    assert f"building {NAME}" in said and "Building Engine, step 3 of 4" in said


def test_timings_of_earlier_builds_are_used_if_they_are_whole(folder, world):
    build(folder / "segmenter.onnx")
    path = folder / "orin.10.3.0.timings"
    assert build(folder / "classifier.onnx")[1].count("measuring anew") == 0
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert (
        "orin.10.3.0.timings is damaged; measuring anew" in build(folder / "segmenter.onnx", EngineOptions((64, 64)))[1]
    )
    assert path.read_bytes() == whole


@pytest.mark.parametrize("answer", [None, "of another GPU"])
def test_timings_that_tensorrt_refuses_are_left_aside(folder, world, answer, monkeypatch):
    real = world.trt.IBuilderConfig.create_timing_cache

    def create(self, serialized_timing_cache):
        return real(self, b"of another GPU") if answer and serialized_timing_cache else (
            real(self, b"") if not serialized_timing_cache else None
        )  # fmt: skip

    build(folder / "segmenter.onnx")
    monkeypatch.setattr(world.trt.IBuilderConfig, "create_timing_cache", create)
    _, said = build(folder / "classifier.onnx")
    assert "does not take the timings of earlier builds; measuring anew" in said


def test_a_graph_that_tensorrt_refuses(folder, world, monkeypatch):
    monkeypatch.setattr(to_engine, "for_tensorrt", lambda model, card: model)  # bytes are then squeezed
    with pytest.raises(ModelError, match=r"does not understand the model sees-red \(TensorRT does not support UINT8"):
        build(folder / "segmenter.onnx")


def test_no_gpu_no_tensorrt_or_a_strange_one(folder, world, monkeypatch, plug_in):
    with pytest.raises(ResourceError, match=r"give --device cuda:N for .*segmenter.onnx, not cpu"):
        build(folder / "segmenter.onnx", EngineOptions(device="cpu"))
    with pytest.raises(ResourceError, match=r"the GPU failed for cuda:1 .*invalid device ordinal"):
        build(folder / "segmenter.onnx", EngineOptions(device="cuda:1"))
    world.broken["init"] = world.cuda.Error("cuInit failed: no CUDA-capable device is detected")
    with pytest.raises(ResourceError, match="no CUDA-capable device"):
        build(folder / "segmenter.onnx")
    world.trt.__version__ = "8.6.1"
    with pytest.raises(ResourceError, match=r"TensorRT 8\.6\.1 is not one that this program knows; install 10"):
        build(folder / "segmenter.onnx")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ResourceError, match="no TensorRT here"):
        build(folder / "segmenter.onnx")


@pytest.mark.parametrize(("name", "options"), [("s", ["--frame-size", "140x90"]), ("c", ["--max-crops", "7"])])
def test_the_command_builds_what_passes_the_gate_and_nothing_else(exported, tmp_path, world, name, options, capsys):
    for path in exported.glob(f"{name}.*"):
        shutil.copy(path, tmp_path)
    command = [str(tmp_path / f"{name}.onnx"), "--engine", *options]
    engine = tmp_path / f"{name}.orin.10.3.0.fp16.engine"
    world.broken["compute"] = "wrong"
    assert main(command) == 6
    assert "do not fly it" in capsys.readouterr().err and not engine.exists() and not card_path(engine).exists()
    del world.broken["compute"]
    assert main(command) == 0
    assert json.loads(card_path(engine).read_bytes())["sha256"] == read_engine_card(engine).sha256
    said = capsys.readouterr().out
    assert f"{engine.name} (fp16, TensorRT 10.3.0 on Orin)" in said and f"the engine is {engine}" in said
    assert main(command) == 0 and "wrote" not in capsys.readouterr().out  # it is there already
    assert main(["--verify", str(engine)]) == 0
    assert world.is_clean()

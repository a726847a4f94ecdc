"""The TensorRT backend on a stand-in for the GPU that computes with ONNX Runtime (tests/nvidia)."""

import hashlib
import json
import re
import shutil
import sys
import threading

import cv2
import msgspec
import numpy as np
import pytest
from nvidia_standin import World

from aerial_export.to_engine import EngineOptions, build_engine
from aerial_runtime.backends import open_backend
from aerial_runtime.backends.trt import TrtBackend
from aerial_runtime.config import Config
from aerial_runtime.daemon import run
from aerial_runtime.engine_card import card_path, engine_card_to_json, read_engine_card
from aerial_runtime.errors import ModelError, ResourceError
from aerial_runtime.pipeline import Pipeline

RNG = np.random.default_rng(0)
OPTIONS = EngineOptions(frame_size=(64, 48), max_crops=5)


@pytest.fixture
def folder(tiny_models, tmp_path, world):
    """The tiny models and their engines; the engine cards say for which machine."""
    for path in tiny_models.iterdir():
        shutil.copy(path, tmp_path)
        build_engine(tmp_path / path.name, OPTIONS, lambda _: None)
    world.events.clear()
    return tmp_path


@pytest.fixture
def segmenter(folder):
    return folder / "segmenter.orin.10.3.0.fp32.engine"


@pytest.fixture
def classifier(folder):
    return folder / "classifier.orin.10.3.0.fp32.engine"


def frame(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, 48, 64, 3), dtype=np.uint8)


def change_card(engine, **changes):
    facts = msgspec.structs.replace(read_engine_card(engine), **changes)
    card_path(engine).write_text(engine_card_to_json(facts))


def test_answers_are_the_callers_to_keep_and_buffers_are_made_once(folder, segmenter, world):
    with open_backend(segmenter) as backend, open_backend(folder / "segmenter.onnx", "cpu") as plain:
        assert backend.sha256 == "sha256:" + read_engine_card(segmenter).sha256
        assert backend.provider == "TensorRT 10.3.0 on Orin"
        rooms = set(world.memory)
        answers = [backend.infer(frame(seed))["probability"] for seed in range(4)]
        assert set(world.memory) == rooms and len(world.pinned) == len(rooms) == 2
        for seed, answer in enumerate(answers):
            assert np.array_equal(answer, plain.infer(frame(seed))["probability"])


def test_more_crops_than_the_engine_takes_are_several_calls(folder, classifier):
    crops = RNG.integers(0, 256, (13, 16, 16, 3), dtype=np.uint8)
    with open_backend(classifier) as backend, open_backend(folder / "classifier.onnx", "cpu") as plain:
        for count in (0, 1, 5, 6, 13):
            seen, right = backend.infer(crops[:count]), plain.infer(crops[:count])
            assert all(np.allclose(seen[name], right[name], atol=1e-6) for name in right)
            assert all(len(values) == count for values in seen.values())


def test_everything_is_freed_in_an_order_that_works_and_once(segmenter, world):
    backend = open_backend(segmenter)
    backend.infer(frame())
    backend.close()
    assert world.events[:3] == ["execution", "engine", "runtime"]
    assert sorted(world.events[3:-2]) == ["device memory", "device memory", "pinned memory", "pinned memory"]
    assert world.events[-2:] == ["stream", "context"]
    backend.close()
    assert world.is_clean()
    with pytest.raises(ResourceError, match="is closed"):
        backend.infer(frame())


def test_one_thread_owns_it(segmenter, world):
    errors = []

    def use(action):
        with pytest.raises(ResourceError) as caught:
            action()
        errors.append(str(caught.value))

    with open_backend(segmenter) as backend:
        for action in (lambda: backend.infer(frame()), backend.close):
            thread = threading.Thread(target=use, args=(action,))
            thread.start()
            thread.join()
        backend.infer(frame())  # still open, here
    assert len(errors) == 2
    assert set(errors) == {
        f"{segmenter.name} was opened by another thread, which owns its CUDA context; use and close it there"
    }
    assert world.is_clean()


def test_a_frame_of_another_size_is_refused_with_what_to_do(segmenter, folder):
    with open_backend(segmenter) as backend:
        with pytest.raises(ModelError) as caught:
            backend.infer(np.zeros((1, 50, 70, 3), np.uint8))
        assert str(caught.value) == (
            f"{segmenter.name} takes frames of 64x48 px, not 70x50; "
            f"build it here with: aerial-export {folder}/segmenter.onnx --engine --frame-size 70x50"
        )
        with pytest.raises(ModelError, match="takes 'frame' as uint8"):
            backend.infer(np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("there", "differs"),
    [
        (World("10.3.0", gpu="NVIDIA Thor"), "GPU Orin, here is NVIDIA Thor; build"),
        (World("10.3.0", capability=(11, 0)), "compute capability 8.7, here is 11.0; build"),
        (World("10.13.3.9"), "TensorRT 10.3.0, here is 10.13.3.9; build"),
        (World("11.4.0.106", gpu="B"), "GPU Orin, here is B, and for TensorRT 10.3.0, here is 11.4.0.106; build"),
    ],
)
def test_an_engine_of_another_machine_is_refused(classifier, plug_in, there, differs):
    plug_in(there)
    with pytest.raises(ModelError) as caught:
        open_backend(classifier)
    assert f"{classifier} was built for {differs}" in str(caught.value)
    assert str(caught.value).endswith("classifier.onnx --engine --max-crops 5")
    assert there.is_clean()


def spoil(engine, how, kit):
    card = json.loads(card_path(engine).read_bytes())
    if how == "truncated":
        engine.write_bytes(engine.read_bytes()[:-10])
    elif how == "missing":
        engine.unlink()
    elif how == "no card":
        card_path(engine).unlink()
    elif how == "garbled card":
        card_path(engine).write_bytes(card_path(engine).read_bytes()[:-9])
    elif how == "card without a size":
        card_path(engine).write_text(json.dumps({**card, "frame_size": None}))
    elif how == "engine card of the future":
        card_path(engine).write_text(json.dumps({**card, "schema": "aerial.engine/2"}))
    elif how == "model card of the future":
        card_path(engine).write_text(json.dumps({**card, "card": {**card["card"], "schema": "aerial.card/2"}}))
    elif how == "another model beside it":
        kit.build_segmenter(engine.with_name("segmenter.onnx"), kit.segmenter_card(name="retrained"))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("truncated", "is not the file that .* describes: truncated, changed, or of another model; build it"),
        ("missing", "cannot read the engine .*No such file"),
        ("no card", r"cannot read the engine card .*\.engine\.json \(No such file.*copy it too, or build it"),
        ("garbled card", "the engine card .* is not valid .*; build it"),
        ("card without a size", "is not valid .*needs its size"),
        ("engine card of the future", "version 'aerial.engine/2', this program reads 'aerial.engine/1'; build it"),
        ("model card of the future", r"the model card in .*\.json is of the version 'aerial.card/2'"),
        ("another model beside it", "was built from another segmenter.onnx than that beside it; build it"),
    ],
)
def test_an_engine_that_is_not_what_its_card_says_is_refused(segmenter, world, kit, how, says):
    spoil(segmenter, how, kit)
    with pytest.raises(ModelError, match=says) as caught:
        open_backend(segmenter)
    assert "\n" not in str(caught.value)
    assert world.is_clean()


@pytest.mark.parametrize("wrong", ["name", "dtype", "shape", "crops"])
def test_an_engine_whose_tensors_are_not_the_cards_is_refused(segmenter, classifier, world, wrong):
    engine = classifier if wrong == "crops" else segmenter
    card = read_engine_card(engine).card
    (output,) = card.outputs if wrong != "crops" else card.outputs[:1]
    changes = {"name": "mask", "dtype": "float32", "shape": (1, 12, 17)}
    if wrong == "crops":
        change_card(engine, max_crops=6)
    else:
        output = msgspec.structs.replace(output, **{wrong: changes[wrong]})
        change_card(engine, card=msgspec.structs.replace(card, outputs=(output,)))
    with pytest.raises(ModelError, match=r"inputs and outputs of .* are not those of its card; build it here with"):
        open_backend(engine)
    assert world.is_clean()


@pytest.mark.parametrize(
    ("call", "trouble", "error", "says"),
    [
        ("init", "cuInit failed: no CUDA-capable device", ResourceError, "the GPU failed for CUDA .no CUDA-|cuInit"),
        ("retain_primary_context", "out of memory", ResourceError, "the GPU failed for segmenter.* .out of memory"),
        ("mem_alloc", "cuMemAlloc failed: out of memory", ResourceError, "cuMemAlloc failed: out of memory"),
        ("create_execution_context", None, ResourceError, r"no room on the GPU .*\(Error Code 2: OutOfMemory\)"),
    ],
)
def test_what_fails_while_loading_leaves_nothing_behind(segmenter, world, call, trouble, error, says):
    world.broken[call] = world.cuda.MemoryError(trouble) if trouble else "none"
    with pytest.raises(error, match=says):
        open_backend(segmenter)
    assert world.is_clean()
    assert not any("without a context" in event for event in world.events)


def test_a_plan_that_tensorrt_does_not_take(segmenter, world):
    segmenter.write_bytes(b"not a plan")
    change_card(segmenter, sha256=hashlib.sha256(b"not a plan").hexdigest())
    with pytest.raises(
        ModelError, match=r"cannot load .* \(Error Code 1: Serialization \(magicTag is wrong\)\); build"
    ):
        open_backend(segmenter)
    assert world.is_clean()


def test_a_gpu_that_fails_in_flight_is_told_and_can_be_left(segmenter, world):
    with pytest.raises(ResourceError, match=r"the GPU failed for segmenter.* \(cuStreamSynchronize failed: unspec"):
        with open_backend(segmenter) as backend:
            backend.infer(frame())
            world.broken["synchronize"] = world.cuda.LaunchError(
                "cuStreamSynchronize failed: unspecified launch failure"
            )
            backend.infer(frame())
    assert world.is_clean()
    world.broken = {"execute_async_v3": "false"}
    with open_backend(segmenter) as backend, pytest.raises(ModelError, match=r"failed on an input of .*illegal memory"):
        backend.infer(frame())


def test_devices_that_an_engine_does_not_run_on(segmenter):
    for device in ("cpu", "tensorrt:0"):
        with pytest.raises(ResourceError, match=f"give --device cuda:N for .*, not {device}"):
            open_backend(segmenter, device)
    with pytest.raises(ResourceError, match=r"the GPU failed for cuda:1 .*invalid device ordinal"):
        open_backend(segmenter, "cuda:1")
    open_backend(segmenter, "cuda:0").close()


def test_auto_takes_this_machines_engine_and_a_named_device_the_file_itself(folder):
    with open_backend(folder / "segmenter.onnx") as backend:
        assert isinstance(backend, TrtBackend)
    with open_backend(folder / "segmenter.onnx", "cpu") as backend:
        assert backend.provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("there", "how", "says"),
    [
        (World("10.13.3.9"), None, "no engine beside .* is for Orin with TensorRT 10.13.3.9; build it here with"),
        (None, "truncated", "truncated, changed, or of another model"),
        (None, "no card", "cannot read the engine card"),
        (None, "another model beside it", "was built from another segmenter.onnx"),
    ],
)
def test_auto_says_why_it_flies_without_an_engine(folder, segmenter, kit, plug_in, there, how, says, capsys):
    if there:
        plug_in(there)
    spoil(segmenter, how, kit)
    with open_backend(folder / "segmenter.onnx") as backend:
        assert backend.provider == "CPUExecutionProvider"
    line = capsys.readouterr().err
    assert line.startswith("aerial-runtime: segmenter.onnx flies without an engine: ") and line.count("\n") == 1
    assert re.search(says, line)


def test_auto_without_engines_asks_for_no_tensorrt(tiny_models, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    open_backend(tiny_models / "segmenter.onnx").close()
    assert capsys.readouterr().err == ""


def test_a_renamed_model_does_not_fly_by_the_old_ones_engine(folder, kit, capsys):
    """The engine's own ONNX file has another name: only the hash tells."""
    change_card(folder / "segmenter.orin.10.3.0.fp32.engine", onnx="other.onnx")
    kit.build_segmenter(folder / "segmenter.onnx", kit.segmenter_card(name="retrained"))
    with open_backend(folder / "segmenter.onnx") as backend:
        assert backend.card.name == "retrained"
    assert "was built from another segmenter.onnx" in capsys.readouterr().err


def test_a_flight_with_engines(folder, kit, tmp_path, world, capsys):
    picture = kit.frame(64, 48, (8, 8, 16, (0, 0, 255)))
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "a.png"), picture)
    config = Config(camera=str(tmp_path / "frames"), models=folder, bind=("none",), output=tmp_path / "out.jsonl")
    assert run(config) == 0
    (message,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [target["attributes"]["kind"]["label"] for target in message["targets"]] == ["plain"]
    assert "TensorRT 10.3.0 on Orin" in capsys.readouterr().out
    assert world.is_clean()


def test_warm_up_takes_the_engines_frame_size(segmenter, classifier):
    with open_backend(segmenter) as one, open_backend(classifier) as other:
        Pipeline(one, other).warm_up()

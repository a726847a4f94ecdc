"""ONNX Runtime: what it loads, what it refuses and in which words."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from aerial_runtime.backends import open_backend
from aerial_runtime.backends.ort import CPU, SAME_SIZE_RUNS, DeviceMemory, OrtBackend, work_on_cpu
from aerial_runtime.bundle import Bundle
from aerial_runtime.card import TensorSpec
from aerial_runtime.config import SEGMENTER_FILE, SHIPPED_MODELS
from aerial_runtime.errors import ModelError, ResourceError


@pytest.mark.parametrize(("width", "height"), [(64, 48), (1, 1), (5, 3), (63, 47), (1920, 1080)])
def test_runs_the_segmenter_at_any_size(kit, tiny_models, width, height):
    with open_backend(tiny_models / "segmenter.onnx") as backend:
        frame = kit.frame(width, height, (0, 0, 4, (0, 0, 255)))
        probability = backend.infer(frame[np.newaxis])["probability"]
    assert probability.shape == (1, -(-height // 4), -(-width // 4))
    assert probability[0, 0, 0] == 255
    assert np.count_nonzero(probability) == 1


def test_knows_file_and_engine(tiny_models):
    path = tiny_models / "segmenter.onnx"
    with open_backend(path, "cpu") as backend:
        assert backend.sha256 == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
        assert backend.provider == "CPUExecutionProvider"
        assert backend.card.name == "sees-red"


def test_same_bytes_in_same_bytes_out_whatever_the_threads(kit, tiny_models):
    frame = np.random.default_rng(0).integers(0, 256, (1, 200, 300, 3), dtype=np.uint8)
    with (
        open_backend(tiny_models / "segmenter.onnx", threads=1) as one,
        open_backend(tiny_models / "segmenter.onnx", threads=64) as many,
    ):
        assert np.array_equal(one.infer(frame)["probability"], many.infer(frame)["probability"])


def test_refuses_what_is_no_model(tmp_path, kit):
    missing = tmp_path / "missing.onnx"
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    bare = kit.build_segmenter(tmp_path / "bare.onnx", None)
    for path, reason in [
        (missing, r"cannot read the model .*; check the path$"),
        (tmp_path, "cannot read the model"),
        (text, "not a usable ONNX model"),
        (empty, "not a usable ONNX model"),
        (bare, "holds no model card"),
    ]:
        with pytest.raises(ModelError, match=reason) as caught:
            open_backend(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_refuses_metadata_that_is_no_text(tmp_path, tiny_models):
    path = tmp_path / "damaged.onnx"
    path.write_bytes((tiny_models / "segmenter.onnx").read_bytes().replace(b"sees-red", b"sees-re\xff"))
    with pytest.raises(ModelError, match=r"the metadata of .*damaged\.onnx are damaged"):
        open_backend(path, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (TensorSpec("image", "uint8", (1, "h", "w", 3)),)},
        {"inputs": (TensorSpec("frame", "float32", (1, "h", "w", 3)),)},
        {"inputs": (TensorSpec("frame", "uint8", ("n", "h", "w", 3)),)},
        {"outputs": (TensorSpec("probability", "uint8", (1, 1, "h", "w")),)},
    ],
)
def test_refuses_a_card_that_is_not_the_graphs(tmp_path, kit, change):
    path = kit.build_segmenter(tmp_path / "m.onnx", kit.segmenter_card(**change))
    with pytest.raises(ModelError, match=r"the card of .*m\.onnx .* its graph .*export it again"):
        open_backend(path)


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1", "tensorrt:0"])
def test_a_named_device_never_falls_back(tiny_models, device, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ResourceError, match=f"the device {device} is not available, the installed engine has no "):
        open_backend(tiny_models / "segmenter.onnx", device)


class Session:
    """ONNX Runtime's session as it is on a machine whose wheel has CUDA: it may fall back without an error."""

    uses = ("CUDAExecutionProvider", CPU)
    asked = None

    def __init__(self, data, options, providers):
        import onnxruntime

        type(self).asked = providers
        self.real = onnxruntime.InferenceSession(data, options, [CPU])

    def get_providers(self):
        return list(self.uses)

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.fixture
def ort_with_cuda(monkeypatch):
    import onnxruntime

    from aerial_runtime.backends import ort

    class Ort:
        InferenceSession = Session

        def __getattr__(self, name):
            return getattr(onnxruntime, name)

        def get_available_providers(self):
            return ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]

    monkeypatch.setattr(ort, "_import_engine", Ort)
    monkeypatch.setattr(Session, "uses", Session.uses)
    monkeypatch.setattr(Session, "asked", None)
    return Session


@pytest.mark.parametrize("device", ["cuda:3", "tensorrt:3"])
def test_a_provider_that_does_not_load_is_no_fallback(tiny_models, ort_with_cuda, device):
    ort_with_cuda.uses = (CPU,)
    with pytest.raises(ResourceError, match=f"the device {device} could not be opened; check the driver"):
        OrtBackend(tiny_models / "segmenter.onnx", device)
    names = [provider if isinstance(provider, str) else provider[0] for provider in ort_with_cuda.asked]
    first = {"cuda:3": [], "tensorrt:3": ["TensorrtExecutionProvider"]}[device]
    assert names == [*first, "CUDAExecutionProvider", CPU]
    assert all(provider[1] == {"device_id": 3} for provider in ort_with_cuda.asked[:-1])


def test_a_gpu_that_leaves_the_work_to_the_cpu_is_no_gpu(tiny_models, ort_with_cuda):
    import onnxruntime

    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} does not tell where its work is done")
    with pytest.raises(ResourceError, match="the device cuda:0 leaves Conv to the CPU"):
        OrtBackend(tiny_models / "segmenter.onnx", "cuda:0")
    with pytest.raises(ResourceError, match="the device cuda:0 leaves Gemm to the CPU"):
        OrtBackend(tiny_models / "classifier.onnx", "cuda:0")


def test_auto_reports_what_is_really_used(tiny_models, ort_with_cuda):
    ort_with_cuda.uses = (CPU,)
    with OrtBackend(tiny_models / "segmenter.onnx") as backend:
        assert backend.provider == CPU
    assert ort_with_cuda.asked == [("CUDAExecutionProvider", {"device_id": 0}), CPU]


def test_an_engine_that_cannot_tell_where_its_work_is_done(tiny_models):
    assert work_on_cpu(object()) == []


def test_memory_on_a_device_is_kept_while_the_shape_stays(kit, tiny_models):
    """On the CPU as the "device", for want of another: copies, shapes and answers are what is checked."""
    import onnxruntime

    with OrtBackend(tiny_models / "segmenter.onnx", "cpu") as backend:
        memory = DeviceMemory(onnxruntime, backend._session, "cpu", 0)
        rooms = []
        for width, x in ((64, 0), (64, 8), (32, 4), (64, 12)):
            frame = kit.frame(width, 48, (x, 0, 4, (0, 0, 255)))[np.newaxis]
            (answer,) = memory.run("frame", frame, ["probability"])
            assert np.array_equal(answer, backend.infer(frame)["probability"]) and answer.any()
            rooms.append(memory._input)
        assert rooms[0] is rooms[1] and rooms[3] is not rooms[0]


def test_frames_of_one_size_get_a_graph_of_that_size_with_the_same_answers(tmp_path):
    """The shipped segmenter: its graph is the one that gains. A size that does not last loses nothing."""
    rng = np.random.default_rng(0)
    with Bundle(SHIPPED_MODELS).unpacked() as folder, OrtBackend(folder / SEGMENTER_FILE) as backend:
        for height, width, runs in ((135, 190, SAME_SIZE_RUNS + 2), (190, 135, 2), (135, 190, SAME_SIZE_RUNS + 2)):
            for run in range(runs):
                frame = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
                answer = backend.infer(frame)["probability"]
                with OrtBackend(folder / SEGMENTER_FILE) as fresh:
                    assert np.array_equal(answer, fresh.infer(frame)["probability"]) and answer.any()
                fixed = backend._session.get_inputs()[0].shape == [1, height, width, 3]
                assert fixed == (run + 1 >= SAME_SIZE_RUNS)


def test_numbers_of_crops_get_no_graph_of_their_own(tiny_models):
    with OrtBackend(tiny_models / "classifier.onnx") as backend:
        for _ in range(SAME_SIZE_RUNS + 1):
            backend.infer(np.zeros((3, 16, 16, 3), np.uint8))
        assert backend._session.get_inputs()[0].shape[0] == "crops"


def test_refuses_two_engines_that_overwrite_each_other(tmp_path, monkeypatch, tiny_models):
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ResourceError, match="onnxruntime and onnxruntime-gpu are both installed"):
        open_backend(tiny_models / "segmenter.onnx")


def test_says_what_to_install_where_there_is_no_engine(monkeypatch, tiny_models):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ResourceError, match=r"pip install '\.\[cpu\]'"):
        open_backend(tiny_models / "segmenter.onnx")


def test_uses_all_cores_where_the_system_does_not_tell_ours(tiny_models, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with open_backend(tiny_models / "segmenter.onnx") as backend:
        assert backend._session.get_session_options().intra_op_num_threads == 3


def test_uses_only_the_cores_of_this_process(tiny_models):
    core = min(os.sched_getaffinity(0))
    script = (
        "import os, sys; from pathlib import Path; from aerial_runtime.backends import open_backend\n"
        f"os.sched_setaffinity(0, {{{core}}})\n"
        f"b = open_backend(Path({str(tiny_models / 'segmenter.onnx')!r}))\n"
        "print(b._session.get_session_options().intra_op_num_threads)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1"

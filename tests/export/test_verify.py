import shutil

import onnx
import pytest

from aerial_export.goldens import goldens_from_bytes, goldens_to_bytes
from aerial_export.verify import verify
from aerial_runtime.errors import CheckError, InputError, ResourceError


def verified(path):
    lines = []
    verify(path, "cpu", lines.append)
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["s.onnx", "s.fp16.onnx", "c.onnx", "c.fp16.onnx"])
def test_what_was_exported_passes_and_the_control_fails(exported, name):
    said = verified(exported / name)
    assert f"{name} (" in said and "within the limits" in said
    assert "perturbed weights" in said and "outside the limits" in said


@pytest.fixture
def copies(exported, tmp_path):
    for name in ("c.onnx", "c.fp16.onnx", "c.goldens.npz", "s.goldens.npz"):
        shutil.copy(exported / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["c.onnx", "c.fp16.onnx"])
def test_a_file_with_other_weights_under_the_same_card_is_caught(copies, name):
    model = onnx.load(copies / name)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    values = onnx.numpy_helper.to_array(weights[2])
    weights[2].CopyFrom(onnx.numpy_helper.from_array((values * 1.2).astype(values.dtype), weights[2].name))
    (copies / name).write_bytes(model.SerializeToString())
    with pytest.raises(CheckError, match=rf"{name} compared with PyTorch .* is outside the limits.*; do not fly it"):
        verified(copies / name)


def test_goldens_that_would_let_anything_pass_are_refused(copies):
    goldens = goldens_from_bytes((copies / "c.goldens.npz").read_bytes(), "")
    from dataclasses import replace

    blind = replace(goldens, inputs=tuple(replace(golden, control=golden.answer) for golden in goldens.inputs))
    (copies / "c.goldens.npz").write_bytes(goldens_to_bytes(blind))
    with pytest.raises(CheckError, match="proves nothing"):
        verified(copies / "c.onnx")


def test_without_its_own_goldens_nothing_is_verified(copies):
    (copies / "s.goldens.npz").replace(copies / "c.goldens.npz")
    with pytest.raises(InputError, match="belongs to other weights"):
        verified(copies / "c.onnx")
    (copies / "c.goldens.npz").unlink()
    with pytest.raises(InputError, match="has no goldens beside it"):
        verified(copies / "c.onnx")


def test_a_device_that_is_not_there_is_an_error(copies):
    with pytest.raises(ResourceError, match="cuda:0"):
        verify(copies / "c.onnx", "cuda:0", print)

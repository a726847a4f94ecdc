"""Engines are stood in for by the FP16 file behind a card of one size; TensorRT itself is stood in for elsewhere."""

import shutil

import numpy as np
import onnx
import pytest

from aerial_export import engine_gate
from aerial_export.artefacts import _perturbed, half_of
from aerial_export.engine_gate import judge_engine, tiled
from aerial_export.goldens import Golden, GoldenSet
from aerial_export.tensorrt_graph import fixed_card
from aerial_export.verify import verify
from aerial_runtime.backends import open_backend
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import card_from_json
from aerial_runtime.engine_card import EngineCard, Host, card_path, engine_card_to_json
from aerial_runtime.errors import CheckError, InputError
from aerial_runtime.label_file import LabelledBox

SIZE = (300, 170)  # width, height


@pytest.fixture
def engines(exported, tmp_path, monkeypatch):
    """A folder with two "engines" beside their models; returns it and a dict to change what they answer."""
    for path in exported.iterdir():
        shutil.copy(path, tmp_path)
    changes = {}
    for name, frame_size, max_crops in (("s", SIZE, None), ("c", None, 7)):
        with open_backend(tmp_path / f"{name}.fp16.onnx", "cpu") as half:
            card = fixed_card(half.card, SIZE) if frame_size else half.card
        facts = EngineCard(
            card=card, host=Host("Orin", "8.7", "10.3.0"), onnx=f"{name}.onnx", sha256="0", key="k",
            workspace_mib=1, frame_size=frame_size, max_crops=max_crops,
        )  # fmt: skip
        engine = tmp_path / f"{name}.orin.10.3.0.fp16.engine"
        engine.write_bytes(b"plan")
        card_path(engine).write_text(engine_card_to_json(facts))

    def opened(path, device):
        if path.suffix != ".engine":
            return open_backend(path, device)
        half = open_backend(path.with_name(path.name.partition(".")[0] + ".fp16.onnx"), "cpu")
        change = changes.get("answer", lambda outputs: outputs)
        card = engine_gate.read_engine_card(path).card
        return FakeBackend(card, lambda images: change(dict(half.infer(images))), path.name)

    monkeypatch.setattr(engine_gate, "open_backend", opened)
    return tmp_path, changes


def test_an_engine_of_one_frame_size_is_judged_on_tiles(engines):
    folder, _ = engines
    lines = []
    verify(folder / "s.orin.10.3.0.fp16.engine", None, lines.append)
    said = "\n".join(lines)
    assert "s.onnx (fp32, CPUExecutionProvider)" in said and "s.orin.10.3.0.fp16.engine (fp16, fake)" in said
    assert "perturbed weights (fp16 limits)" in said


def test_a_classifiers_engine_is_judged_on_the_goldens_as_they_are(engines):
    folder, _ = engines
    lines = []
    verify(folder / "c.orin.10.3.0.fp16.engine", None, lines.append)
    assert "c.orin.10.3.0.fp16.engine (fp16, fake), 3 inputs: within the limits" in lines[0]


@pytest.mark.parametrize("name", ["s", "c"])
def test_an_engine_that_computes_something_else_is_caught(engines, name):
    folder, changes = engines

    def off(outputs):
        return {key: np.roll(values, 1, axis=-1) for key, values in outputs.items()}

    changes["answer"] = off
    with pytest.raises(CheckError, match=rf"{name}\.orin\.10\.3\.0\.fp16\.engine compared with"):
        verify(folder / f"{name}.orin.10.3.0.fp16.engine", None, lambda _: None)


def test_it_needs_the_fp32_file_and_that_must_be_right(engines):
    folder, _ = engines
    engine = folder / "s.orin.10.3.0.fp16.engine"
    (folder / "s.onnx").rename(folder / "away.onnx")
    with pytest.raises(InputError, match=r"is checked against s\.onnx, which is not beside it"):
        verify(engine, None, lambda _: None)
    shutil.copy(folder / "c.onnx", folder / "s.onnx")
    with pytest.raises(InputError, match="belongs to other weights"):
        judge_engine(engine, folder / "s.onnx", "cuda:0", lambda _: None)


def test_an_fp32_file_that_is_wrong_is_no_reference(engines):
    """Both files have the same wrong weights under the right card: compared with each other they would pass."""
    folder, _ = engines
    model = _perturbed(onnx.load(folder / "s.onnx"))
    (folder / "s.onnx").write_bytes(model.SerializeToString())
    half, _ = half_of(model, card_from_json(model.metadata_props[0].value, ""), "")
    (folder / "s.fp16.onnx").write_bytes(half.SerializeToString())
    with pytest.raises(CheckError, match=r"s\.onnx compared with PyTorch"):
        verify(folder / "s.orin.10.3.0.fp16.engine", None, lambda _: None)


def test_tiles_fill_the_frame_and_carry_their_labels(kit):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 40, 60, 3), dtype=np.uint8)
    golden = Golden(
        "scene", image, {}, {}, is_scene=True, truth=(LabelledBox(10, 5, 20, 20), LabelledBox(40, 20, 18, 18))
    )
    reference = FakeBackend(kit.segmenter_card(), lambda frame: {"probability": frame[:, ::4, ::4, 0].copy()}, "m.onnx")
    (filled,) = tiled(GoldenSet("PyTorch", "", "", (golden,)), (100, 48), reference).inputs
    assert filled.images.shape == (1, 48, 100, 3) and filled.images.flags.c_contiguous
    assert np.array_equal(filled.images[0, 40:48, 60:100], image[0, :8, :40])
    assert filled.answer["probability"].shape == (1, 12, 25)
    assert [(label.x, label.y, label.truncated) for label in filled.truth] == [
        (10, 5, False), (40, 20, False), (70, 5, False),
    ]  # fmt: skip

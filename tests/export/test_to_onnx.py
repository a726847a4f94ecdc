import copy

import msgspec
import numpy as np
import onnx
import pytest
import torch

import aerial_export.to_onnx
from aerial_export.golden_inputs import probe_crops, probe_frames
from aerial_export.goldens import Input
from aerial_export.graph_contract import check_contract
from aerial_export.to_onnx import build_model
from aerial_runtime.backends import open_backend
from aerial_runtime.card import CARD_METADATA_KEY, card_from_json
from aerial_runtime.errors import CheckError, ModelError
from aerial_train.checkpoint import Checkpoint, load_checkpoint
from aerial_train.unet import UNetConfig

RNG = np.random.default_rng(1)
ARCHITECTURES = [
    UNetConfig(filters=(4, 8, 8)),
    UNetConfig(filters=(4, 8), stem="patch4", convs=2),
    UNetConfig(filters=(4, 8), stem="none", skip="concat", up="transpose"),
    UNetConfig(filters=(4, 8, 8), stem="patch2", output_stride=4),
    UNetConfig(filters=(8,), stem="conv8"),
    UNetConfig(filters=(4, 8), stem="patch4", output_stride=2),
]


def no_scenes(card):
    return probe_frames() if card.kind == "segmenter" else probe_crops(card.crop_size)


def some_frames(card):
    frame = RNG.integers(0, 256, (1, 120, 200, 3), dtype=np.uint8)
    return [*no_scenes(card), Input("scene", frame, is_scene=True)]


def opened(path):
    return onnx.load(path)


@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda c: f"{c.stem}-{c.up}-{c.skip}-{c.output_stride}")
def test_segmenter_agrees_and_keeps_the_contract(export_checkpoint, save_segmenter, tmp_path, config):
    source = save_segmenter(config)
    report = export_checkpoint(source, tmp_path / "m.onnx", some_frames)
    assert report.inputs == 8
    assert report.outputs[0].max_error <= 1
    model = opened(tmp_path / "m.onnx")
    (item,) = model.metadata_props
    card = card_from_json(item.value, "")
    assert item.key == CARD_METADATA_KEY
    assert msgspec.structs.replace(card, artefact=None) == load_checkpoint(source).card
    check_contract(model, card)
    operators = [node.op_type for node in model.graph.node]
    assert not {"Transpose", "BatchNormalization", "DepthToSpace", "SpaceToDepth"} & set(operators)
    assert operators.count("Conv") + operators.count("ConvTranspose") == sum(
        isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        for part in load_checkpoint(source).network.modules()
    )


def test_the_map_spans_both_halves_so_that_agreement_means_something(
    export_checkpoint, save_segmenter, tmp_path, quick_build
):
    export_checkpoint(save_segmenter(), tmp_path / "m.onnx", no_scenes)
    with open_backend(tmp_path / "m.onnx", "cpu") as backend:
        blocks = RNG.integers(0, 256, (1, 9, 17, 3), dtype=np.uint8).repeat(37, axis=1).repeat(31, axis=2)
        mask = backend.infer(np.ascontiguousarray(blocks[:, :, :517]))["probability"]
    assert mask.shape == (1, 84, 130)
    assert 0.02 < (mask >= 128).mean() < 0.98 and mask.std() > 5


def test_nothing_of_this_machine_travels_in_the_file(export_checkpoint, save_segmenter, tmp_path, quick_build):
    export_checkpoint(save_segmenter(), tmp_path / "m.onnx", no_scenes)
    data = (tmp_path / "m.onnx").read_bytes()
    assert b"site-packages" not in data and b"/aerial_train/" not in data and len(data) < 40_000


def test_classifier_agrees_with_calibrated_heads(export_checkpoint, save_classifier, tmp_path):
    cold, warm = tmp_path / "cold.onnx", tmp_path / "warm.onnx"
    export_checkpoint(save_classifier(), cold, no_scenes)
    export_checkpoint(save_classifier(temperature={"letter": 5.0, "target": 3.0}, name="warm.pt"), warm, no_scenes)
    crops = RNG.integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    with open_backend(cold, "cpu") as one, open_backend(warm, "cpu") as other:
        before, after = one.infer(crops), other.infer(crops)
    assert list(before) == ["shape", "letter", "shape_color", "letter_color", "target", "heading"]
    assert {values.dtype.name for values in before.values()} == {"float32"}
    assert np.allclose(before["letter"].sum(axis=1), 1, atol=1e-5)
    wanted = before["letter"] ** (1 / 5)  # softmax(logits / T) in terms of softmax(logits)
    assert np.allclose(after["letter"], wanted / wanted.sum(axis=1, keepdims=True), atol=1e-5)
    odds = lambda p: p / (1 - p)  # noqa: E731
    assert np.allclose(odds(after["target"]), odds(before["target"]) ** (1 / 3), rtol=1e-3)
    for name in ("shape", "heading"):
        assert np.allclose(after[name], before[name], atol=1e-5)


def test_a_second_label_space(export_checkpoint, save_classifier, tmp_path, pads):
    report = export_checkpoint(save_classifier(pads, crop_size=17), tmp_path / "m.onnx", no_scenes)
    assert [output.output for output in report.outputs] == ["kind", "target"]
    with open_backend(tmp_path / "m.onnx", "cpu") as backend:
        outputs = backend.infer(np.zeros((16, 17, 17, 3), np.uint8))
    assert {name: values.shape for name, values in outputs.items()} == {"kind": (16, 3), "target": (16, 1)}


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_a_wrong_model_fails_and_leaves_no_file(
    export_checkpoint, kind, save_segmenter, save_classifier, tmp_path, monkeypatch
):
    """The negative control: the graph of slightly other weights must not pass for this checkpoint's."""
    source = save_segmenter() if kind == "segmenter" else save_classifier()
    output = tmp_path / "m.onnx"
    output.write_bytes(b"the model of last week")

    def perturbed(checkpoint):
        twin = load_checkpoint(source).network
        convolution = [part for part in twin.modules() if isinstance(part, torch.nn.Conv2d)][2]
        convolution.weight.data *= 1.3
        return build_model(Checkpoint(twin, checkpoint.card))

    monkeypatch.setattr(aerial_export.to_onnx, "build_model", perturbed)
    with pytest.raises(CheckError, match=r"PyTorch .* outside the limits"):
        export_checkpoint(source, output, no_scenes)
    assert output.read_bytes() == b"the model of last week"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "model.pt"]


def test_a_graph_that_breaks_the_contract_is_not_kept(export_checkpoint, save_segmenter, tmp_path, monkeypatch, built):
    source = save_segmenter()
    model = copy.deepcopy(built[load_checkpoint(source).card.weights_sha256])
    model.ir_version = 11
    monkeypatch.setattr(aerial_export.to_onnx, "build_model", lambda _checkpoint: model)
    with pytest.raises(CheckError, match="IR version is 11"):
        export_checkpoint(source, tmp_path / "m.onnx", no_scenes)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_weights_that_are_not_numbers_are_refused(export_checkpoint, save_classifier, tmp_path):
    from aerial_train.checkpoint import save_checkpoint

    loaded = load_checkpoint(save_classifier())
    loaded.network.heads.weight.data[0, 0] = float("nan")
    save_checkpoint(tmp_path / "model.pt", loaded.network, loaded.card)
    with pytest.raises(ModelError, match="NaN"):
        export_checkpoint(tmp_path / "model.pt", tmp_path / "m.onnx", no_scenes)
    assert not (tmp_path / "m.onnx").exists()

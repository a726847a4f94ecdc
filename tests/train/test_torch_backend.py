"""A checkpoint behind the engines' interface answers like the ONNX file exported from it."""

import hashlib
import shutil

import msgspec
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import aerial_export.to_onnx
import aerial_train.torch_backend
from aerial_export.to_onnx import build_model, open_checkpoint
from aerial_runtime.card import ModelCard, load_label_space
from aerial_runtime.errors import InputError, ResourceError
from aerial_train.checkpoint import classifier_tensors, load_checkpoint, save_checkpoint, segmenter_tensors
from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.torch_backend import TorchBackend, open_model
from aerial_train.unet import UNet, UNetConfig

SUAS = load_label_space("suas")


def lively(network):
    """Norms with statistics of their own, so that evaluation mode matters."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.1, 1)
    return network


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """kind -> a checkpoint and what was exported from it."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    unet = lively(UNet(UNetConfig(filters=(4, 8))))
    unet.head.bias.data += 4.6  # off the prior: a map of all grey levels
    ins, outs = segmenter_tensors(4)
    save_checkpoint(folder / "segmenter.pt", unet, ModelCard(
        kind="segmenter", name="s", label_space=SUAS, inputs=ins, outputs=outs, crop_margin=1.3, stride=4,
    ))  # fmt: skip
    ins, outs = classifier_tensors(SUAS, 24)
    save_checkpoint(folder / "classifier.pt", lively(Classifier(ClassifierConfig((8, 16)), SUAS)), ModelCard(
        kind="classifier", name="c", label_space=SUAS, inputs=ins, outputs=outs, crop_margin=1.3, crop_size=24,
        temperature={"letter": 0.2, "target": 3.0},
    ))  # fmt: skip
    for kind in ("segmenter", "classifier"):
        model = build_model(load_checkpoint(folder / f"{kind}.pt"))
        (folder / f"{kind}.onnx").write_bytes(model.SerializeToString())
    return {kind: (folder / f"{kind}.pt", folder / f"{kind}.onnx") for kind in ("segmenter", "classifier")}


@pytest.mark.parametrize(
    ("kind", "shape"), [("segmenter", (1, 45, 70, 3)), ("classifier", (5, 24, 24, 3)), ("classifier", (1, 24, 24, 3))]
)
def test_answers_like_the_exported_graph(pairs, kind, shape):
    images = noise(shape)
    checkpoint, graph = (open_model(path, "cpu", 1) for path in pairs[kind])
    ours, theirs = checkpoint.infer(images), graph.infer(images)
    assert isinstance(checkpoint, TorchBackend)
    assert checkpoint.card == msgspec.structs.replace(graph.card, artefact=None)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        tolerance = 1 if values.dtype == np.uint8 else 1e-3
        np.testing.assert_allclose(values.astype(float), theirs[name].astype(float), atol=tolerance)
        assert values.std() > 0 or values.size == 1


def test_the_hash_is_of_what_was_read_though_a_training_replaces_the_file(pairs, tmp_path, monkeypatch):
    path = tmp_path / "best.pt"

    def replaced_behind(_path):
        checkpoint = load_checkpoint(path)
        path.write_bytes(b"the next epoch")
        return checkpoint

    monkeypatch.setattr(aerial_export.to_onnx, "build_model", lambda _: onnx.load(pairs["classifier"][1]))
    for module in (aerial_train.torch_backend, aerial_export.to_onnx):
        monkeypatch.setattr(module, "load_checkpoint", replaced_behind)
    first = shutil.copy(pairs["classifier"][0], path).read_bytes()
    assert TorchBackend(path, "cpu").sha256 == "sha256:" + hashlib.sha256(first).hexdigest()
    path.write_bytes(first)
    artefact = open_checkpoint(path).card.artefact
    assert artefact.ancestors["checkpoint"] == hashlib.sha256(first).hexdigest()


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"there is no model .*nothing\.pt"):
        open_model(tmp_path / "nothing.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_named_device_never_falls_back(pairs):
    with pytest.raises(ResourceError, match="cuda:0 is not available"):
        open_model(pairs["classifier"][0], "cuda:0")

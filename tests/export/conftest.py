"""Small networks whose batch norms look lived in, saved as checkpoints: quick to export, hard to get right by luck."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import aerial_export.to_onnx
from aerial_export.artefacts import export_model
from aerial_export.golden_inputs import probe_crops, probe_frames
from aerial_export.goldens import Input, goldens_beside
from aerial_export.parity import check_parity
from aerial_export.to_onnx import build_model
from aerial_runtime.backends import open_backend
from aerial_runtime.card import Head, LabelSpace, ModelCard, load_label_space
from aerial_train.checkpoint import classifier_tensors, load_checkpoint, save_checkpoint, segmenter_tensors
from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.unet import UNet, UNetConfig
from aerial_train.unetpp import make_unet

SUAS = load_label_space("suas")
PADS = LabelSpace("pads", (Head("kind", ("round", "square", "none")),))
SMALL = UNetConfig(filters=(4, 8, 8))


def lived_in(network):
    """Give norms statistics of their own, and the mask logits of both signs."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.1, 1)
    if isinstance(network, UNet):
        network.head.weight.data *= 4
        with torch.no_grad():
            grey = network.eval()(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
        network.head.bias.data -= grey.mean(dim=(0, 2, 3))
    return network.eval()


def segmenter(folder, config=SMALL, name="model.pt"):
    torch.manual_seed(3)
    stride = config.output_stride
    inputs, outputs = segmenter_tensors(stride)
    card = ModelCard(
        kind="segmenter", name="s", label_space=SUAS, inputs=inputs, outputs=outputs, crop_margin=1.3, stride=stride
    )
    save_checkpoint(folder / name, lived_in(make_unet(config)), card)
    return folder / name


def classifier(folder, space=SUAS, crop_size=24, temperature=None, name="model.pt", **options):
    torch.manual_seed(3)
    inputs, outputs = classifier_tensors(space, crop_size)
    card = ModelCard(
        kind="classifier", name="c", label_space=space, inputs=inputs, outputs=outputs, crop_margin=1.3,
        crop_size=crop_size, temperature=temperature or {},
    )  # fmt: skip
    save_checkpoint(folder / name, lived_in(Classifier(ClassifierConfig(filters=(8, 16), **options), space)), card)
    return folder / name


@pytest.fixture
def save_segmenter(tmp_path):
    return partial(segmenter, tmp_path)


@pytest.fixture
def save_classifier(tmp_path):
    return partial(classifier, tmp_path)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The default checkpoints' graphs, by the hash of their weights: PyTorch's exporter takes seconds."""
    folder = tmp_path_factory.mktemp("built")
    checkpoints = [load_checkpoint(segmenter(folder, name="s.pt")), load_checkpoint(classifier(folder, name="c.pt"))]
    return {checkpoint.card.weights_sha256: build_model(checkpoint) for checkpoint in checkpoints}


@pytest.fixture
def quick_build(built, monkeypatch):
    """Put the graphs that are built already in place of the exporter; all else is real."""

    def build(checkpoint):
        return copy.deepcopy(built[checkpoint.card.weights_sha256])

    monkeypatch.setattr(aerial_export.to_onnx, "build_model", build)


def noise_scenes(card):
    """Inputs for a quick gate: the probes, and noise in the place of drawn scenes."""
    rng = np.random.default_rng(0)
    if card.kind == "segmenter":
        return [*probe_frames(), Input("scene", rng.integers(0, 256, (1, 60, 100, 3), dtype=np.uint8), is_scene=True)]
    crops = rng.integers(0, 256, (40, card.crop_size, card.crop_size, 3), dtype=np.uint8)
    return [*probe_crops(card.crop_size), Input("crops", crops, is_scene=True)]


@pytest.fixture
def quick_scenes():
    return noise_scenes


@pytest.fixture(scope="session")
def exported(built, tmp_path_factory):
    """A folder with all artefacts of the default networks, s.* and c.*, and their checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aerial_export.to_onnx, "build_model", lambda c: copy.deepcopy(built[c.card.weights_sha256]))
        for source in (segmenter(folder, name="s.pt"), classifier(folder, name="c.pt")):
            export_model(source, source.with_suffix(".onnx"), lambda _: None, noise_scenes)
    return folder


@pytest.fixture
def pads():
    return PADS


@pytest.fixture(scope="session")
def export_checkpoint():
    """Export a checkpoint, and return how the FP32 file compares with PyTorch."""

    def export(source, output, draw):
        export_model(source, output, progress=lambda _: None, draw=draw)
        with open_backend(output, "cpu") as backend:
            return check_parity(backend, goldens_beside(output, backend.card), "fp32")

    return export

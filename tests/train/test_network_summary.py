import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from aerial_runtime.card import load_label_space
from aerial_train.classifier import Classifier, ClassifierConfig, classifier_receptive_field
from aerial_train.network_summary import describe, live_bytes, milliseconds, summarise
from aerial_train.unet import UNet, UNetConfig
from aerial_train.unetpp import make_unet

SUAS = load_label_space("suas")
SMALL = UNetConfig(filters=(4, 8, 8))
FLOATS = 4 * 4 * 4 * 3  # bytes of the image [1, 4, 4, 3] in float32


class Chain(nn.Module):
    """Three steps; each result replaces the one before."""

    def forward(self, images):
        x = images.float()
        for _ in range(2):
            x = x * 2
        return x


class Hoard(nn.Module):
    """The same, and every result is kept to the end."""

    def forward(self, images):
        kept = [images.float()]
        for _ in range(2):
            kept.append(kept[-1] * 2)
        return sum(kept)


class Scales(nn.Module):
    """Steps whose inputs a backward pass needs, for the gradients of the scales."""

    def __init__(self, steps):
        super().__init__()
        self.scales = nn.Parameter(torch.ones(steps, 3))

    def forward(self, images):
        x = images.float()
        for scale in self.scales:
            x = x * scale
        return x


def test_summary_leaves_the_network_alone_and_reads_as_one_line():
    network = UNet(SMALL)
    text = str(summarise(network, (1, 64, 64, 3)))
    assert next(network.parameters()).device.type == "cpu"
    assert "parameters" in text and "MMAC" in text and "receptive field" in text


def test_live_bytes_by_hand():
    assert live_bytes(Chain(), (1, 4, 4, 3)) == 2 * FLOATS
    assert live_bytes(Hoard(), (1, 4, 4, 3)) in (4 * FLOATS, 5 * FLOATS)  # the sum: one or two at a time
    assert live_bytes(Chain(), (3, 4, 4, 3)) == 6 * FLOATS
    views = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (6, 8)))
    assert live_bytes(nn.Sequential(Chain(), views), (1, 4, 4, 3)) == 2 * FLOATS


def test_in_flight_nothing_is_kept_for_gradients():
    assert live_bytes(Scales(5), (1, 4, 4, 3)) == 2 * FLOATS
    assert live_bytes(Scales(5), (1, 4, 4, 3), training=True) >= 6 * FLOATS + 2 * 4 * 15


def test_a_training_step_runs_what_only_training_has():
    plain = UNetConfig(filters=(4, 4, 4), architecture="unetpp")
    supervised = make_unet(replace(plain, deep_supervision=True))
    shape = (2, 64, 64, 3)
    assert live_bytes(supervised, shape) == live_bytes(make_unet(plain), shape)
    assert live_bytes(supervised, shape, training=True) > live_bytes(make_unet(plain), shape, training=True)
    assert all(parameter.grad is None for parameter in supervised.parameters())


def test_dropout_and_norms_of_the_network_stay_as_they_are():
    network = UNet(SMALL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    describe(network, (1, 64, 64, 3), measured=True)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_describe_says():
    text = describe(UNet(SMALL), (2, 64, 96, 3), measured=True)
    assert [line.split("  ")[1] for line in text.splitlines()] == [
        "parameters", "multiply-adds", "receptive field", "memory (estimate)", "measured",
    ]  # fmt: skip
    assert "2 x 96x64 px" in text and f"{summarise(UNet(SMALL), (1, 8, 8, 3)).receptive_field_px} px" in text
    assert re.search(r"memory .* [0-9.]+ MB in flight, [0-9.]+ MB in a training step", text)
    assert re.search(r"measured +[0-9.]+ ms on cpu, median of 5", text)
    assert "measured" not in describe(UNet(SMALL), (2, 64, 96, 3))
    assert "217 px a cell" in describe(Classifier(ClassifierConfig(), SUAS), (1, 48, 48, 3))


def test_time_grows_with_the_work():
    network = UNet(SMALL)
    small, large = milliseconds(network, (1, 64, 64, 3)), milliseconds(network, (4, 512, 512, 3))
    assert 0 < small < large


@pytest.mark.parametrize(
    "config",
    [
        ClassifierConfig(filters=(2, 3), blocks=1),
        ClassifierConfig(filters=(2, 2, 2), blocks=2, stem_kernel=3, stem_stride=1),
        ClassifierConfig(filters=(2,), blocks=2, stem_kernel=7, stem_stride=3),
    ],
    ids=str,
)
def test_receptive_field_of_a_classifier_is_what_gradients_reach(config):
    network = Classifier(config, SUAS).double().eval()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    field = classifier_receptive_field(config)
    planes = torch.ones(1, 3, 3 * field, 3 * field, dtype=torch.float64, requires_grad=True)
    cells = network.trunk(network.stem(planes))
    middle = cells.shape[-1] // 2
    (gradient,) = torch.autograd.grad(cells[0, 0, middle, middle], planes)
    touched = gradient[0, 0].abs().sum(dim=0).nonzero()
    assert int(touched.max() - touched.min()) + 1 == field


@pytest.mark.device
def test_time_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    assert "ms on cuda:0" in describe(UNet(SMALL).cuda(), (1, 1088, 1920, 3), measured=True)

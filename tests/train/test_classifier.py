from dataclasses import replace

import pytest
import torch
from torch import nn

from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_train.classifier import Classifier, ClassifierConfig, into_unit_disc
from aerial_train.network_summary import summarise

SUAS = load_label_space("suas")
PADS = LabelSpace("pads", (Head("pad.kind", ("round", "square", "none")),))
SMALL = ClassifierConfig(filters=(4, 8), blocks=1)


def test_costs_are_those_that_were_measured():
    """Known of this design: 711 k parameters, 9.0 MMAC a crop of 32 px, 35.8 of 64 px."""
    network = Classifier(ClassifierConfig(filters=(16, 32, 64, 128)), SUAS)
    assert summarise(network, (1, 32, 32, 3)).parameters / 1e3 == pytest.approx(711, rel=0.005)
    assert summarise(network, (1, 32, 32, 3)).macs / 1e6 == pytest.approx(9.0, rel=0.01)
    assert summarise(network, (2, 64, 64, 3)).macs / 2e6 == pytest.approx(35.8, rel=0.01)
    assert summarise(network, (1, 32, 32, 3)).receptive_field_px is None


@pytest.mark.parametrize("size", [8, 31, 48])
def test_outputs_follow_the_label_space(size):
    outputs = Classifier(SMALL, SUAS)(torch.zeros(3, size, size, 3, dtype=torch.uint8))
    widths = {"shape": 13, "letter": 36, "shape_color": 10, "letter_color": 10, "target": 1, "heading": 2}
    assert {name: tuple(values.shape) for name, values in outputs.items()} == {n: (3, w) for n, w in widths.items()}


def test_without_heading_there_is_no_heading():
    outputs = Classifier(SMALL, PADS)(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    assert {name: tuple(values.shape) for name, values in outputs.items()} == {"pad.kind": (2, 3), "target": (2, 1)}


@torch.no_grad()
def test_a_crop_is_judged_alone():
    torch.manual_seed(0)
    network = Classifier(SMALL, SUAS).eval()
    crops = torch.randint(0, 256, (4, 24, 24, 3), dtype=torch.uint8)
    together, alone = network(crops), network(crops[2:3])
    for name, values in alone.items():
        assert torch.allclose(together[name][2:3], values, atol=1e-5)


def test_headings_stay_in_the_unit_disc_and_keep_their_direction():
    vectors = torch.tensor([[0.0, 0.0], [0.3, -0.4], [3.0, 4.0]], requires_grad=True)
    squashed = into_unit_disc(vectors)
    assert torch.allclose(squashed, torch.tensor([[0.0, 0.0], [0.3, -0.4], [0.6, 0.8]]))
    squashed.sum().backward()
    assert vectors.grad is not None and vectors.grad.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": ()}, "at least"),
        ({"blocks": 0}, "at least"),
        ({"stem_kernel": 4}, "at least"),
        ({"stem_kernel": 1}, "at least"),
        ({"activation": "leaky-relu"}, "is 'leaky_relu'"),
        ({"dropout": 1.0}, "under 1"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**changes)


def test_weights_do_not_depend_on_activation_and_dropout():
    plain, other = Classifier(SMALL, SUAS), Classifier(replace(SMALL, activation="mish", dropout=0.4), SUAS)
    other.load_state_dict(plain.state_dict())
    kinds = [sum(type(part) is kind for part in other.modules()) for kind in (nn.Mish, nn.ReLU)]
    assert kinds == [5, 0]  # the stem, and two in each of two blocks
    assert [name for name, _ in other.named_children()][:3] == ["stem", "trunk", "dropout"]


def test_dropout_is_for_training_alone():
    torch.manual_seed(0)
    network, crops = Classifier(replace(SMALL, dropout=0.5), SUAS), torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    seen = []
    network.heads.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        nn.init.constant_(network.trunk[-1].convs[1][1].bias, 5.0)
        network.train()(crops)
        network.eval()(crops)
    assert 0 < (seen[0] == 0).sum() < seen[0].numel() and not (seen[1] == 0).any()

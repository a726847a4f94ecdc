from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aerial_train.mask_losses import mask_loss
from aerial_train.unet import UNet, UNetConfig
from aerial_train.unetpp import UNetPP, make_unet


def nest(**changes):
    return UNetConfig(**{"filters": (4, 6, 8, 10), "architecture": "unetpp", "deep_supervision": True} | changes)


NEST = nest()
SMALL = (
    NEST,
    nest(skip="concat", up="transpose", stem="none"),
    nest(padding="valid", skip="concat", stem="patch2"),
    nest(padding="valid", down="stride", convs=2, kernel=5, filters=(4, 6, 6, 6, 6), stem="patch2", output_stride=4),
    nest(filters=(4, 6), deep_supervision=False),
    nest(padding="valid", stem="patch4", output_stride=2),
)
NETWORKS = [make_unet(config) for config in SMALL]


def images(count, height, width):
    torch.manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NETWORKS), st.integers(1, 70), st.integers(1, 70))
def test_any_size_gives_a_cell_for_every_stride_pixels(network, height, width):
    stride = network.config.output_stride
    wanted = (2, 1, -(-height // stride), -(-width // stride))
    with torch.no_grad():
        assert network.eval()(images(2, height, width)).shape == wanted
        answer = network.train()(images(2, height, width))
    if network.config.deep_supervision:
        assert [column.shape for column in answer] == [wanted] * network.config.columns
    else:
        assert answer.shape == wanted


def test_the_factory_builds_what_the_configuration_says():
    assert type(make_unet(UNetConfig())) is UNet and type(make_unet(NEST)) is UNetPP


def test_skips_are_dense():
    """Node (level, column) convolves column + 1 features of its level: Zhou et al. 2018, equation 1."""
    network = UNetPP(nest(skip="concat"))
    assert network.nodes() == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 3)]
    for (level, column), up in zip(network.nodes(), network.decoder, strict=True):
        assert up.convs[0][0].in_channels == (column + 1) * NEST.filters[level]


def test_a_nest_of_one_step_is_a_unet():
    torch.manual_seed(0)
    config = UNetConfig(filters=(4, 8), padding="valid")
    unet, nest = UNet(config).eval(), UNetPP(replace(config, architecture="unetpp")).eval()
    nest.load_state_dict(unet.state_dict())
    with torch.no_grad():
        assert torch.equal(unet(images(1, 37, 45)), nest(images(1, 37, 45)))


def without_chance(network):
    """Training mode, but norms use the statistics they have, so that a frame is judged the same in both modes."""
    for part in network.train().modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    return network


@torch.no_grad()
@pytest.mark.parametrize("config", SMALL[:4], ids=str)
def test_a_column_is_a_shallower_nest(config):
    """Same weights: the second column is, where no border is seen, the answer of a nest that is two steps deep."""
    torch.manual_seed(0)
    deep = without_chance(make_unet(config))
    shallow = without_chance(make_unet(replace(config, filters=config.filters[: config.output_level + 3])))
    shallow.stem, shallow.encoder = deep.stem, deep.encoder[: len(shallow.encoder)]
    shallow.decoder = torch.nn.ModuleList(deep.decoder[deep.nodes().index(node)] for node in shallow.nodes())
    shallow.head = deep.side_heads[1]
    frame = images(1, 400, 400)
    one, two, _ = deep(frame)
    middle = slice(two.shape[-1] // 2 - 3, two.shape[-1] // 2 + 3)
    assert (two - shallow(frame)[-1])[..., middle, middle].abs().max() < 1e-5 < two.std()
    assert (two - one).abs().max() > 1e-3


@torch.no_grad()
def test_in_flight_the_last_column_answers():
    torch.manual_seed(0)
    network = without_chance(UNetPP(NEST))
    columns = network(images(1, 64, 64))
    assert len(columns) == 3
    assert torch.equal(network.eval()(images(1, 64, 64)), columns[-1])


def test_supervision_teaches_every_weight():
    torch.manual_seed(0)
    network = UNetPP(NEST).train()
    answer = network(images(2, 64, 64))
    truth = torch.rand_like(answer[0])
    mask_loss("jaccard+bce")(answer, truth, torch.ones_like(truth)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    alone = UNetPP(nest(deep_supervision=False)).train()
    alone(images(2, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in alone.parameters())

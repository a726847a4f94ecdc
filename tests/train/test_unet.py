import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aerial_train.unet import PRESETS, UNet, UNetConfig, receptive_field

SMALL = (
    UNetConfig(filters=(4, 8, 8)),
    UNetConfig(filters=(4, 8), convs=2, skip="concat", up="transpose", stem="none"),
    UNetConfig(filters=(4, 4, 4), stem="patch4", skip="concat"),
    UNetConfig(filters=(4, 4, 4), stem="patch2", output_stride=8),
    UNetConfig(filters=(4, 4), stem="conv8", up="transpose", out_channels=2),
    UNetConfig(filters=(4, 4, 4), stem="patch8", output_stride=16),
    UNetConfig(filters=(4,), stem="conv2"),
    UNetConfig(filters=(4, 4, 4), padding="valid"),
    UNetConfig(filters=(4, 4, 4), padding="valid", down="stride", stem="none", convs=2, kernel=5),
    UNetConfig(filters=(4, 4, 4), padding="valid", down="average", stem="patch2", output_stride=4, skip="concat"),
    UNetConfig(filters=(4, 4, 4, 4), padding="valid", down="stride", stem="patch2", output_stride=8, kernel=5),
    UNetConfig(filters=(4, 4), down="stride", kernel=5, activation="silu", up_activation=True, dropout=0.5),
    UNetConfig(filters=(4, 4), stem="conv4", output_stride=1, out_channels=2),
    UNetConfig(filters=(4, 4), stem="patch4", output_stride=2, padding="valid"),
)
NETWORKS = [UNet(config).eval() for config in SMALL]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NETWORKS), st.integers(1, 70), st.integers(1, 70), st.integers(1, 2))
def test_any_size_gives_a_cell_for_every_stride_pixels(network, height, width, count):
    stride = network.config.output_stride
    with torch.no_grad():
        logits = network(torch.zeros(count, height, width, 3, dtype=torch.uint8))
    assert logits.shape == (count, network.config.out_channels, -(-height // stride), -(-width // stride))


@torch.no_grad()
def test_what_lies_beyond_the_receptive_field_changes_nothing():
    """A frame whose size needs padding gives, away from its edges, what a larger frame gives there."""
    torch.manual_seed(0)
    network = NETWORKS[0]
    frame = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    whole, part = network(frame), network(frame[:, :203, :201])
    inside = (200 - receptive_field(network.config)) // 4
    assert part.shape[-2:] == (51, 51) and inside > 20
    assert torch.allclose(whole[..., :inside, :inside], part[..., :inside, :inside], atol=1e-5)


def test_an_untrained_network_sees_hardly_any_target():
    torch.manual_seed(0)
    with torch.no_grad():
        logits = UNet(PRESETS["fast"]).eval()(torch.full((1, 64, 64, 3), 127, dtype=torch.uint8))
    assert torch.sigmoid(logits).mean() < 0.2


def test_patch_stem_reads_every_pixel_once():
    """ceil(H / s) patches: the last rows of an odd frame are part of a patch padded with black."""
    network = UNet(UNetConfig(filters=(4,), stem="patch4")).eval()
    planes = torch.zeros(1, 3, 9, 9)
    changed = planes.clone()
    changed[..., 8, 8] = 1
    with torch.no_grad():
        before, after = network.stem(planes), network.stem(changed)
    assert before.shape[-2:] == (3, 3)
    differs = (before != after).any(dim=1)[0].nonzero().tolist()
    assert differs == [[2, 2]]


# Of the names and shapes of all weights, before there were options beyond the first nine.
@pytest.mark.parametrize(
    ("preset", "digest"),
    [
        ("default", "8e7245e117a00592"),
        ("quality", "84dccf1898b3885e"),
        ("fast", "14e3974c9ac37d79"),
        ("textbook", "eb52f86f2a53218c"),
    ],
)
def test_old_checkpoints_fit(preset, digest):
    weights = UNet(PRESETS[preset]).state_dict()
    text = "".join(f"{name} {tuple(value.shape)}\n" for name, value in weights.items())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


@torch.no_grad()
@pytest.mark.parametrize("config", SMALL[7:11], ids=str)
def test_valid_convolutions_give_inside_what_padded_ones_give(config):
    """Same weights: where no padding is seen, the crops lie exactly on what comes up, but for the grids' phase."""
    torch.manual_seed(0)
    valid, padded = UNet(config).eval(), UNet(replace(config, padding="zero")).eval()
    padded.load_state_dict(valid.state_dict())
    phase = config.convs * config.lost_by_conv % (1 << config.columns)  # cells between the coarsest grids of both
    side = 3 * receptive_field(config) + 7
    frame = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8)
    start, edge = phase * config.output_stride, receptive_field(config) // config.output_stride
    inside = valid(frame)[..., phase:, phase:] - padded(frame[:, start:, start:])
    assert inside[..., edge:-edge, edge:-edge].abs().max() < 1e-5 < valid(frame).std()
    assert inside.abs().max() > 1e-3  # at the border they see other things


def test_valid_convolutions_are_not_padded_but_the_features_are_by_what_they_lose():
    """Two levels: one cell of the first level's convolution, two of the second's (four of the first), two going up."""
    network = UNet(UNetConfig(filters=(4, 4), stem="none", convs=2, padding="valid"))
    levels = (*network.encoder.modules(), *network.decoder.modules())
    assert {part.padding for part in levels if isinstance(part, nn.Conv2d)} == {(0, 0)}
    assert network.config.margin == 1 + 2 * 2 + 2


@pytest.mark.parametrize(("down", "value"), [("max", 4.0), ("average", 2.5)])
def test_pooling_is_what_it_says(down, value):
    network = UNet(UNetConfig(filters=(1, 1), down=down))
    assert network._halved(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item() == value


def test_steps_of_two_need_no_more_weights():
    shapes = [
        [tuple(value.shape) for value in UNet(UNetConfig(filters=(4, 8), down=down)).state_dict().values()]
        for down in ("max", "stride")
    ]
    assert shapes[0] == shapes[1]
    strided = UNet(UNetConfig(filters=(4, 8), down="stride"))
    assert [part.stride for part in strided.encoder.modules() if isinstance(part, nn.Conv2d)] == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("activation", "kind"),
    [("relu", nn.ReLU), ("silu", nn.SiLU), ("mish", nn.Mish), ("leaky_relu", nn.LeakyReLU)],
)
def test_activations(activation, kind):
    plain, more = (
        UNet(UNetConfig(filters=(4, 8), stem=stem, activation=activation, up_activation=up))
        for stem, up in (("patch4", False), ("conv4", True))
    )
    convs = [sum(isinstance(part, nn.Conv2d) for part in network.modules()) for network in (plain, more)]
    found = [sum(type(part) is kind for part in network.modules()) for network in (plain, more)]
    assert found == [convs[0] - 2, convs[1] - 1]  # none behind the head, and behind what goes up only if asked


def test_dropout_drops_whole_channels_in_training_alone():
    torch.manual_seed(0)
    network = UNet(UNetConfig(filters=(4, 8, 8), dropout=0.5))
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    seen = []
    network.encoder[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    network.train()(images)
    channels = (seen[0] == 0).all(dim=3).all(dim=2)[0]
    assert 0 < channels.sum() < 4
    with torch.no_grad():
        network.eval()
        assert torch.equal(network(images), network(images))


def test_a_unet_is_not_a_nest():
    with pytest.raises(ValueError, match="make_unet"):
        UNet(UNetConfig(architecture="unetpp"))

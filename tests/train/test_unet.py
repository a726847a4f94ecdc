import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from aerial_train.network_summary import summarise
from aerial_train.unet import PRESETS, UNet, UNetConfig, receptive_field, unet_config

SMALL = (
    UNetConfig(filters=(4, 8, 8)),
    UNetConfig(filters=(4, 8), convs=2, skip="concat", up="transpose", stem="none"),
    UNetConfig(filters=(4, 4, 4), stem="patch4", skip="concat"),
    UNetConfig(filters=(4, 4, 4), stem="patch2", output_stride=8),
    UNetConfig(filters=(4, 4), stem="conv8", up="transpose", out_channels=2),
    UNetConfig(filters=(4, 4, 4), stem="patch8", output_stride=16),
    UNetConfig(filters=(4,), stem="conv2"),
)
NETWORKS = [UNet(config).eval() for config in SMALL]


# Known of these designs: thousand parameters, GMAC at 1088x1920, receptive field in pixels.
@pytest.mark.parametrize(
    ("config", "parameters_k", "gmac", "field_px"),
    [
        (PRESETS["default"], 160, 2.0, 187),
        (PRESETS["quality"], 403, 3.8, 363),
        (PRESETS["fast"], 40, 0.48, 184),
        (PRESETS["textbook"], 1943, 96.7, 188),
        (UNetConfig(convs=2, skip="concat", up="transpose", stem="patch4"), 485, 5.0, 368),
        (UNetConfig(convs=2, skip="concat", stem="patch4"), 453, 4.8, 368),
        (UNetConfig(3, 1, (8, 16, 32, 64, 128), 2, "concat", "nearest", "patch2", 4), 452, 5.2, 376),
        (UNetConfig(filters=(32, 64, 128), stem="patch8"), 165, 1.4, 176),
    ],
)
def test_costs_are_those_that_were_measured(config, parameters_k, gmac, field_px):
    summary = summarise(UNet(config), (1, 1088, 1920, 3))
    assert summary.parameters / 1e3 == pytest.approx(parameters_k, rel=0.015)
    assert summary.macs / 1e9 == pytest.approx(gmac, rel=0.03)
    assert summary.receptive_field_px == field_px


def test_summary_leaves_the_network_alone_and_reads_as_one_line():
    network = UNet(SMALL[0])
    text = str(summarise(network, (1, 64, 64, 3)))
    assert next(network.parameters()).device.type == "cpu"
    assert "parameters" in text and "MMAC" in text and "receptive field" in text


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NETWORKS), st.integers(1, 70), st.integers(1, 70), st.integers(1, 2))
def test_any_size_gives_a_cell_for_every_stride_pixels(network, height, width, count):
    stride = network.config.output_stride
    with torch.no_grad():
        logits = network(torch.zeros(count, height, width, 3, dtype=torch.uint8))
    assert logits.shape == (count, network.config.out_channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("config", SMALL[:5], ids=lambda config: f"{config.stem}-{config.up}")
def test_receptive_field_is_what_gradients_reach(config, monkeypatch):
    """Average pooling lets the gradient through to every pixel; which cells straddle the coarser grids varies."""
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    network = UNet(config).eval()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    side = 4 * receptive_field(config)
    planes = torch.ones(1, 3, side, side, requires_grad=True)
    logits = network.from_planes(planes)
    middle = logits.shape[-1] // 2
    widths = []
    for column in range(middle - 4, middle + 4):
        (gradient,) = torch.autograd.grad(logits[0, 0, middle, column], planes, retain_graph=True)
        touched = gradient[0, 0].abs().sum(dim=0).nonzero()
        widths.append(int(touched.max() - touched.min()) + 1)
    assert min(widths) == receptive_field(config)


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": "patch3"}, "patch3"),
        ({"filters": ()}, "at least one level"),
        ({"filters": (16, 0)}, "at least 1"),
        ({"output_stride": 2}, r"\[4, 8, 16, 32\]"),
        ({"skip": "multiply"}, "concat or add"),
        ({"up": "bilinear"}, "transpose or nearest"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        unet_config("default", changes)


def test_unknown_preset_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="quality"):
        unet_config("huge", {})


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

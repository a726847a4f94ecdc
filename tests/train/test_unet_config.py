import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from aerial_train.network_summary import summarise
from aerial_train.unet_config import PRESETS, UNetConfig, receptive_field
from aerial_train.unetpp import make_unet

SEEN = [
    UNetConfig(filters=(4, 8, 8)),
    UNetConfig(filters=(4, 8), convs=2, skip="concat", up="transpose", stem="none"),
    UNetConfig(filters=(4, 4, 4), stem="patch4", skip="concat"),
    UNetConfig(filters=(4, 4, 4), stem="patch2", output_stride=8),
    UNetConfig(filters=(4, 4), stem="conv8", up="transpose", out_channels=2),
    UNetConfig(filters=(4, 4), stem="patch2", output_stride=1),
] + [
    UNetConfig(
        filters=(3, 3, 3), stem=stem, convs=convs, kernel=kernel, padding=padding, down=down, architecture=architecture
    )
    for (stem, convs, kernel), padding, down, architecture in itertools.product(
        [("none", 2, 3), ("patch2", 1, 5), ("conv2", 1, 3)],
        ["zero", "valid"],
        ["max", "average", "stride"],
        ["unet", "unetpp"],
    )
    if down != "max" or padding == "valid"  # under zero padding like average
]


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
    summary = summarise(make_unet(config), (1, 1088, 1920, 3))
    assert summary.parameters / 1e3 == pytest.approx(parameters_k, rel=0.015)
    assert summary.macs / 1e9 == pytest.approx(gmac, rel=0.03)
    assert summary.receptive_field_px == field_px


@pytest.mark.parametrize("config", SEEN, ids=str)
def test_receptive_field_is_what_gradients_reach(config, monkeypatch):
    """Average pooling lets the gradient through to every pixel; which cells straddle the coarser grids varies."""
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    network = make_unet(config).double().eval()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    side = 2 * receptive_field(config) + 16 * config.output_stride
    planes = torch.ones(1, 3, side, side, requires_grad=True, dtype=torch.float64)
    logits = network.from_planes(planes)
    middle = logits.shape[-1] // 2
    widths = []
    for column in range(middle - 4, middle + 4):
        (gradient,) = torch.autograd.grad(logits[0, 0, middle, column], planes, retain_graph=True)
        touched = gradient[0, 0].abs().sum(dim=0).nonzero()
        widths.append(int(touched.max() - touched.min()) + 1)
    assert min(widths) == receptive_field(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": "patch3"}, "'patch3'.*the nearest of none, patch2, .* is 'patch[248]'"),
        ({"filters": ()}, "at least one level"),
        ({"filters": (16, 0)}, "at least 1"),
        ({"output_stride": 3}, r"\[1, 2, 4, 8, 16, 32\]; the nearest is 2"),
        ({"output_stride": 64}, "the nearest is 32"),
        ({"skip": "concatenate"}, "is 'concat'"),
        ({"up": "nearset"}, "is 'nearest'"),
        ({"padding": "vaild"}, "is 'valid'"),
        ({"down": "avg"}, "is 'average'"),
        ({"activation": "swish"}, "is 'mish'"),
        ({"architecture": "unet++"}, "is 'unet'"),
        ({"kernel": 4}, "the nearest is 5"),
        ({"kernel": 1}, "the nearest is 3"),
        ({"dropout": 1.0}, "under 1"),
        ({"dropout": -0.1}, "at least 0"),
        ({"deep_supervision": True}, "the nearest architecture is 'unetpp'"),
        ({"architecture": "unetpp", "output_stride": 32}, "the nearest architecture is 'unet'"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_nearest(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["default"], **changes)

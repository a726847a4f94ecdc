import torch
from torch import nn

from aerial_train.layers import ConvNorm, fold_norms, planes_from_images


def with_lived_in_norms(network):
    """Give every batch norm statistics and scales that differ from those it is born with."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.2, 3)
    return network.eval()


@torch.no_grad()
def test_folding_keeps_the_function_and_leaves_no_norm():
    torch.manual_seed(0)
    network = nn.Sequential(
        ConvNorm(nn.Conv2d(3, 4, 3, 2, padding=1, bias=False)),
        ConvNorm(nn.ConvTranspose2d(4, 5, 2, 2, bias=False), None),
    )
    with_lived_in_norms(network)
    x = torch.randn(2, 3, 9, 11)
    before = network(x)
    fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(network(x), before, atol=1e-5)


def test_planes_are_scaled_views_in_channel_order():
    images = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).reshape(2, 4, 5, 3)
    planes = planes_from_images(images)
    assert planes.shape == (2, 3, 4, 5)
    assert planes.is_contiguous(memory_format=torch.channels_last)
    assert planes[1, 2, 3, 4] == images[1, 3, 4, 2].item() / 255
    assert torch.equal(planes_from_images(images.float()), planes)

"""Muon: orthogonal steps for kernels, Adam for the rest."""

import pytest
import torch
from torch import nn

from aerial_train.muon import NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 9)])
def test_all_singular_values_come_near_one_and_the_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(0, -1, shape[1])
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.4 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.trace(left.T @ orthogonal(matrix) @ right.T) == pytest.approx(float(values.sum()), rel=0.05)


def test_the_small_square_iterates_as_the_whole_matrix():
    """The iterations as they are published, in double precision, on singular values over four decades."""
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(48, 432), full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -4, 48)) @ right
    a, b, c = NEWTON_SCHULZ
    x = matrix.double() / matrix.double().norm()
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonal(matrix).double(), x, rtol=0, atol=1e-3)
    torch.testing.assert_close(orthogonal(matrix.T.contiguous()).double(), x.T, rtol=0, atol=1e-3)


def test_a_kernels_step_has_the_size_of_adamws_whatever_the_gradients():
    steps = []
    for scale in (1e-4, 1e4):
        torch.manual_seed(0)
        kernel = nn.Parameter(torch.zeros(16, 24, 3, 3))
        kernel.grad = torch.randn_like(kernel) * scale
        Muon([{"params": [kernel]}], 0.1, weight_decay=0.0).step()
        steps.append(kernel.detach().clone())
    assert steps[0].square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.25)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-2, atol=1e-4)


def test_everything_else_moves_as_with_adamw():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5, 7)) for _ in range(2))
    optimizers = Muon([{"params": [ours]}], 0.01, weight_decay=0.1), torch.optim.AdamW([theirs], 0.01, weight_decay=0.1)
    for _ in range(20):
        gradient = torch.randn(5, 7)
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_goes_on_where_it_was_stopped():
    torch.manual_seed(0)
    gradients = torch.randn(6, 4, 3, 3, 3)

    def run(stop: int | None) -> torch.Tensor:
        kernel, bias = nn.Parameter(torch.ones(4, 3, 3, 3)), nn.Parameter(torch.zeros(4))
        optimizer = Muon([{"params": [kernel, bias]}], 0.01, weight_decay=0.01)
        for number, gradient in enumerate(gradients):
            kernel.grad, bias.grad = gradient, gradient.sum(dim=(1, 2, 3))
            optimizer.step()
            if number == stop:
                state = optimizer.state_dict()
                optimizer = Muon([{"params": [kernel, bias]}], 0.5, weight_decay=0.0)
                optimizer.load_state_dict(state)
        return torch.cat([kernel.detach().flatten(), bias.detach()])

    assert torch.equal(run(None), run(2))

import math

import pytest
import torch
from torch.nn import functional as F

from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_train.losses import (
    NONE_OF_THEM,
    UNKNOWN,
    classifier_losses,
    head_loss,
    heading_loss,
)

SUAS = load_label_space("suas")
LETTERS = SUAS.head("letter").classes
ANY_ANGLE = torch.tensor([name in ("O", "0") for name in LETTERS])
HALF_TURN = torch.tensor([name in "HINSXZ8" for name in LETTERS])
UP, DOWN, RIGHT = (0.0, -1.0), (0.0, 1.0), (1.0, 0.0)


def heading_of(letter, seen, truth):
    label = letter if isinstance(letter, int) else LETTERS.index(letter)
    return float(heading_loss(torch.tensor([seen]), torch.tensor([truth]), torch.tensor([label]), ANY_ANGLE, HALF_TURN))


def test_head_loss_is_cross_entropy_of_the_known():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, UNKNOWN, 2, 1, UNKNOWN])
    assert float(head_loss(logits, labels)) == pytest.approx(float(F.cross_entropy(logits, labels, ignore_index=-1)))
    smooth = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=0.1)
    assert float(head_loss(logits, labels, 0.1)) == pytest.approx(float(smooth))
    assert float(head_loss(logits, torch.full((5,), UNKNOWN))) == 0


def test_nothing_to_name_wants_an_even_answer():
    labels = torch.tensor([NONE_OF_THEM])
    even = float(head_loss(torch.zeros(1, 4), labels))
    assert even == pytest.approx(math.log(4))
    assert float(head_loss(torch.tensor([[2.0, 0.0, 0.0, 0.0]]), labels)) > even


def test_heading_loss_is_the_squared_distance():
    assert heading_of("A", UP, UP) == 0
    assert heading_of("A", RIGHT, UP) == pytest.approx(2)
    assert heading_of("A", DOWN, UP) == pytest.approx(4)
    assert heading_of(UNKNOWN, RIGHT, UP) == pytest.approx(2)  # the letter is unknown, its direction is not


def test_symmetric_letters_accept_what_looks_the_same():
    assert heading_of("H", DOWN, UP) == 0
    assert heading_of("H", RIGHT, UP) == pytest.approx(2)
    assert heading_of("O", RIGHT, UP) == 0


def test_unknown_heading_costs_nothing_and_no_letter_wants_no_direction():
    assert heading_of("A", RIGHT, (0.0, 0.0)) == 0
    assert heading_of(NONE_OF_THEM, RIGHT, (0.0, 0.0)) == pytest.approx(1)
    assert heading_of(NONE_OF_THEM, (0.0, 0.0), (0.0, 0.0)) == 0


def test_length_of_the_best_heading_is_the_concentration():
    """Three of four truths point up, one down: the mean vector has length 1/2."""
    truth = torch.tensor([UP, UP, UP, DOWN])
    labels = torch.full((4,), LETTERS.index("A"))
    lengths = torch.linspace(0, 1, 101)
    losses = [
        float(heading_loss(torch.tensor([[0.0, -float(x)]]).expand(4, 2), truth, labels, ANY_ANGLE, HALF_TURN))
        for x in lengths
    ]
    assert float(lengths[losses.index(min(losses))]) == pytest.approx(0.5)


def batch_outputs(count):
    torch.manual_seed(0)
    widths = {"shape": 13, "letter": 36, "shape_color": 10, "letter_color": 10, "target": 1, "heading": 2}
    return {name: torch.randn(count, width, requires_grad=True) for name, width in widths.items()}


def test_what_is_no_target_teaches_only_the_target_head():
    outputs = batch_outputs(2)
    labels = {head.name: torch.tensor([1, 2]) for head in SUAS.heads}
    heading = torch.tensor([UP, RIGHT])
    losses = classifier_losses(outputs, torch.tensor([1, 0], dtype=torch.uint8), labels, heading, SUAS)
    assert set(losses) == set(outputs)
    torch.stack(list(losses.values())).sum().backward()
    for name, values in outputs.items():
        assert values.grad is not None
        assert values.grad[0].abs().sum() > 0
        assert bool(values.grad[1].abs().sum() > 0) == (name == "target")


def test_a_batch_without_any_target_is_finite():
    outputs = batch_outputs(3)
    labels = {head.name: torch.full((3,), UNKNOWN) for head in SUAS.heads}
    losses = classifier_losses(outputs, torch.zeros(3, dtype=torch.uint8), labels, torch.zeros(3, 2), SUAS)
    assert all(loss.item() == 0 for name, loss in losses.items() if name != "target")
    assert losses["target"].item() > 0


def test_a_label_space_without_heading_has_no_heading_loss():
    space = LabelSpace("pads", (Head("kind", ("a", "b", "c")),))
    outputs = {"kind": torch.randn(2, 3), "target": torch.randn(2, 1)}
    losses = classifier_losses(outputs, torch.ones(2), {"kind": torch.tensor([0, 2])}, torch.zeros(2, 2), space)
    assert set(losses) == {"kind", "target"}

"""What training minimises. Whatever a label leaves open costs nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aerial_runtime.card import Heading, LabelSpace
from aerial_train.classifier import HEADING, TARGET
from aerial_train.mask_losses import mask_loss

UNKNOWN = -1  # a label nobody knows: no loss, no score
NONE_OF_THEM = -2  # there is nothing to name (a board without letter): the answer is to be spread evenly


def segmentation_loss(logits: Tensor, coverage: Tensor, weight: Tensor) -> Tensor:
    """Return the default of `mask_losses.mask_loss`, a scalar."""
    loss: Tensor = mask_loss("jaccard+bce")(logits, coverage, weight)
    return loss


def head_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the labels that count, a scalar (0 where none does).

    logits: [N, K]. labels: int64 [N]; UNKNOWN costs nothing, NONE_OF_THEM wants every class equally probable.
    label_smoothing: share of every known label that is spread over all classes.
    """
    log_probability = F.log_softmax(logits, dim=1)  # [N, K]
    at_label = log_probability.gather(1, labels.clamp(min=0)[:, None]).squeeze(1)  # [N]
    evenly = log_probability.mean(dim=1)  # [N]
    smooth = torch.where(labels == NONE_OF_THEM, 1.0, label_smoothing)  # [N]
    return _mean(-torch.lerp(at_label, evenly, smooth), labels != UNKNOWN)


def heading_loss(heading: Tensor, truth: Tensor, labels: Tensor, any_angle: Tensor, half_turn: Tensor) -> Tensor:
    """Return the mean squared distance to the unit vector of letter-up, a scalar.

    heading, truth: [N, 2]; a truth of (0, 0) is unknown and costs nothing. labels: int64 [N] of the head whose
    classes may be symmetric. any_angle, half_turn: bool [K], its classes that look the same at every angle (no loss)
    or after 180 degrees (the nearer of both directions counts).

    The minimiser of a squared error is the mean: where the direction is in doubt the vector gets shorter, so its
    length is the concentration of the directions that the crop allows. Where there is no letter it is to be 0.
    """
    known = labels.clamp(min=0)
    distance = (heading - truth).square().sum(dim=1)  # [N]
    turned = (heading + truth).square().sum(dim=1)  # [N]
    distance = torch.where(half_turn[known] & (labels >= 0), torch.minimum(distance, turned), distance)
    has_direction = (truth.square().sum(dim=1) > 0.25) & ~(any_angle[known] & (labels >= 0))
    nothing_there = labels == NONE_OF_THEM
    distance = torch.where(nothing_there, heading.square().sum(dim=1), distance)
    return _mean(distance, has_direction | nothing_there)


def classifier_losses(
    outputs: dict[str, Tensor],
    is_target: Tensor,
    labels: dict[str, Tensor],
    heading: Tensor,
    label_space: LabelSpace,
    label_smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """Return a scalar loss per head, of `target` and, where the label space has one, of `heading`.

    outputs: of the `Classifier`. is_target: [N], 0 or 1; a crop that is none has no loss but that of `target`.
    labels: head name -> int64 [N]. heading: float [N, 2], see `heading_loss`.
    """
    real = is_target > 0
    counted = {name: torch.where(real, values, UNKNOWN) for name, values in labels.items()}
    losses = {
        head.name: head_loss(outputs[head.name], counted[head.name], label_smoothing) for head in label_space.heads
    }
    losses[TARGET] = F.binary_cross_entropy_with_logits(outputs[TARGET].squeeze(1), real.to(outputs[TARGET].dtype))
    if label_space.heading is not None:
        any_angle, half_turn = symmetric_classes(label_space, label_space.heading, heading.device)
        truth = heading * real[:, None]
        symmetric = counted[label_space.heading.head]
        losses[HEADING] = heading_loss(outputs[HEADING], truth, symmetric, any_angle, half_turn)
    return losses


def symmetric_classes(label_space: LabelSpace, heading: Heading, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return bool [K] twice: the classes of the heading's head that have no direction, and those that have two."""
    classes = label_space.head(heading.head).classes
    any_angle = torch.tensor([name in heading.any_angle for name in classes], device=device)
    half_turn = torch.tensor([name in heading.half_turn for name in classes], device=device)
    return any_angle, half_turn


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return (values * counted).sum() / counted.sum().clamp(min=1)

"""What a classifier minimises. Whatever a label leaves open costs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerial_runtime.card import Heading, LabelSpace
from aerial_train.choices import nearest
from aerial_train.classifier import HEADING, TARGET

UNKNOWN = -1  # a label nobody knows: no loss, no score
NONE_OF_THEM = -2  # there is nothing to name (a board without letter): the answer is to be spread evenly
EPSILON = 1e-6
RAW_SHARE: Final = 0.25  # of the heading's loss of letters that look the same after a turn, see `heading_loss`
ANGLE_WEIGHT: Final = 0.5  # of the error of the direction alone in the heading's loss
ANGLE_ROUNDING: Final = 0.01  # about half a degree, under which that error is rounded off to a parabola
SHORTEST: Final = 0.25  # a heading is lengthened to 1 at most so far: a shorter one has no direction worth a loss

CONFUSABLE: Final = "confusable"  # ready-made class weights:
CONFUSABLE_WEIGHT: Final = 2.0  # of every class that a head has beside one that it is easily taken for
LOOK_ALIKES: Final = (("I", "1", "L", "H"), ("Z", "N"), ("0", "O"))


class HeadLosses(nn.Module):
    """The weighted sum of the losses of all heads, of `target` and of `heading`.

    head_weights: name -> factor, 1 where none is given, 0 switches a loss off.
    learned_weights: beside them a factor per loss that is learned, of the uncertainty of its task: exp(-s) L + s / 2,
    for the heading, taken as a squared error, exp(-s) L / 2 + s / 2, where s is the logarithm of a variance that starts
    at 0 (Kendall et al. 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses"). They are parameters of this.
    class_weights: head -> class -> weight of its labels, 1 where none is given; see `head_loss`, also for `focal`
    and `label_smoothing`, which hold for every head of the label space.
    Raises ValueError for a head or class that the label space has not, and for a focal or smoothing that cannot be.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        *,
        head_weights: Mapping[str, float] | None = None,
        learned_weights: bool = False,
        class_weights: Mapping[str, Mapping[str, float]] | None = None,
        focal: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not (focal >= 0 and 0 <= label_smoothing < 1):
            raise ValueError(
                f"focal must be at least 0 and label smoothing within 0..1, they are {focal} and {label_smoothing}"
            )
        self.label_space, self.focal, self.label_smoothing = label_space, focal, label_smoothing
        self.names = loss_names(label_space)
        for name in head_weights or {}:
            _require_known("head", name, self.names)
        factors = torch.tensor([float((head_weights or {}).get(name, 1.0)) for name in self.names])
        self.register_buffer("factors", factors, persistent=False)
        self.log_variances = nn.Parameter(torch.zeros(len(self.names))) if learned_weights else None
        # A squared error is the logarithm of a normal density only when halved.
        halves = torch.tensor([0.5 if name == HEADING else 1.0 for name in self.names])
        self.register_buffer("halves", halves, persistent=False)
        self.weighted_heads = tuple(class_weights or {})
        for number, name in enumerate(self.weighted_heads):
            weights = _weights_of_classes(label_space, name, (class_weights or {})[name])
            self.register_buffer(f"class_weights_{number}", weights, persistent=False)  # names of heads may hold a dot

    def forward(
        self, outputs: Mapping[str, Tensor], is_target: Tensor, labels: Mapping[str, Tensor], heading: Tensor
    ) -> Tensor:
        """Return the loss of a batch, a scalar; arguments as in `by_head`."""
        by_head = self.by_head(outputs, is_target, labels, heading)
        losses = torch.stack([by_head[name].float() for name in self.names]) * self.get_buffer("factors")  # [losses]
        if self.log_variances is not None:
            # A loss of exactly 0 is one without any label in this batch, or switched off: nothing to learn from.
            seen = losses.detach() > 0
            losses = torch.exp(-self.log_variances) * self.get_buffer("halves") * losses + seen * self.log_variances / 2
        return losses.sum()

    def by_head(
        self, outputs: Mapping[str, Tensor], is_target: Tensor, labels: Mapping[str, Tensor], heading: Tensor
    ) -> dict[str, Tensor]:
        """Return a scalar loss, not yet weighted, per head, of `target` and, where there is one, of `heading`.

        outputs: of the `Classifier`. is_target: [N], 0 or 1; a crop that is none has no loss but that of `target`.
        labels: head name -> int64 [N]. heading: float [N, 2], see `heading_loss`.
        """
        space, real = self.label_space, is_target > 0
        outputs = {name: logits.float() for name, logits in outputs.items()}  # half precision is for the network alone
        counted = {name: torch.where(real, values, UNKNOWN) for name, values in labels.items()}
        losses = {head.name: self._of_head(head.name, outputs, counted) for head in space.heads}
        losses[TARGET] = F.binary_cross_entropy_with_logits(outputs[TARGET].squeeze(1), real.float())
        if space.heading is not None:
            symmetric = symmetric_classes(space, space.heading, heading.device)
            truth = heading * real[:, None]
            losses[HEADING] = heading_loss(outputs[HEADING], truth, counted[space.heading.head], *symmetric)
        return losses

    def _of_head(self, name: str, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
        weights = None
        if name in self.weighted_heads:
            weights = self.get_buffer(f"class_weights_{self.weighted_heads.index(name)}")
        return head_loss(outputs[name], labels[name], self.label_smoothing, class_weights=weights, focal=self.focal)


def head_loss(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    *,
    class_weights: Tensor | None = None,
    focal: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy over the labels that count, a scalar (0 where none does).

    logits: [N, K]. labels: int64 [N]; UNKNOWN costs nothing, NONE_OF_THEM wants every class equally probable.
    label_smoothing: share of every known label that is spread over all classes.
    class_weights: float [K]; the mean is then weighted by those of the labels, NONE_OF_THEM weighs 1.
    focal: gamma in (1 - p)^gamma, by which a known label's loss is multiplied, p being the probability that it is
    given: what is already right counts little (Lin et al. 2017, "Focal Loss for Dense Object Detection").
    """
    log_probability = F.log_softmax(logits, dim=1)  # [N, K]
    known = labels.clamp(min=0)
    at_label = log_probability.gather(1, known[:, None]).squeeze(1)  # [N]
    evenly = log_probability.mean(dim=1)  # [N]
    nothing_there = labels == NONE_OF_THEM
    smooth = torch.where(nothing_there, 1.0, label_smoothing)  # [N]
    losses = -torch.lerp(at_label, evenly, smooth)
    if focal:
        doubt = -torch.expm1(at_label)  # [N], 1 - p
        # Under a power below 1 the slope at a doubt of 0 is infinite.
        losses = losses * torch.where(nothing_there, 1.0, doubt.clamp(min=EPSILON) ** focal)
    counted = (labels != UNKNOWN).to(losses.dtype)
    if class_weights is not None:
        counted = counted * torch.where(nothing_there, 1.0, class_weights[known])
    return _mean(losses, counted)


def heading_loss(heading: Tensor, truth: Tensor, labels: Tensor, any_angle: Tensor, half_turn: Tensor) -> Tensor:
    """Return the mean loss of the headings, a scalar: of each the squared distance to the unit vector of letter-up and
    ANGLE_WEIGHT of the distance between both at equal length.

    heading, truth: [N, 2]; a truth of (0, 0) is unknown and costs nothing. labels: int64 [N] of the head whose
    classes may be symmetric. any_angle, half_turn: bool [K], its classes that look the same at every angle or after
    180 degrees: there the nearer of both directions counts, and RAW_SHARE of the loss is that of the true direction
    alone, which a triangle or a font may still show. (What nothing shows costs the vector that share of its length.)

    The minimiser of a squared error is the mean: where the direction is in doubt the vector gets shorter, so its
    length is the concentration of the directions that the crop allows. Where there is no letter it is to be 0. But a
    squared error has hardly any slope within the few degrees that decide between two sectors; the second distance has
    the same slope at every angle, and asks for the direction alone.
    """
    known = labels.clamp(min=0)
    distance, turned = _heading_error(heading, truth), _heading_error(heading, -truth)  # [N]
    nearer = torch.lerp(torch.minimum(distance, turned), distance, RAW_SHARE)
    distance = torch.where(half_turn[known] & (labels >= 0), nearer, distance)
    has_direction = (truth.square().sum(dim=1) > 0.25).to(distance.dtype)
    has_direction = torch.where(any_angle[known] & (labels >= 0), RAW_SHARE * has_direction, has_direction)
    nothing_there = labels == NONE_OF_THEM
    distance = torch.where(nothing_there, heading.square().sum(dim=1), distance)
    return _mean(distance, has_direction.masked_fill(nothing_there, 1.0))


def _heading_error(heading: Tensor, truth: Tensor) -> Tensor:
    """Return the loss [N] of headings [N, 2] to unit vectors [N, 2], see `heading_loss`."""
    length = (heading.square().sum(dim=1, keepdim=True) + EPSILON).sqrt().clamp(min=SHORTEST)
    chord = ((heading / length - truth).square().sum(dim=1) + ANGLE_ROUNDING**2).sqrt() - ANGLE_ROUNDING
    return (heading - truth).square().sum(dim=1) + ANGLE_WEIGHT * chord


def symmetric_classes(label_space: LabelSpace, heading: Heading, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return bool [K] twice: the classes of the heading's head that have no direction, and those that have two."""
    classes = label_space.head(heading.head).classes
    any_angle = torch.tensor([name in heading.any_angle for name in classes], device=device)
    half_turn = torch.tensor([name in heading.half_turn for name in classes], device=device)
    return any_angle, half_turn


def loss_names(label_space: LabelSpace) -> tuple[str, ...]:
    """Return the names of a classifier's losses: its heads, `target` and, where there is one, `heading`."""
    names = tuple(head.name for head in label_space.heads)
    return (*names, TARGET) if label_space.heading is None else (*names, TARGET, HEADING)


def parse_head_weights(text: str, label_space: LabelSpace) -> dict[str, float]:
    """Return name -> weight of a text such as `letter=2,heading=0.5`. Raises ValueError for what cannot be."""
    return _parse_weights(text, "head", loss_names(label_space), "letter=2,heading=0.5")


def parse_class_weights(text: str, label_space: LabelSpace) -> dict[str, dict[str, float]]:
    """Return head -> class -> weight of a text such as `letter:I=2,1=2;shape:star=3`.

    `confusable` stands for a weight of 2 for the letters and digits that are easily taken for one another, wherever
    a head has two that are. Raises ValueError for what cannot be.
    """
    weights: dict[str, dict[str, float]] = {}
    for part in filter(None, text.split(";")):
        if part.strip() == CONFUSABLE:
            found = _look_alikes(label_space)
        else:
            name, _, rest = (piece.strip() for piece in part.partition(":"))
            _require_known("head", name, [head.name for head in label_space.heads] + [CONFUSABLE])
            found = {name: _parse_weights(rest, f"{name} class", label_space.head(name).classes, "A=2,B=0.5")}
        for name, classes in found.items():
            weights.setdefault(name, {}).update(classes)
    return weights


def _look_alikes(label_space: LabelSpace) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for head in label_space.heads:
        for group in LOOK_ALIKES:
            present = [name for name in group if name in head.classes]
            if len(present) > 1:
                found.setdefault(head.name, {}).update(dict.fromkeys(present, CONFUSABLE_WEIGHT))
    if not found:
        raise ValueError(
            f"the label space {label_space.name!r} has none of the classes of {CONFUSABLE!r}; leave it out"
        )
    return found


def _parse_weights(text: str, what: str, known: Iterable[str], example: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            weight = float(number) if equals else math.nan
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise ValueError(
                f"{part!r} is no weight of a {what}: give a name and a number of at least 0, as in {example}"
            )
        _require_known(what, name, known)
        weights[name] = weight
    return weights


def _weights_of_classes(label_space: LabelSpace, head: str, weights: Mapping[str, float]) -> Tensor:
    """Return float [K]."""
    _require_known("head", head, [item.name for item in label_space.heads])
    classes = label_space.head(head).classes
    for name in weights:
        _require_known(f"{head} class", name, classes)
    return torch.tensor([float(weights.get(name, 1.0)) for name in classes])


def _require_known(what: str, name: str, known: Iterable[str]) -> None:
    names = tuple(known)
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}; {nearest(name, names)}")


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=EPSILON)

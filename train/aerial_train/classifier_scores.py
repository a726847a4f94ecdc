"""How good a classifier is on labelled crops: accuracy per head, target or not, and the direction of letter-up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, MulticlassAccuracy, MulticlassConfusionMatrix

from aerial_runtime.card import Head, LabelSpace
from aerial_train.classifier import HEADING, TARGET
from aerial_train.losses import UNKNOWN, symmetric_classes


class ClassifierScores(nn.Module):
    """Gathers scores over batches. Unknown labels and crops that are no targets count only for `target`.

    For the direction there are two accuracies of the label space's sectors: `_raw` takes every known direction at
    its word, the other accepts what a symmetric letter allows, as the judges do.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        super().__init__()
        self.label_space = label_space
        self.heads = nn.ModuleList(
            MulticlassAccuracy(len(head.classes), average="micro", ignore_index=UNKNOWN) for head in label_space.heads
        )
        self.matrices = nn.ModuleList(
            MulticlassConfusionMatrix(len(head.classes), ignore_index=UNKNOWN) for head in label_space.heads
        )
        self.target_accuracy, self.target_auroc = BinaryAccuracy(), BinaryAUROC(thresholds=200)
        self.raw, self.aware, self.error_deg, self.loss = MeanMetric(), MeanMetric(), MeanMetric(), MeanMetric()

    def update(
        self, outputs: dict[str, Tensor], is_target: Tensor, labels: dict[str, Tensor], heading: Tensor, loss: Tensor
    ) -> None:
        """Add a batch; shapes as in `losses.HeadLosses.by_head`."""
        real = is_target > 0
        known = {name: torch.where(real & (values >= 0), values, UNKNOWN) for name, values in labels.items()}
        for gathered in (self.heads, self.matrices):
            for head, metric in self._by_head(gathered):
                metric.update(outputs[head.name], known[head.name])
        probability = torch.sigmoid(outputs[TARGET].squeeze(1))
        self.target_accuracy.update(probability, real.long())
        self.target_auroc.update(probability, real.long())
        self.loss.update(loss)
        if self.label_space.heading is not None:
            self._update_heading(outputs[HEADING], heading * real[:, None], known[self.label_space.heading.head])

    def compute(self) -> dict[str, float]:
        """Return the scores by name. `mean_accuracy` is over all heads, `target` and the sectors.

        What no crop is labelled with has no score: photos often lack the orientation.
        """
        labelled = {head.name for head, counts in self._by_head(self.matrices) if int(counts.compute().sum())}
        accuracies = {head.name: metric for head, metric in self._by_head(self.heads) if head.name in labelled}
        scores = {f"{name}_accuracy": float(metric.compute()) for name, metric in accuracies.items()}
        scores["target_accuracy"] = float(self.target_accuracy.compute())
        heading = self.label_space.heading
        aware = float(self.aware.compute()) if heading is not None else math.nan
        if heading is not None and math.isfinite(aware):
            scores[f"{heading.name}_accuracy"] = aware
        mean = sum(scores.values()) / len(scores)
        if heading is not None and math.isfinite(aware):
            scores[f"{heading.name}_accuracy_raw"] = float(self.raw.compute())
            scores["heading_error_deg"] = float(self.error_deg.compute())
        scores |= {"target_auroc": float(self.target_auroc.compute()), "loss": float(self.loss.compute())}
        return scores | {"mean_accuracy": mean}

    def confusions(self) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return by head the classes and the counts [truth, answer]."""
        return {head.name: (head.classes, metric.compute()) for head, metric in self._by_head(self.matrices)}

    def _by_head(self, metrics: nn.ModuleList) -> Iterator[tuple[Head, Metric]]:
        return zip(self.label_space.heads, cast(Iterable[Metric], metrics), strict=True)

    def _update_heading(self, heading: Tensor, truth: Tensor, labels: Tensor) -> None:
        rules = self.label_space.heading
        assert rules is not None
        any_angle, half_turn = symmetric_classes(self.label_space, rules, labels.device)
        labelled = labels >= 0
        counted = truth.square().sum(dim=1) > 0.25
        free = any_angle[labels.clamp(min=0)] & labelled
        twofold = half_turn[labels.clamp(min=0)] & labelled
        seen_deg, true_deg = degrees_of(heading), degrees_of(truth)
        error = turn_between(seen_deg, true_deg)
        opposite = turn_between(seen_deg, true_deg + 180)
        sectors = len(rules.sectors)
        right = sector_of(seen_deg, sectors) == sector_of(true_deg, sectors)
        turned_right = sector_of(seen_deg, sectors) == sector_of(true_deg + 180, sectors)
        self.raw.update(right.float(), counted.float())
        self.aware.update((right | free | (twofold & turned_right)).float(), counted.float())
        self.error_deg.update(torch.where(twofold, torch.minimum(error, opposite), error), (counted & ~free).float())


def degrees_of(vectors: Tensor) -> Tensor:
    """Return degrees clockwise from image-up [N] of vectors [N, 2] (x right, y down): N = (0, -1) is 0, E is 90."""
    return torch.rad2deg(torch.atan2(vectors[:, 0], -vectors[:, 1]))


def turn_between(first_deg: Tensor, second_deg: Tensor) -> Tensor:
    """Return the angle between two directions, degrees 0..180."""
    return ((first_deg - second_deg + 180) % 360 - 180).abs()


def sector_of(degrees: Tensor, sectors: int) -> Tensor:
    """Return the index of the sector, the first being centred on image-up, clockwise."""
    return torch.round(degrees * sectors / 360).long() % sectors

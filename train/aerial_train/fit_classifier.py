"""Train a classifier: `aerial-train classifier --name first`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from aerial_runtime.card import LabelSpace, ModelCard, Thresholds, load_label_space
from aerial_runtime.contract import U8
from aerial_runtime.errors import UsageError
from aerial_train.checkpoint import classifier_tensors
from aerial_train.classifier import TARGET, Classifier, ClassifierConfig
from aerial_train.classifier_scores import ClassifierScores
from aerial_train.data import CropData, Split, open_crops
from aerial_train.feed import Batch
from aerial_train.fit import Job, fit, prepare, say_once, training_facts
from aerial_train.losses import HeadLosses, parse_class_weights, parse_head_weights
from aerial_train.network_summary import summarise
from aerial_train.options import FitOptions, network_changes, option, whole_numbers
from aerial_train.run_options import add_options, options_from
from aerial_train.task import Seen, Task
from aerial_train.transfer import open_start, take_weights
from aerial_train.unet_config import UNetConfig

TARGET_THRESHOLD = 0.9  # of the card: distractors under it cost more, in false alarms, than the few boards
ABSTAIN_UNDER = 0.4  # a label is withheld below this probability, a heading below this length
PICTURE_PX = 144


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(FitOptions):
    """What a classifier's training asks for."""

    epochs: int = option(30, "passes; the learning rate's schedule spans all of them", "length")
    batch: int = option(256, "crops in a step")
    images_per_epoch: int = option(65536, "fresh crops in a pass")
    held_out: int = option(4096, "crops of the fixed held-out set, rendered from another seed")
    crop_size: int = option(64, "side of the square crops, pixels")
    label_smoothing: float = option(0.0, "share of every label that is spread over all classes", "loss")
    head_weights: str = option("", "factors of the losses, such as letter=2,heading=0.5", "loss", metavar="HEAD=X,...")
    learned_weights: bool = option(False, "learn the factors of the losses from their uncertainty", "loss")
    class_weights: str = option("", "such as letter:I=2,1=2, or confusable for letters that look alike", "loss",
                                metavar="HEAD:CLASS=X,...")  # fmt: skip
    focal: float = option(0.0, "gamma of the focal loss of all heads; 0: plain cross-entropy", "loss")

    filters: tuple[int, ...] = option((), "per level; empty: 16-48-96-160", "network", type=whole_numbers,
                                      metavar="F-F-F")  # fmt: skip
    blocks: int = option(0, "residual blocks per level; 0: 2", "network")
    stem_kernel: int = option(0, "side of the first convolution; 0: 5", "network")
    stem_stride: int = option(0, "stride of the first convolution; 0: 2", "network")
    activation: str = option("", "relu, silu, mish or leaky_relu", "network", metavar="NAME")
    dropout: float | None = option(None, "share of the features dropped before the heads (0, or that of --init)",
                                   "network", type=float, metavar="X")  # fmt: skip

    @classmethod
    def recipes(cls) -> dict[str, dict[str, Any]]:
        """Return the options that each recipe sets."""
        return {
            "flight": {},
            # The published protocol's crops and its 34 letters; it trained on 72 passes of 16,384.
            "r32": {
                "label_space": "suas-r32", "crop_size": 32, "margin": 1.0, "filters": (16, 32, 64, 128),
                "stem_stride": 1, "epochs": 72, "batch": 128, "optimizer": "muon",
                "warm_up": 0.03, "head_weights": "heading=4",
            },
        }  # fmt: skip


class ClassifierTask(Task):
    """Crops and labels -> Classifier."""

    best_by = "mean_accuracy"

    def __init__(self, network: Classifier, criterion: nn.Module, card: ModelCard, options: ClassifierOptions) -> None:
        super().__init__(network, criterion, card, options)
        self.scores = ClassifierScores(card.label_space)

    @property
    def images_shape(self) -> tuple[int, int, int, int]:
        """Crops of a step on one device, [N, S, S, 3]."""
        side = self.card.crop_size or 0
        return self.options.batch // self.options.world_size, side, side, 3

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighted sum of all losses of a batch, a scalar."""
        return self._total_loss(self.network(batch["crops"]), batch)

    def look(self, batch: Batch) -> Seen:
        """Score a batch; a crop's error is the mean surprise of all heads at its labels."""
        outputs = self.network(batch["crops"])
        loss = self._total_loss(outputs, batch)
        self.scores.update(outputs, batch["is_target"], batch["labels"], batch["heading"], loss)
        real = batch["is_target"].to(outputs[TARGET].dtype)
        error = F.binary_cross_entropy_with_logits(outputs[TARGET].squeeze(1), real, reduction="none")
        for name, labels in batch["labels"].items():
            error = error + F.cross_entropy(outputs[name], labels.clamp(min=0), reduction="none") * (labels >= 0)
        return Seen(error, outputs)

    def picture(self, batch: Batch, seen: Seen, index: int) -> U8:
        """Return a crop over its labels and the answers, BGR."""
        crop = cv2.resize(batch["crops"][index].cpu().numpy(), (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)
        truth, answer = [], []
        for head in self.card.label_space.heads:
            label = int(batch["labels"][head.name][index])
            truth.append(head.classes[label] if label >= 0 else "-")
            answer.append(head.classes[int(seen.outputs[head.name][index].argmax())])
        if not batch["is_target"][index]:
            truth = ["no target"]
        if float(seen.outputs[TARGET][index]) < 0:
            answer = ["no target"]
        words = np.zeros((28, PICTURE_PX, 3), np.uint8)
        for row, text in enumerate((truth, answer)):
            cv2.putText(words, " ".join(text), (1, 11 + 13 * row), cv2.FONT_HERSHEY_PLAIN, 0.6, (230, 230, 230))
        return np.asarray(np.vstack((crop, words)), np.uint8)

    def confusions(self) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return each head's counts [truth, answer]."""
        return self.scores.confusions()

    def held_out_scores(self) -> dict[str, float]:
        """Return the scores by name."""
        return self.scores.compute()

    def _total_loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        total: Tensor = self.criterion(outputs, batch["is_target"], batch["labels"], batch["heading"])
        return total


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train classifier`."""
    add_options(parser, ClassifierOptions)


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; return the exit code. Raises AerialError."""
    options = options_from(args, ClassifierOptions)
    return fit(classifier_job(options), resume=args.resume)


def classifier_job(options: ClassifierOptions) -> Job:
    """Return task and data as the options say. Raises AerialError for what cannot be, before any data is made."""
    space = load_label_space(options.label_space)
    task = classifier_task(options, space)

    def crops(text: str, split: Split) -> CropData:
        return open_crops(
            text,
            space=space,
            split=split,
            recipe=options.recipe,
            backgrounds=options.backgrounds_dir,
            seed=options.seed,
            crop_size=options.crop_size,
            margin=options.margin,
        )

    train, held_out = crops(options.data, "train"), crops(options.held_out_data or options.data, "val")
    train.preload()  # before the workers are forked, which then share what was read
    return Job(task, train, held_out)


def classifier_task(options: ClassifierOptions, space: LabelSpace) -> ClassifierTask:
    """Return an untrained network, or that of --init, with its loss and card. Raises UsageError, ModelError."""
    if not 8 <= options.crop_size <= 512:
        raise UsageError(f"--crop-size must be within 8..512 pixels, is {options.crop_size}")
    prepare(options)
    start = open_start(options, space, "classifier")
    network = Classifier(network_config(options, start.network.config if start else None), space)
    if start is not None:
        take_weights(network, start, options)
    say_once(f"classifier {options.name}: {summarise(network, (1, options.crop_size, options.crop_size, 3))} a crop")
    return ClassifierTask(network, _criterion(options, space), _card(options, space), options)


def network_config(options: ClassifierOptions, base: UNetConfig | ClassifierConfig | None = None) -> ClassifierConfig:
    """Return the network's configuration: `base` with what the options change. Raises UsageError."""
    try:
        return replace(base if isinstance(base, ClassifierConfig) else ClassifierConfig(), **network_changes(options))
    except ValueError as error:
        raise UsageError(f"this network cannot be built: {error}") from error


def _criterion(options: ClassifierOptions, space: LabelSpace) -> HeadLosses:
    try:
        return HeadLosses(
            space,
            head_weights=parse_head_weights(options.head_weights, space),
            learned_weights=options.learned_weights,
            class_weights=parse_class_weights(options.class_weights, space),
            focal=options.focal,
            label_smoothing=options.label_smoothing,
        )
    except ValueError as error:
        raise UsageError(f"this loss cannot be: {error}; --help lists the options of the loss") from error


def _questions(space: LabelSpace) -> list[str]:
    """Names of all attributes."""
    return [head.name for head in space.heads] + ([space.heading.name] if space.heading else [])


def _card(options: ClassifierOptions, space: LabelSpace) -> ModelCard:
    inputs, outputs = classifier_tensors(space, options.crop_size)
    return ModelCard(
        kind="classifier",
        name=options.name,
        label_space=space,
        inputs=inputs,
        outputs=outputs,
        crop_margin=options.margin,
        crop_size=options.crop_size,
        thresholds=Thresholds(target=TARGET_THRESHOLD, abstain=dict.fromkeys(_questions(space), ABSTAIN_UNDER)),
        training=training_facts(options),
    )

"""Train a classifier from live scenes: `aerial-train classifier --name first`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aerial_runtime.card import LabelSpace, ModelCard, Thresholds, load_label_space
from aerial_runtime.errors import UsageError
from aerial_train.checkpoint import classifier_tensors
from aerial_train.classifier import HEADING, Classifier, ClassifierConfig
from aerial_train.classifier_scores import ClassifierScores
from aerial_train.feed import Batch, Scenes, held_out_loader, live_loader
from aerial_train.fit import HELD_OUT_SEED_OFFSET, Task, fit, prepare, training_facts
from aerial_train.losses import classifier_losses
from aerial_train.network_summary import summarise
from aerial_train.options import FitOptions, add_options, option, options_from, whole_numbers

TARGET_THRESHOLD = 0.9  # of the card: distractors under it cost more, in false alarms, than the few boards
ABSTAIN_UNDER = 0.4  # a label is withheld below this probability, a heading below this length


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(FitOptions):
    """What a classifier's training asks for."""

    batch: int = option(256, "crops in a step")
    images_per_epoch: int = option(65536, "fresh crops in a pass")
    held_out: int = option(4096, "crops of the fixed held-out set, rendered from another seed")
    crop_size: int = option(48, "side of the square crops, pixels")
    filters: tuple[int, ...] = option((16, 32, 64, 128), "per level", type=whole_numbers, metavar="F-F-F")
    blocks: int = option(2, "residual blocks per level")
    label_smoothing: float = option(0.0, "share of every label that is spread over all classes")
    heading_weight: float = option(1.0, "of the heading's loss; the others weigh 1")


class ClassifierTask(Task):
    """Crops and labels -> Classifier."""

    best_by = "mean_accuracy"

    def __init__(self, network: Classifier, card: ModelCard, options: ClassifierOptions) -> None:
        super().__init__(network, card, options)
        self.fit_options = options
        self.scores = ClassifierScores(card.label_space)

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighted sum of all losses of a batch, a scalar."""
        return self._total_loss(self.network(batch["crops"]), batch)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Score a batch."""
        outputs = self.network(batch["crops"])
        loss = self._total_loss(outputs, batch)
        self.scores.update(outputs, batch["is_target"], batch["labels"], batch["heading"], loss)

    def held_out_scores(self) -> dict[str, float]:
        """Return the scores by name, and begin anew."""
        return self.scores.finish()

    def _total_loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        truth = batch["is_target"], batch["labels"], batch["heading"]
        losses = classifier_losses(outputs, *truth, self.card.label_space, self.fit_options.label_smoothing)
        if HEADING in losses:
            losses[HEADING] = losses[HEADING] * self.fit_options.heading_weight
        return torch.stack(list(losses.values())).sum()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train classifier`."""
    add_options(parser, ClassifierOptions)


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; return the exit code. Raises AerialError."""
    from aerial_train.scenes.backgrounds import Backgrounds
    from aerial_train.scenes.crops import CROP_RECIPES, CropScenes

    options = options_from(args, ClassifierOptions)
    network_config(options)
    space = load_label_space(options.label_space)
    if options.recipe not in CROP_RECIPES:
        raise UsageError(f"--recipe {options.recipe!r} is none of {', '.join(CROP_RECIPES)}")
    recipe = replace(CROP_RECIPES[options.recipe], size=options.crop_size, margin=options.margin)
    backgrounds = Backgrounds(options.backgrounds_dir)
    scenes = CropScenes(space, recipe, backgrounds, options.seed)
    backgrounds.preload()
    held_out = scenes.with_seed(options.seed + HELD_OUT_SEED_OFFSET)
    return train_classifier(options, scenes, held_out, resume=args.resume)


def network_config(options: ClassifierOptions) -> ClassifierConfig:
    """Return the network's configuration. Raises UsageError for what cannot be built."""
    try:
        return ClassifierConfig(options.filters, options.blocks)
    except ValueError as error:
        raise UsageError(f"this network cannot be built: {error}") from error


def train_classifier(options: ClassifierOptions, scenes: Scenes, held_out: Scenes, *, resume: bool = False) -> int:
    """Train on scenes whose batches have crops, is_target, labels and heading; return the exit code."""
    prepare(options)
    space, size = scenes.label_space, options.crop_size
    network = Classifier(network_config(options), space)
    print(f"classifier {options.name}: {summarise(network, (1, size, size, 3))} a crop of {size} px", flush=True)
    task = ClassifierTask(network, _card(options, network, space), options)
    train = live_loader(scenes, options.batch, options.steps_per_epoch, options.workers)
    return fit(task, train, held_out_loader(held_out, options.batch, options.held_out), resume=resume)


def _questions(space: LabelSpace) -> list[str]:
    """Names of all attributes."""
    return [head.name for head in space.heads] + ([space.heading.name] if space.heading else [])


def _card(options: ClassifierOptions, network: Classifier, space: LabelSpace) -> ModelCard:
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
        training=training_facts(options, network),
    )

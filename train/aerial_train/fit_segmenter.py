"""Train a segmenter from live scenes: `aerial-train segmenter --name first`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from aerial_runtime.card import LabelSpace, ModelCard, Thresholds, load_label_space
from aerial_runtime.errors import UsageError
from aerial_train.checkpoint import segmenter_tensors
from aerial_train.feed import Batch, Scenes, held_out_loader, live_loader
from aerial_train.fit import HELD_OUT_SEED_OFFSET, Task, fit, prepare, training_facts
from aerial_train.losses import segmentation_loss
from aerial_train.network_summary import summarise
from aerial_train.options import FitOptions, add_options, option, options_from, whole_numbers
from aerial_train.unet import PRESETS, UNet, UNetConfig, unet_config

IGNORED = -1
MASK_THRESHOLD = 0.2  # of the card: low, since a doubtful cell costs a crop, and the classifier has the last word


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions(FitOptions):
    """What a segmenter's training asks for."""

    batch: int = option(32, "frames in a step")
    frame_size: int = option(256, "side of the square training frames, pixels")
    preset: str = option("default", "network to start from", choices=tuple(PRESETS))
    filters: tuple[int, ...] = option((), "per level, such as 16-32-64-128", type=whole_numbers, metavar="F-F-F")
    convs: int = option(0, "convolutions per level; 0: the preset's")
    stem: str = option("", "none, patch2, patch4, patch8, conv2, conv4 or conv8; empty: the preset's", metavar="STEM")
    skip: str = option("", "concat or add; empty: the preset's", metavar="SKIP")
    up: str = option("", "transpose or nearest; empty: the preset's", metavar="UP")
    output_stride: int = option(0, "pixels per mask cell; 0: the preset's, or the stem's where one is given")


class SegmenterTask(Task):
    """Frames and coverage of cells -> UNet."""

    best_by = "jaccard"

    def __init__(self, network: UNet, card: ModelCard, options: SegmenterOptions) -> None:
        super().__init__(network, card, options)
        self.mask_scores = MetricCollection(
            {"dice": BinaryF1Score(ignore_index=IGNORED), "jaccard": BinaryJaccardIndex(ignore_index=IGNORED)}
        )
        self.mean_loss = MeanMetric()

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        return segmentation_loss(self.network(batch["images"]), *_truth(batch))

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Score a batch; a cell counts as target from half coverage on."""
        logits = self.network(batch["images"])
        coverage, weight = _truth(batch)
        self.mean_loss.update(segmentation_loss(logits, coverage, weight))
        self.mask_scores.update(torch.sigmoid(logits), torch.where(weight > 0, (coverage >= 0.5).long(), IGNORED))

    def held_out_scores(self) -> dict[str, float]:
        """Return dice, jaccard and loss, and begin anew."""
        scores = {name: float(value) for name, value in self.mask_scores.compute().items()}
        scores["loss"] = float(self.mean_loss.compute())
        self.mask_scores.reset()
        self.mean_loss.reset()
        return scores


def _truth(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return coverage 0..1 and weight 0 or 1, float [N, 1, h, w]."""
    return batch["coverage"][:, None].float() / 255, batch["weight"][:, None].float()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train segmenter`."""
    add_options(parser, SegmenterOptions)


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; return the exit code. Raises AerialError."""
    from aerial_train.scenes.backgrounds import Backgrounds
    from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

    options = options_from(args, SegmenterOptions)
    config = network_config(options)
    if options.frame_size < 16:
        raise UsageError(f"--frame-size must be at least 16 pixels, is {options.frame_size}")
    space = load_label_space(options.label_space)
    if options.recipe not in FRAME_RECIPES:
        raise UsageError(f"--recipe {options.recipe!r} is none of {', '.join(FRAME_RECIPES)}")
    backgrounds = Backgrounds(options.backgrounds_dir)
    backgrounds.preload()
    scenes = FrameScenes(space, FRAME_RECIPES[options.recipe], backgrounds, options.seed, config.output_stride)
    scenes = scenes.with_size(options.frame_size, options.frame_size)
    held_out = scenes.with_seed(options.seed + HELD_OUT_SEED_OFFSET)
    return train_segmenter(options, scenes, held_out, resume=args.resume)


def network_config(options: SegmenterOptions) -> UNetConfig:
    """Return the network's configuration. Raises UsageError for what cannot be built."""
    names = ("filters", "convs", "stem", "skip", "up", "output_stride")
    changes: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name)}
    if "stem" in changes:
        changes.setdefault("output_stride", 0)
    try:
        return unet_config(options.preset, changes)
    except ValueError as error:
        raise UsageError(f"this network cannot be built: {error}") from error


def train_segmenter(options: SegmenterOptions, scenes: Scenes, held_out: Scenes, *, resume: bool = False) -> int:
    """Train on scenes whose batches have images, coverage and weight; return the exit code."""
    prepare(options)
    network = UNet(network_config(options))
    print(f"segmenter {options.name}: {summarise(network, (1, 1088, 1920, 3))} at 1920x1088", flush=True)
    task = SegmenterTask(network, _card(options, network, scenes.label_space), options)
    train = live_loader(scenes, options.batch, options.steps_per_epoch, options.workers)
    return fit(task, train, held_out_loader(held_out, options.batch, options.held_out), resume=resume)


def _card(options: SegmenterOptions, network: UNet, space: LabelSpace) -> ModelCard:
    stride = network.config.output_stride
    inputs, outputs = segmenter_tensors(stride)
    return ModelCard(
        kind="segmenter",
        name=options.name,
        label_space=space,
        inputs=inputs,
        outputs=outputs,
        crop_margin=options.margin,
        stride=stride,
        thresholds=Thresholds(mask=MASK_THRESHOLD),
        training=training_facts(options, network),
    )

"""Train a segmenter: `aerial-train segmenter --name first`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from aerial_runtime.card import LabelSpace, ModelCard, Thresholds, load_label_space
from aerial_runtime.contract import U8
from aerial_runtime.errors import UsageError
from aerial_train.checkpoint import segmenter_tensors
from aerial_train.classifier import ClassifierConfig
from aerial_train.data import FrameData, Split, open_frames
from aerial_train.feed import Batch
from aerial_train.fit import Job, fit, prepare, say_once, training_facts
from aerial_train.mask_losses import mask_loss
from aerial_train.network_summary import summarise
from aerial_train.options import FitOptions, network_changes, option, whole_numbers
from aerial_train.run_options import add_options, options_from
from aerial_train.task import Seen, Task
from aerial_train.transfer import open_start, take_weights
from aerial_train.unet import UNet
from aerial_train.unet_config import PRESETS, UNetConfig
from aerial_train.unetpp import make_unet

IGNORED = -1
MASK_THRESHOLD = 0.2  # of the card: low, since a doubtful cell costs a crop, and the classifier has the last word
SUMMARY_SIZE = (1, 1088, 1920, 3)


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions(FitOptions):
    """What a segmenter's training asks for."""

    epochs: int = option(36, "passes; the learning rate's schedule spans all of them", "length")
    images_per_epoch: int = option(8192, "fresh frames in a pass", "length")
    batch: int = option(32, "frames in a step")
    frame_size: int = option(256, "side of the square training frames, pixels")
    loss: str = option("jaccard+bce", "sum of jaccard, dice, tversky(A,B), bce and focal(G)", "loss",
                       metavar="LOSS")  # fmt: skip

    per_image_loss: bool = option(False, "the mean of each image's own loss, not one of the batch", "loss")

    preset: str = option("default", "network to start from", "preset", choices=tuple(PRESETS))
    filters: tuple[int, ...] = option((), "per level, such as 16-32-64-128", "network", type=whole_numbers,
                                      metavar="F-F-F")  # fmt: skip
    convs: int = option(0, "convolutions per level; 0: the preset's", "network")
    stem: str = option("", "none, patch2, patch4, patch8, conv2, conv4 or conv8; empty: the preset's", "network",
                       metavar="STEM")  # fmt: skip
    skip: str = option("", "concat or add; empty: the preset's", "network", metavar="SKIP")
    up: str = option("", "transpose or nearest; empty: the preset's", "network", metavar="UP")
    output_stride: int = option(0, "pixels per mask cell; 0: the preset's, or the stem's where one is given", "network")

    architecture: str = option("", "unet or unetpp (nested, Zhou et al. 2018)", "network", metavar="NAME")
    padding: str = option("", "zero, or valid: true convolutions, skips cropped to what these leave", "network",
                          metavar="PADDING")  # fmt: skip
    down: str = option("", "max, average or stride: the way to a coarser level", "network", metavar="DOWN")
    kernel: int = option(0, "side of the levels' convolutions, odd", "network")
    activation: str = option("", "relu, silu, mish or leaky_relu", "network", metavar="NAME")
    up_activation: bool | None = option(None, "also behind the convolution that goes up", "network", type=bool)
    dropout: float | None = option(None, "share of channels dropped before each coarser level (0, or that of --init)",
                                   "network", type=float, metavar="X")  # fmt: skip
    deep_supervision: bool | None = option(None, "of a unetpp: in training every column answers", "network", type=bool)

    @classmethod
    def recipes(cls) -> dict[str, dict[str, Any]]:
        """Return the options that each recipe sets."""
        return {
            "flight": {},
            # The published protocol's frames, masks at full resolution. The published UNet's first level is as fine as
            # the pixels; half as fine, four logits a cell, needs a fifth of the multiplications (LOG.md).
            "r256": {
                "frame_size": 256, "preset": "textbook", "filters": (16, 32, 64, 128), "stem": "patch2",
                "output_stride": 1, "loss": "jaccard", "batch": 16, "epochs": 20, "images_per_epoch": 2048,
                "optimizer": "muon", "schedule": "cosine", "warm_up": 0.02,
            },
        }  # fmt: skip


class SegmenterTask(Task):
    """Frames and coverage of cells -> UNet."""

    best_by = "jaccard"

    def __init__(self, network: UNet, criterion: nn.Module, card: ModelCard, options: SegmenterOptions) -> None:
        super().__init__(network, criterion, card, options)
        self.segmenter_options = options
        self.mask_scores = MetricCollection(
            {"dice": BinaryF1Score(ignore_index=IGNORED), "jaccard": BinaryJaccardIndex(ignore_index=IGNORED)}
        )
        self.mean_loss = MeanMetric()

    @property
    def images_shape(self) -> tuple[int, int, int, int]:
        """Frames of a step on one device, [N, H, W, 3]."""
        side = self.segmenter_options.frame_size
        return self.options.batch // self.options.world_size, side, side, 3

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        loss: Tensor = self.criterion(self.network(batch["images"]), *_truth(batch))
        return loss

    def look(self, batch: Batch) -> Seen:
        """Score a batch; a cell counts as target from half coverage on. A frame's error is its share of wrong cells."""
        logits = self.network(batch["images"])
        coverage, weight = _truth(batch)
        self.mean_loss.update(self.criterion(logits, coverage, weight))
        probability = torch.sigmoid(logits)
        self.mask_scores.update(probability, torch.where(weight > 0, (coverage >= 0.5).long(), IGNORED))
        return Seen(((probability - coverage).abs() * weight).mean(dim=(1, 2, 3)), probability)

    def held_out_scores(self) -> dict[str, float]:
        """Return dice, jaccard and loss."""
        scores = {name: float(value) for name, value in self.mask_scores.compute().items()}
        return scores | {"loss": float(self.mean_loss.compute())}

    def picture(self, batch: Batch, seen: Seen, index: int) -> U8:
        """Return a frame, its truth and its map side by side, BGR."""
        image = batch["images"][index].cpu().numpy()
        size = image.shape[1], image.shape[0]
        maps = (batch["coverage"][index], seen.outputs[index, 0].float() * 255)
        grey = [cv2.resize(m.cpu().numpy().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in maps]
        return np.asarray(np.hstack((image, *(cv2.cvtColor(m, cv2.COLOR_GRAY2BGR) for m in grey))), np.uint8)


def _truth(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return coverage 0..1 and weight 0 or 1, float [N, 1, h, w]."""
    return batch["coverage"][:, None].float() / 255, batch["weight"][:, None].float()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train segmenter`."""
    add_options(parser, SegmenterOptions)


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; return the exit code. Raises AerialError."""
    options = options_from(args, SegmenterOptions)
    return fit(segmenter_job(options), resume=args.resume)


def segmenter_job(options: SegmenterOptions) -> Job:
    """Return task and data as the options say. Raises AerialError for what cannot be, before any data is made."""
    space = load_label_space(options.label_space)
    task = segmenter_task(options, space)

    def frames(text: str, split: Split) -> FrameData:
        return open_frames(
            text,
            space=space,
            split=split,
            recipe=options.recipe,
            backgrounds=options.backgrounds_dir,
            seed=options.seed,
            size=(options.frame_size, options.frame_size),
            stride=task.card.stride or 1,
        )

    train, held_out = frames(options.data, "train"), frames(options.held_out_data or options.data, "val")
    train.preload()  # before the workers are forked, which then share what was read
    return Job(task, train, held_out)


def segmenter_task(options: SegmenterOptions, space: LabelSpace) -> SegmenterTask:
    """Return an untrained network, or that of --init, with its loss and card. Raises UsageError, ModelError."""
    if options.frame_size < 16:
        raise UsageError(f"--frame-size must be at least 16 pixels, is {options.frame_size}")
    prepare(options)
    try:
        criterion = mask_loss(options.loss, options.per_image_loss)
    except ValueError as error:
        raise UsageError(f"--loss {options.loss!r}: {error}") from error
    start = open_start(options, space, "segmenter")
    network = make_unet(network_config(options, start.network.config if start else None))
    if start is not None:
        take_weights(network, start, options)
    say_once(f"segmenter {options.name}: {summarise(network, SUMMARY_SIZE)} at 1920x1088")
    return SegmenterTask(network, criterion, _card(options, network, space), options)


def network_config(options: SegmenterOptions, base: UNetConfig | ClassifierConfig | None = None) -> UNetConfig:
    """Return the network's configuration: `base`, or the preset, with what the options change. Raises UsageError."""
    changes = network_changes(options)
    if "stem" in changes:
        changes.setdefault("output_stride", 0)
    preset = PRESETS[options.preset]
    try:
        config = replace(base if isinstance(base, UNetConfig) else preset, **changes)
        if options.preset != "default" and config != replace(preset, **changes):
            raise UsageError(f"the network of --init is not that of --preset {options.preset}; leave --preset out")
    except ValueError as error:
        raise UsageError(f"this network cannot be built: {error}") from error
    return config


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
        training=training_facts(options),
    )

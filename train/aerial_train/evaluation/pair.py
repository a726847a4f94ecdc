"""Both models of a pipeline, asked for all they know; what flies is a part of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from aerial_runtime.backends.base import Backend
from aerial_runtime.bundle import SUFFIX, Bundle
from aerial_runtime.classify import EVERY_HEAD, Classifier
from aerial_runtime.config import CLASSIFIER_FILE, SEGMENTER_FILE, SHIPPED_MODELS
from aerial_runtime.contract import U8, Attribute, Frame, Target
from aerial_runtime.pipeline import DetectOptions, Pipeline
from aerial_runtime.segment import Segmenter
from aerial_train.torch_backend import open_model

EVERYTHING: Final = DetectOptions(conf=0.0, abstain={EVERY_HEAD: 0.0})


class Pair:
    """A segmenter and a classifier, which stay the caller's to close.

    mask_threshold, conf, abstain: the cards' thresholds: probability from which a cell belongs to a candidate,
    confidence from which a candidate is a target, and that under which a label of a head, or of the heading, is
    withheld. classify: gives every candidate and every label.
    """

    def __init__(self, segmenter: Backend, classifier: Backend, mask_threshold: float | None = None) -> None:
        """mask_threshold: None = the card's. Raises ModelError where the two do not belong together."""
        self.models = {"segmenter": segmenter, "classifier": classifier}
        self.label_space = classifier.card.label_space
        self.margin = classifier.card.crop_margin
        self.conf, self.abstain = classifier.card.thresholds.target, Pipeline(segmenter, classifier).abstain
        self.mask_threshold = segmenter.card.thresholds.mask if mask_threshold is None else mask_threshold
        self.segment = Segmenter(segmenter, mask_threshold=mask_threshold)
        self.classify = Classifier(classifier, EVERYTHING.conf, EVERYTHING.abstain)
        self._pipeline = Pipeline(segmenter, classifier, options=replace(EVERYTHING, mask_threshold=mask_threshold))

    def with_mask(self, threshold: float) -> Pair:
        """Return the same models with another threshold of the mask."""
        return Pair(self.models["segmenter"], self.models["classifier"], threshold)

    def see(self, image_bgr: U8, name: str) -> list[Target]:
        """Return every candidate of a frame, uint8 [H, W, 3], with every label. Raises ModelError."""
        return self._pipeline(Frame(image_bgr, name, 0, 0, 0)).targets

    def fly(self, seen: Sequence[Target]) -> list[Target]:
        """Return what a flight reports of it: without what the classifier rejects and the labels it withholds."""
        return [
            msgspec.structs.replace(
                target, attributes={name: self._given(name, answer) for name, answer in target.attributes.items()}
            )
            for target in seen
            if target.confidence >= self.conf
        ]

    def gives(self, name: str, answer: Attribute) -> bool:
        """Tell whether a flight reports the label of a head or of the heading."""
        return answer.confidence >= self.abstain[name]

    def _given(self, name: str, answer: Attribute) -> Attribute:
        return answer if self.gives(name, answer) else msgspec.structs.replace(answer, label=None)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name both models."""
    add = parser.add_argument
    add("--models", type=Path, default=SHIPPED_MODELS, metavar="FILE.aerial", help="bundle of both models, or a "
        "folder with segmenter.onnx and classifier.onnx (the shipped bundle)")  # fmt: skip
    add("--segmenter", type=Path, metavar="FILE", help="segmenter: a checkpoint, ONNX file or engine (of --models)")
    add("--classifier", type=Path, metavar="FILE", help="classifier: the same (of --models)")


@contextmanager
def open_pair(args: argparse.Namespace) -> Iterator[Pair]:
    """Open both models until the block ends. Raises ModelError, InputError, ResourceError."""
    given = (args.segmenter, args.classifier)
    bundled = args.models.suffix == SUFFIX and None in given
    with ExitStack() as stack:
        with Bundle(args.models).unpacked() if bundled else nullcontext(args.models) as folder:
            segmenter, classifier = (
                stack.enter_context(open_model(path or folder / name, args.device, args.threads))
                for path, name in zip(given, (SEGMENTER_FILE, CLASSIFIER_FILE), strict=True)
            )
        yield Pair(segmenter, classifier)

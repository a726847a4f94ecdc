"""The pure heart: a frame in, targets out, without camera, socket or files."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from aerial_runtime.backends import Backend
from aerial_runtime.card import LabelSpace
from aerial_runtime.classify import Classifier
from aerial_runtime.contract import Box, Frame, Target
from aerial_runtime.errors import ModelError
from aerial_runtime.segment import MAX_CANDIDATES, Candidate, Segmenter

WARM_UP_SIDE_PX = 256


@dataclass(frozen=True)
class PipelineResult:
    """What one frame held. candidates: classified; cut: not classified, being too many. Times in milliseconds."""

    targets: list[Target]
    candidates: int
    cut: int
    segment_ms: float
    classify_ms: float
    total_ms: float


class Pipeline:
    """Segmenter and classifier as one."""

    def __init__(
        self,
        segmenter: Backend,
        classifier: Backend,
        *,
        conf: float | None = None,
        max_candidates: int = MAX_CANDIDATES,
    ) -> None:
        """Join two loaded models, which stay the caller's to close.

        conf: see `Classifier`. Raises ModelError where a model is of the wrong kind or the two do not belong together.
        """
        self._segment = Segmenter(segmenter, max_candidates)
        self._classify = Classifier(classifier, conf)
        _check_pair(segmenter, classifier)
        self.label_space = classifier.card.label_space
        self.models = {"segmenter": segmenter.sha256, "classifier": classifier.sha256}
        self.provider = " + ".join(sorted({segmenter.provider, classifier.provider}))

    def __call__(self, frame: Frame) -> PipelineResult:
        """Find and read the targets in one frame. Raises ModelError for what a model computes."""
        start_ns = time.monotonic_ns()
        segmentation = self._segment(frame.image_bgr)
        segmented_ns = time.monotonic_ns()
        targets = self._classify(frame.image_bgr, segmentation.candidates)
        end_ns = time.monotonic_ns()
        return PipelineResult(
            targets,
            candidates=len(segmentation.candidates),
            cut=segmentation.cut,
            segment_ms=(segmented_ns - start_ns) / 1e6,
            classify_ms=(end_ns - segmented_ns) / 1e6,
            total_ms=(end_ns - start_ns) / 1e6,
        )

    def warm_up(self) -> None:
        """Run both models once on a black frame, so that the first real one is not the slow one."""
        _, *sides, _ = self._segment.backend.card.inputs[0].shape
        height, width = (side if isinstance(side, int) else WARM_UP_SIDE_PX for side in sides)  # an engine has its own
        image_bgr = np.zeros((height, width, 3), np.uint8)
        self._segment(image_bgr)
        self._classify(image_bgr, [Candidate(Box(0, 0, width, height), width * height)])


def _check_pair(segmenter: Backend, classifier: Backend) -> None:
    """Raise ModelError naming what differs between two models that must have been made for each other."""
    ours, theirs = segmenter.card, classifier.card
    both = f"{segmenter.name} and {classifier.name} do not belong together:"
    if ours.crop_margin != theirs.crop_margin:
        raise ModelError(
            f"{both} their crop margins are {ours.crop_margin:g} and {theirs.crop_margin:g}; "
            "give two models of one training"
        )
    if ours.label_space != theirs.label_space:
        difference = _difference(ours.label_space, theirs.label_space)
        raise ModelError(f"{both} {difference} differ; give two models of one label space")


def _difference(ours: LabelSpace, theirs: LabelSpace) -> str:
    """Name the first thing in which two label spaces differ."""
    if ours.name != theirs.name:
        return f"the label spaces {ours.name!r} and {theirs.name!r}"
    our_heads, their_heads = ([head.name for head in space.heads] for space in (ours, theirs))
    if our_heads != their_heads:
        return f"the heads {our_heads} and {their_heads} of the label spaces"
    for our_head, their_head in zip(ours.heads, theirs.heads, strict=True):
        if our_head != their_head:
            return f"the classes of the head {our_head.name!r} in the label spaces"
    return "the headings of the label spaces"

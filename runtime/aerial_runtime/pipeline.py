"""The pure heart: a frame in, targets out, without camera, socket or files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from aerial_runtime.backends import Backend
from aerial_runtime.card import LabelSpace
from aerial_runtime.classify import Classifier
from aerial_runtime.contract import F32, Box, Frame, Target
from aerial_runtime.errors import ModelError, UsageError
from aerial_runtime.segment import MAX_CANDIDATES, Candidate, Segmenter
from aerial_runtime.tile import OVERLAP_PX

WARM_UP_SIDE_PX = 256


@dataclass(frozen=True)
class PipelineResult:
    """What one frame held. candidates: classified; cut: not classified, being too many. Times in milliseconds.

    probabilities: head, or "heading" -> float32 [targets, classes]: what the labels were chosen from, 300 bytes a
    target, for who joins several frames.
    """

    targets: list[Target]
    candidates: int
    cut: int
    segment_ms: float
    classify_ms: float
    total_ms: float
    probabilities: Mapping[str, F32] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class DetectOptions:
    """What a flight may ask of the detection; None: as the models' cards say.

    conf: confidence from which a candidate is a target. mask_threshold: probability from which a cell belongs to one.
    abstain: head name, or EVERY_HEAD -> confidence under which its label is withheld. All 0..1.
    max_candidates: read per frame. min_size_px, max_size_px: of a candidate's box, the longer side.
    tile: (width, height) in pixels of what the segmenter is given at once; None: whole frames. overlap_px: of tiles.
    """

    conf: float | None = None
    mask_threshold: float | None = None
    abstain: Mapping[str, float] = field(default_factory=dict)
    max_candidates: int = MAX_CANDIDATES
    min_size_px: int = 0
    max_size_px: int | None = None
    tile: tuple[int, int] | None = None
    overlap_px: int = OVERLAP_PX

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that cannot be."""
        shares = {"conf": self.conf, "mask-threshold": self.mask_threshold}
        shares |= {f"abstain {head}": share for head, share in self.abstain.items()}
        for name, share in shares.items():
            if share is not None and not 0 <= share <= 1:  # NaN neither
                raise UsageError(f"--{name} cannot be {share:g}; give a number within 0..1")
        if self.max_candidates < 1:
            raise UsageError(f"--max-candidates cannot be {self.max_candidates}; give at least 1")
        if self.min_size_px < 0:
            raise UsageError(f"--min-size cannot be {self.min_size_px}; give pixels, 0 or more")
        if self.max_size_px is not None and self.max_size_px < max(1, self.min_size_px):
            raise UsageError(
                f"--max-size cannot be {self.max_size_px} beside a --min-size of {self.min_size_px}; give more pixels"
            )


class Pipeline:
    """Segmenter and classifier as one."""

    def __init__(self, segmenter: Backend, classifier: Backend, *, options: DetectOptions | None = None) -> None:
        """Join two loaded models, which stay the caller's to close.

        Raises ModelError where a model is of the wrong kind or the two do not belong together, UsageError for options
        that do not fit the models.
        """
        options = options or DetectOptions()
        self._segment = Segmenter(
            segmenter,
            options.max_candidates,
            mask_threshold=options.mask_threshold,
            min_size_px=options.min_size_px,
            max_size_px=options.max_size_px,
            tile=options.tile,
            overlap_px=options.overlap_px,
        )
        self._classify = Classifier(classifier, options.conf, options.abstain)
        _check_pair(segmenter, classifier)
        self.label_space = classifier.card.label_space
        self.abstain = self._classify.abstain
        self.crop_margin = classifier.card.crop_margin
        self.cards = {"segmenter": segmenter.card, "classifier": classifier.card}
        self.models = {"segmenter": segmenter.sha256, "classifier": classifier.sha256}
        self.provider = " + ".join(sorted({segmenter.provider, classifier.provider}))

    def __call__(self, frame: Frame) -> PipelineResult:
        """Find and read the targets in one frame. Raises ModelError for what a model computes."""
        start_ns = time.monotonic_ns()
        segmentation = self._segment(frame.image_bgr)
        segmented_ns = time.monotonic_ns()
        reframe = partial(self._segment.reframe, frame.image_bgr, segmentation)
        targets = self._classify(frame.image_bgr, segmentation.candidates, reframe)
        end_ns = time.monotonic_ns()
        return PipelineResult(
            targets,
            candidates=len(segmentation.candidates),
            cut=segmentation.cut,
            segment_ms=(segmented_ns - start_ns) / 1e6,
            classify_ms=(end_ns - segmented_ns) / 1e6,
            total_ms=(end_ns - start_ns) / 1e6,
            probabilities=self._classify.probabilities,
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

"""Model and data -> what the model said beside what is true, of the whole set. Pictures are not kept: data gives
sample `index` again whenever a report wants to show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_runtime.backends.base import Backend
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError
from aerial_runtime.views import answers
from aerial_train.data import CropData, FrameData
from aerial_train.data.progress import progress
from aerial_train.scenes.frames import LabelledTarget, mask_to_cells

EPOCH: Final = -1  # of all evaluations: the one that training's held-out set is drawn from
CROPS_AT_ONCE: Final = 128

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FrameOutcome:
    """One frame. probability, coverage, weight: uint8 [ceil(H/s), ceil(W/s)]: the model's map, the share of each cell
    that is target, and 0 where nobody knows. complete: False where not every target is labelled."""

    index: int
    name: str
    width: int
    height: int
    probability: U8
    coverage: U8
    weight: U8
    targets: tuple[LabelledTarget, ...]
    complete: bool


@dataclass(frozen=True)
class CropOutcomes:
    """N crops. probabilities: head -> float [N, K]; target: float [N]; heading, true_heading: float [N, 2] (zeros where
    the model has no heading, or the truth is unknown); labels: head -> int64 [N], negative = not scored (crops that are
    no targets among them); source_px: float [N]; names, indices: of each crop in its data. letters: float [N, 2]:
    height in the crop and contrast of drawn letters, zeros elsewhere; None where nobody asked."""

    probabilities: dict[str, Floats]
    target: Floats
    heading: Floats
    is_target: Bools
    labels: dict[str, Ints]
    true_heading: Floats
    source_px: Floats
    names: list[str]
    indices: list[int]
    letters: Floats | None = None


def gather_frames(backend: Backend, data: FrameData, count: int) -> Iterator[FrameOutcome]:
    """Run the segmenter over the first `count` frames. Raises InputError, ModelError."""
    stride = backend.card.stride or 1
    with progress("evaluated", count) as show:
        for index in range(count):
            sample = data.sample(EPOCH, index)
            probability = backend.infer(np.ascontiguousarray(sample.image_bgr)[np.newaxis])["probability"][0].copy()
            coverage, weight = mask_to_cells(sample, stride)
            if probability.shape != coverage.shape:
                raise InputError(
                    f"{backend.name} made a map of {list(probability.shape)} from {sample.name}, which has "
                    f"{list(coverage.shape)} cells of {stride} px; export the model again"
                )
            height, width = sample.image_bgr.shape[:2]
            yield FrameOutcome(
                index, sample.name, width, height, probability, coverage, weight, sample.targets, sample.complete
            )
            show(index + 1)


def gather_crops(backend: Backend, data: CropData, count: int) -> CropOutcomes:
    """Run the classifier over the first `count` crops. Raises InputError, ModelError."""
    space = backend.card.label_space
    heads = [head.name for head in space.heads]
    outputs: dict[str, list[Floats]] = {name: [] for name in (*heads, "target", "heading")}
    samples: list[tuple[bool, list[int], Floats, float, str, tuple[float, float]]] = []
    with progress("evaluated", count) as show:
        for start in range(0, count, CROPS_AT_ONCE):
            batch = [data.sample(EPOCH, index) for index in range(start, min(count, start + CROPS_AT_ONCE))]
            said = answers(backend, np.stack([sample.image_bgr for sample in batch]))
            for name in outputs:
                outputs[name].append(said[name].copy() if name in said else np.zeros((len(batch), 2), np.float32))
            samples += [
                (
                    bool(s.is_target),
                    [s.labels[name] for name in heads],
                    s.heading,
                    s.source_px,
                    s.name,
                    (s.letter_px, s.letter_levels),
                )
                for s in batch
            ]
            show(len(samples))
    joined = {name: np.concatenate(parts) for name, parts in outputs.items()}
    is_target, labels, headings, sizes, names, letters = zip(*samples, strict=True)
    real = np.array(is_target)
    return CropOutcomes(
        probabilities={name: joined[name] for name in heads},
        target=joined["target"][:, 0],
        heading=joined["heading"],
        is_target=real,
        labels={name: np.where(real, column, -1) for name, column in zip(heads, np.array(labels).T, strict=True)},
        true_heading=np.array(headings, np.float32) * real[:, None],
        source_px=np.array(sizes, np.float64),
        names=list(names),
        indices=list(range(count)),
        letters=np.array(letters, np.float64),
    )

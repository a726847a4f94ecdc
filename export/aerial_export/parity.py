"""The gate: does a model file compute what its reference computed? Free of torch and onnx: it runs on the aircraft.

Outputs are compared as numbers and as what they are for: masks as areas and as targets found, heads as labels.
A negative control goes first: the answers of a model with perturbed weights must fail, or passing proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_export.goldens import Golden, GoldenSet
from aerial_runtime.backends import Backend
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import ModelCard, Precision
from aerial_runtime.contract import U8, Target
from aerial_runtime.errors import CheckError
from aerial_runtime.score import match_targets
from aerial_runtime.segment import Segmenter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """By how much a file may differ from its reference."""

    mask_levels: int  # grey levels of 255 by which a cell may differ ...
    mask_cells: float  # ... on this share of the cells of every input
    mask_iou: float  # least, of the masks at the card's threshold, over all inputs
    recall: float  # by which the share of the scenes' targets that is found may differ
    head_error: float  # largest, of a probability or the heading
    head_mean_error: float
    labels: float  # least share of equal labels, all heads together, on the scenes' crops


LIMITS: Final[Mapping[Precision, Limits]] = {
    "fp32": Limits(2, 0.999, 0.998, 0.0, 1e-3, 1e-4, 0.999),
    "fp16": Limits(6, 0.999, 0.98, 0.01, 2e-2, 1e-3, 0.999),
}


@dataclass(frozen=True)
class OutputReport:
    """How far one output is off.

    cells: least share of a mask's cells within the limit, of any input. alike: share of all cells that are target in
    both or in neither. iou: of all masks. recall, reference_recall: share of `targets` targets that the masks find.
    compared, agreeing: labels; the heading has none.
    """

    output: str
    max_error: float
    mean_error: float
    cells: float | None = None
    alike: float | None = None
    iou: float | None = None
    targets: int = 0
    recall: float = 1.0
    reference_recall: float = 1.0
    compared: int = 0
    agreeing: int = 0


@dataclass
class ParityReport:
    """What was compared, how it came out, and what lies outside the limits."""

    file: str
    precision: Precision
    provider: str
    inputs: int
    outputs: list[OutputReport] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Labels, all heads together."""
        return sum(output.compared for output in self.outputs)

    @property
    def agreeing(self) -> int:
        """Labels that are the same, all heads together."""
        return sum(output.agreeing for output in self.outputs)

    @property
    def verdict(self) -> str:
        """The first thing outside the limits, and how many more there are."""
        if not self.failures:
            return "within the limits"
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return f"outside the limits: {self.failures[0]}{more}"

    def require(self, reference: str) -> None:
        """Raise CheckError where anything is outside the limits."""
        if self.failures:
            raise CheckError(f"{self.file} compared with {reference} is {self.verdict}; do not fly it")


def check_parity(backend: Backend, goldens: GoldenSet, precision: Precision) -> ParityReport:
    """Run a model file on every golden and judge it by the limits of its precision."""
    answers = []
    for golden in goldens.inputs:
        outputs = backend.infer(np.ascontiguousarray(golden.images))
        answers.append({name: values.copy() for name, values in outputs.items()})  # the next call may reuse them
    report = ParityReport(backend.name, precision, backend.provider, len(goldens.inputs))
    _judge(report, backend.card, goldens.inputs, answers)
    return report


def check_control(card: ModelCard, goldens: GoldenSet, precision: Precision) -> ParityReport:
    """Return the report of the perturbed model's answers. Raises CheckError unless they are outside the limits."""
    report = ParityReport("perturbed weights", precision, "", len(goldens.inputs))
    _judge(report, card, goldens.inputs, [golden.control for golden in goldens.inputs])
    if not report.failures:
        raise CheckError(
            f"the check of {card.name} proves nothing: a model with perturbed weights passes it too, "
            f"so nearly the same are the answers of both to every input; train the model further"
        )
    return report


def _judge(
    report: ParityReport, card: ModelCard, goldens: Sequence[Golden], answers: Sequence[Mapping[str, Array]]
) -> None:
    """Fill a report with how `answers` differ from those of the goldens."""
    for spec in card.outputs:
        pairs = [(golden, _fitting(spec.name, golden, answer)) for golden, answer in zip(goldens, answers, strict=True)]
        if card.kind == "segmenter":
            report.outputs.append(_judge_mask(report, card, spec.name, pairs))
        else:
            report.outputs.append(_judge_head(report, card, spec.name, pairs))
    least = LIMITS[report.precision].labels
    if report.agreeing < least * report.compared:
        report.failures.append(
            f"{report.agreeing} of {report.compared} labels are the same, at least {100 * least:g} % must be"
        )


def _fitting(name: str, golden: Golden, answer: Mapping[str, Array]) -> Array:
    seen, right = answer[name], golden.answer[name]
    if seen.shape != right.shape or seen.dtype != right.dtype:
        raise CheckError(
            f"the output {name} for the input {golden.name!r} is {seen.dtype} {list(seen.shape)}, "
            f"must be {right.dtype} {list(right.shape)}; do not fly this model"
        )
    return seen


def _judge_mask(
    report: ParityReport, card: ModelCard, name: str, pairs: Sequence[tuple[Golden, Array]]
) -> OutputReport:
    limits = LIMITS[report.precision]
    level = card.thresholds.mask * 255
    errors, both, either, found, expected, targets = [], 0, 0, 0, 0, 0
    least_cells, worst = 1.0, ""
    for golden, seen in pairs:
        right = golden.answer[name]
        error = np.abs(seen.astype(np.int16) - right.astype(np.int16))
        errors.append(error.ravel())
        least_cells, worst = min((least_cells, worst), (float((error <= limits.mask_levels).mean()), golden.name))
        both += int(np.count_nonzero((seen >= level) & (right >= level)))
        either += int(np.count_nonzero((seen >= level) | (right >= level)))
        targets += sum(label.scored for label in golden.truth)
        found += _found(card, golden, seen)
        expected += _found(card, golden, right)
    if least_cells < limits.mask_cells:
        report.failures.append(
            f"{100 * least_cells:.2f} % of the cells of {name} for the input {worst!r} are within "
            f"{limits.mask_levels} levels, at least {100 * limits.mask_cells:g} % must be"
        )
    iou = both / either if either else 1.0
    error = np.concatenate(errors)
    alike = 1 - (either - both) / error.size
    if iou < limits.mask_iou:
        report.failures.append(f"the masks' IoU is {iou:.4f}, must be at least {limits.mask_iou:g}")
    if targets and abs(found - expected) > limits.recall * targets:
        report.failures.append(
            f"it finds {found} of {targets} targets, the reference {expected}; the recall may differ by "
            f"{100 * limits.recall:g} %"
        )
    recall, reference_recall = (count / targets if targets else 1.0 for count in (found, expected))
    return OutputReport(
        name, float(error.max()), float(error.mean()), cells=least_cells, alike=alike, iou=iou,
        targets=targets, recall=recall, reference_recall=reference_recall,
    )  # fmt: skip


def _found(card: ModelCard, golden: Golden, probability: U8) -> int:
    """Return how many of a scene's targets a map finds, by the components that the flight would make of it."""
    if not golden.truth:
        return 0
    frame = golden.images[0]
    candidates = Segmenter(FakeBackend(card, lambda _: {"probability": probability}))(frame).candidates
    targets = [Target(candidate.box, candidate.area_px, 1.0, {}) for candidate in candidates]
    return len(match_targets(golden.truth, targets))


def _judge_head(
    report: ParityReport, card: ModelCard, name: str, pairs: Sequence[tuple[Golden, Array]]
) -> OutputReport:
    limits = LIMITS[report.precision]
    errors, compared, agreeing = [], 0, 0
    for golden, seen in pairs:
        right = golden.answer[name]
        errors.append(np.abs(seen - right).ravel())
        if golden.is_scene and name != "heading":
            compared += len(right)
            agreeing += int(np.count_nonzero(labels(card, name, seen) == labels(card, name, right)))
    worst = max(range(len(pairs)), key=lambda index: float(errors[index].max()))
    error = np.concatenate(errors)
    if error.max() > limits.head_error:
        report.failures.append(
            f"{name} is off by {error.max():.2g} for the input {pairs[worst][0].name!r}, "
            f"at most {limits.head_error:g} may be"
        )
    if error.mean() > limits.head_mean_error:
        report.failures.append(
            f"{name} is off by {error.mean():.2g} on average, at most {limits.head_mean_error:g} may be"
        )
    return OutputReport(name, float(error.max()), float(error.mean()), compared=compared, agreeing=agreeing)


def labels(card: ModelCard, name: str, probabilities: Array) -> Array:
    """Return the class numbers [N] of a head [N, K]; of `target` [N, 1], whether each crop is one."""
    if name == "target":
        return np.asarray(probabilities[:, 0] >= card.thresholds.target)
    return np.asarray(probabilities.argmax(axis=1))

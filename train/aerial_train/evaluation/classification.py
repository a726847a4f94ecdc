"""How good the heads of a classifier are: from probabilities and labels of a whole set to scores. Pure NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_train.evaluation.significance import auroc, correlation, rank_correlation, wilson

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ERRORS: Final = (0.01, 0.02, 0.05)  # among the answers that are given


@dataclass(frozen=True)
class ClassScore:
    """One class against all others. jaccard: TP / (TP + FN + FP). mcc: Matthews' coefficient, -1..1.

    0 stands where a ratio has nothing below its line (never predicted: precision 0).
    """

    name: str
    support: int
    predicted: int
    accuracy: float
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    specificity: float
    f1: float
    mcc: float
    jaccard: float


@dataclass(frozen=True)
class Coverage:
    """What is still answered where the answers that are given may be wrong in a share `error` of all cases.

    threshold: confidence from which on to answer; 1 and a coverage of 0 where no threshold keeps to the error.
    """

    error: float
    coverage: float
    threshold: float


@dataclass(frozen=True)
class HeadScore:
    """One head. confusion: rows are the truth, columns the answers. macro: means over the classes that occur.

    majority: the accuracy of always answering the most frequent class; majority_f1: its macro F1.
    frequency_r, frequency_rank_r: Pearson's and Spearman's correlation of the classes' log support with their F1.
    """

    name: str
    count: int
    accuracy: float
    low: float
    high: float
    majority: float
    majority_class: str
    majority_f1: float
    mcc: float
    macro: dict[str, float]
    micro: dict[str, float]
    classes: list[ClassScore]
    confusion: list[list[int]]
    coverage: list[Coverage]
    frequency_r: float | None
    frequency_rank_r: float | None


MEANS: Final = ("precision", "recall", "specificity", "f1", "mcc", "jaccard")


def score_head(name: str, classes: Sequence[str], probabilities: Floats, labels: Ints) -> HeadScore | None:
    """Score one head. probabilities: [N, K]; labels: int64 [N], negative = not scored. None where no label is."""
    known = labels >= 0
    if not known.any():
        return None
    truth, given = labels[known], probabilities[known]
    answers = given.argmax(axis=1)
    confusion = confusion_matrix(truth, answers, len(classes))
    scores = [_class_score(label, confusion, index) for index, label in enumerate(classes)]
    met = [score for score in scores if score.support]
    right, count = int(np.trace(confusion)), len(truth)
    low, high = wilson(right, count)
    support = np.array([score.support for score in met])
    f1 = np.array([score.f1 for score in met])
    most = int(confusion.sum(axis=1).argmax())
    majority = int(confusion[most].sum()) / count
    return HeadScore(
        name=name,
        count=count,
        accuracy=right / count,
        low=low,
        high=high,
        majority=majority,
        majority_class=classes[most],
        majority_f1=2 * majority / (1 + majority) / len(met),
        mcc=multiclass_mcc(confusion),
        macro={mean: float(np.mean([getattr(score, mean) for score in met])) for mean in MEANS},
        micro=_micro(right, count, len(classes)),
        classes=scores,
        confusion=confusion.tolist(),
        coverage=[coverage_at(given.max(axis=1), answers == truth, error) for error in ERRORS],
        frequency_r=correlation(np.log(support), f1),
        frequency_rank_r=rank_correlation(support, f1),
    )


def confusion_matrix(truth: Ints, answers: Ints, classes: int) -> Ints:
    """Return counts, int64 [K, K]: row = truth, column = answer."""
    return np.bincount(truth * classes + answers, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def multiclass_mcc(confusion: Ints) -> float:
    """Return Matthews' coefficient of all classes at once (Gorodkin 2004, R_K); 0 where it is not defined."""
    total = float(confusion.sum())
    truth, answers = confusion.sum(axis=1).astype(float), confusion.sum(axis=0).astype(float)
    covariance = np.trace(confusion) * total - truth @ answers
    spread = math.sqrt((total**2 - truth @ truth) * (total**2 - answers @ answers))
    return float(covariance / spread) if spread > 0 else 0.0


def coverage_at(confidence: Floats, right: Bools, error: float) -> Coverage:
    """Return how much can be answered at an error. confidence, right: [N]; equal confidences stay together."""
    if len(confidence) == 0:
        return Coverage(error, 0.0, 1.0)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    answered = np.arange(1, len(order) + 1)
    wrong = np.cumsum(~right[order])
    last_of_ties = np.append(ordered[1:] < ordered[:-1], True)
    good = np.flatnonzero(last_of_ties & (wrong <= error * answered))
    if len(good) == 0:
        return Coverage(error, 0.0, 1.0)
    return Coverage(error, float(answered[good[-1]] / len(order)), float(ordered[good[-1]]))


def risk_coverage(confidence: Floats, right: Bools) -> tuple[Floats, Floats]:
    """Return coverage and error among the answers, float [N] each, as ever less sure answers are given."""
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(~right[order]) / answered


@dataclass(frozen=True)
class TargetScore:
    """Whether a crop holds a target. At `threshold`: accuracy, precision, recall. base: share of targets.

    majority: the accuracy of always saying the more frequent of both.
    """

    count: int
    base: float
    threshold: float
    accuracy: float
    low: float
    high: float
    majority: float
    precision: float
    recall: float
    auroc: float | None
    average_precision: float | None


def score_target(probability: Floats, is_target: Bools, threshold: float) -> TargetScore:
    """Score the `target` head. probability, is_target: [N]."""
    said = probability >= threshold
    hits, count = int((said & is_target).sum()), len(is_target)
    right = int((said == is_target).sum())
    base = float(is_target.mean())
    low, high = wilson(right, count)
    precision, recall, _ = precision_recall(probability, is_target)
    both = 0 < base < 1
    return TargetScore(
        count=count,
        base=base,
        threshold=threshold,
        accuracy=right / count,
        low=low,
        high=high,
        majority=max(base, 1 - base),
        precision=_ratio(hits, int(said.sum())),
        recall=_ratio(hits, int(is_target.sum())),
        auroc=auroc(probability, is_target),
        average_precision=float(np.sum(np.diff(recall, prepend=0.0) * precision)) if both else None,
    )


def precision_recall(scores: Floats, positive: Bools) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and threshold, float [M] each, at every score that occurs, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_ties = np.append(ordered[1:] < ordered[:-1], True)
    hits = np.cumsum(positive[order])[last_of_ties]
    said = np.arange(1, len(order) + 1)[last_of_ties]
    return hits / said, hits / max(1, int(positive.sum())), ordered[last_of_ties]


def best_f(precision: Floats, recall: Floats, thresholds: Floats, beta: float) -> float:
    """Return the threshold of the best F-beta score, the highest of equals: recall counts beta times precision."""
    f = f_score(precision, recall, beta)
    best = np.flatnonzero(f == f.max())
    return float(thresholds[best[np.argmax(thresholds[best])]])


def f_score(precision: Floats, recall: Floats, beta: float) -> Floats:
    """Return the F-beta scores, 0 where nothing is found."""
    weight = beta * beta
    below = weight * precision + recall
    return np.where(below > 0, (1 + weight) * precision * recall / np.maximum(below, 1e-12), 0.0)


def _class_score(name: str, confusion: Ints, index: int) -> ClassScore:
    tp = int(confusion[index, index])
    fn, fp = int(confusion[index].sum()) - tp, int(confusion[:, index].sum()) - tp
    tn = int(confusion.sum()) - tp - fn - fp
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    low, high = wilson(tp, tp + fn)
    return ClassScore(
        name=name,
        support=tp + fn,
        predicted=tp + fp,
        accuracy=_ratio(tp + tn, tp + tn + fp + fn),
        precision=_ratio(tp, tp + fp),
        recall=_ratio(tp, tp + fn),
        recall_low=low,
        recall_high=high,
        specificity=_ratio(tn, tn + fp),
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        mcc=(tp * tn - fp * fn) / below if below else 0.0,
        jaccard=_ratio(tp, tp + fp + fn),
    )


def _micro(right: int, count: int, classes: int) -> dict[str, float]:
    """All classes' counts summed up: each wrong answer is one false negative and one false positive."""
    wrong = count - right
    return {
        "precision": right / count,
        "recall": right / count,
        "specificity": 1 - wrong / (count * (classes - 1)),
        "f1": right / count,
        "jaccard": right / (count + wrong),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
